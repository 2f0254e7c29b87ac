"""What every consumer's end does alike: loops over messages, and blocks that end in ack or nack."""

from types import TracebackType
from typing import Generic, Self, TypeVar

from actors.oona.errors import ClosedError

D = TypeVar("D")


class Block:
    """A delivery as a block: acknowledged when it is left, given back when it raised."""

    __slots__ = ()

    def ack(self) -> None:
        raise NotImplementedError

    def nack(self, delay_s: float | None = None, error: str | None = None) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.ack()
        elif isinstance(error, Exception):
            self.nack(error=f"{type(error).__name__}: {error}")
        else:
            self.nack(delay_s=0.0)  # cancelled, or the program ends: nobody's failure


class Loop(Generic[D]):
    """A subscription as a loop over its messages, which ends with it; and as a block that closes it."""

    async def receive(self, max_messages: int = 1, wait_s: float | None = None) -> list[D]:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> D:
        try:
            return (await self.receive(1))[0]
        except ClosedError:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
