"""The process's end of a sandbox: confined first, then the work's module, which answers jobs with `serve`.

A sandbox runs `python -m actors.tezzeret.worker_side TERMS`, and that runs the module of the terms as
`__main__`, so that even its imports happen within the limits:

    if __name__ == "__main__":
        serve(handle)
"""

import os
import runpy
import sys
from collections.abc import Callable
from typing import TypeAlias

import msgspec

from actors.tezzeret.confinement import Terms, confine
from actors.tezzeret.frames import SMALL_BYTES_MAX, Decoder, Frame, Kind, encode

Tell: TypeAlias = Callable[[bytes], None]
"""Sends progress, up to 64 KiB, to whoever waits for the answer."""
Handle: TypeAlias = Callable[[bytes, bytes, Tell], tuple[bytes, bytes]]
"""Header and body of a job in, header and body of its answer out."""
READ_BYTES = 1 << 16
ERROR_CHARACTERS_MAX = 4000


def serve(handle: Handle) -> None:
    """Answer jobs one after the other until the sandbox closes; an error of the handler is an answer."""
    terms = _terms()
    with os.fdopen(terms.reads, "rb", buffering=0) as jobs:
        decoder = Decoder()
        _send(terms, encode(Frame(Kind.READY, b"")))
        while data := jobs.read(READ_BYTES):
            for job in decoder.feed(data):
                _send(terms, _answered(handle, job, terms))


def _answered(handle: Handle, job: Frame, terms: Terms) -> bytes:
    def tell(progress: bytes) -> None:
        _send(terms, encode(Frame(Kind.PROGRESS, progress)))

    try:
        header, body = handle(job.header, job.body, tell)
        return encode(Frame(Kind.ANSWER, header, body))
    except Exception as error:  # noqa: BLE001 - whatever the work raises is its answer
        return encode(Frame(_kind(error), _in_words(error)))


def _kind(error: Exception) -> Kind:
    """torch has no error class of its own for a failed allocation on the CPU."""
    refused = isinstance(error, MemoryError) or "can't allocate memory" in str(error)
    return Kind.NO_MEMORY if refused else Kind.ERROR


def _in_words(error: Exception) -> bytes:
    text = f"{type(error).__name__}: {error}"[:ERROR_CHARACTERS_MAX]
    return text.encode(errors="replace")[:SMALL_BYTES_MAX]


def _send(terms: Terms, frame: bytes) -> None:
    left = memoryview(frame)
    while left:
        left = left[os.write(terms.writes, left) :]


def _terms() -> Terms:
    return msgspec.json.decode(sys.argv[1], type=Terms)


def main() -> None:
    """Confine this process, greet, and become the module."""
    terms = _terms()
    hello = confine(terms)
    _send(terms, encode(Frame(Kind.HELLO, msgspec.json.encode(hello))))
    if hello.filtered:
        runpy.run_module(terms.module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
