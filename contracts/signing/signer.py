"""Signs what a process says."""

from collections.abc import Callable

from contracts.signing.header import NONCE_BYTES, SENDER
from contracts.signing.keyring import Keyring


class Signer:
    """Signs in one sender's name.

    `random_bytes` gives that many bytes nobody can guess or repeat (`secrets.token_bytes`), `now_ns` the wall
    clock in nanoseconds. `keyring` may be replaced at any time.
    """

    __slots__ = ("_now_ns", "_random_bytes", "keyring", "sender")

    def __init__(
        self,
        keyring: Keyring,
        sender: str,
        random_bytes: Callable[[int], bytes],
        now_ns: Callable[[], int],
    ) -> None:
        """`ValueError` if the sender's name can't be written in a signature."""
        if not SENDER.fullmatch(sender):
            raise ValueError(
                f"{sender!r} can't be a sender; its name takes 1 to 64 letters, digits and any of '._:@/-'"
            )
        self.keyring = keyring
        self.sender = sender
        self._random_bytes = random_bytes
        self._now_ns = now_ns

    def sign(self, body: bytes) -> bytes:
        """The signature of these exact bytes, as of now; a new one each time."""
        return self.keyring.sign(self.sender, self._random_bytes(NONCE_BYTES), self._now_ns(), body)
