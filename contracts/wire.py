"""What is refused on the wire, and how large a frame may be."""

FRAME_BYTES_MAX = 256 * 1024
"""Bytes of one whole frame; a larger one is refused before anything of it is parsed."""


class WireError(ValueError):
    """Bytes that are no message, or a message that has no bytes; the text says what is wrong and where."""
