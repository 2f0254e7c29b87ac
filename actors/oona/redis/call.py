"""One operation on its way to the server, and who wants to know what came of it."""

import asyncio
from typing import ClassVar, Generic, TypeVar

import msgspec

from actors.oona.errors import BusError, UncertainError
from actors.oona.redis.wire import Op

T = TypeVar("T")


class Call:
    """An operation. It may fail and be answered afterwards: then nobody waits for the answer any longer."""

    __slots__ = ()
    keeps: ClassVar[bool] = False
    """Whether it waits while the server is away, rather than fail at once."""

    hasty: bool = False
    """Whether it passes what is patient when much waits."""

    patient: ClassVar[bool] = False
    """Whether it may be passed."""

    heavy: ClassVar[bool] = False
    """Whether its answer takes long to work on: that is done while the server has the next batch."""

    size: int = 0
    """Bytes of its blobs."""

    weight: int = 1
    """How many simple operations it makes."""

    def wanted(self) -> bool:
        """Whether it should still be sent."""
        return True

    def write(self, blobs: list[bytes]) -> Op:
        """The operation, its blobs appended to `blobs`. Called once more for each time it is sent."""
        raise NotImplementedError

    def answered(self, result: msgspec.Raw, blobs: list[bytes]) -> None:
        """The server has done it."""

    def failed(self, error: BusError, sent: bool) -> None:
        """No answer; `sent`: the server may have done it all the same, or may yet when it is sent again."""

    def given_up(self, error: BusError) -> None:
        """The server failed at it; it may be done in part, and is not sent again."""
        self.failed(error, sent=True)


class Order(Call):
    """Nobody waits for the answer: acknowledgements and the like. Kept while the server is away."""

    __slots__ = ("op",)
    keeps = True

    def __init__(self, op: Op) -> None:
        self.op = op

    def write(self, blobs: list[bytes]) -> Op:
        return self.op


class Ask(Call, Generic[T]):
    """Somebody waits for the answer; it comes with the blobs that it names."""

    __slots__ = ("_blob", "_decoder", "answer", "op")
    patient = True

    def __init__(self, op: Op, decoder: "msgspec.msgpack.Decoder[T]", blob: bytes = b"") -> None:
        """With a blob, its index comes last in the operation."""
        self.op = op
        self._blob = blob
        self.answer: asyncio.Future[tuple[T, list[bytes]]] = asyncio.get_running_loop().create_future()
        self._decoder = decoder

    def wanted(self) -> bool:
        return not self.answer.done()

    def write(self, blobs: list[bytes]) -> Op:
        if not self._blob:
            return self.op
        blobs.append(self._blob)
        return (*self.op, len(blobs) - 1)

    def answered(self, result: msgspec.Raw, blobs: list[bytes]) -> None:
        if self.answer.done():
            return
        try:
            self.answer.set_result((self._decoder.decode(result), blobs))
        except msgspec.DecodeError as error:
            self.answer.set_exception(
                UncertainError(f"the server's answer to {self.op[0]} makes no sense: {error}")
            )

    def failed(self, error: BusError, sent: bool) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)
