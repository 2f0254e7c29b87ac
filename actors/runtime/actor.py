"""What one writes to make an actor: a class with async handlers, one a type of message."""

import random
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar, get_args, get_origin

from actors.runtime.clock import Clock
from actors.runtime.handlers import check_declared, handler_names, handles
from actors.runtime.lanes import Overflow
from actors.runtime.threads import Threads
from actors.runtime.timers import Timer, Timers

if TYPE_CHECKING:
    from actors.runtime.ref import ActorRef

__all__ = ["Actor", "ActorContext", "Overflow", "handles"]

M = TypeVar("M")


class ActorContext(Generic[M]):
    """What an actor may use of its surroundings. Valid from `on_start` until the instance ends."""

    def __init__(self, me: "ActorRef[M]", clock: Clock, stream: random.Random, threads: Threads) -> None:
        self.me = me
        self.name = me.name
        self.clock = clock
        self.random = stream
        self.threads = threads
        self._timers = Timers(me.name, clock)

    def every(self, seconds: float, message: M) -> Timer:
        """Tell this actor `message` every `seconds`, until it ends or the timer is cancelled."""
        return self._timers.every(seconds, lambda: self.me.tell_nowait(message))

    def close(self) -> None:
        """End what belongs to this instance; its supervisor calls this."""
        self._timers.close()


class Actor(Generic[M]):
    """Handles messages of the types in `M`, one at a time.

    A restart makes a new instance, so what must survive a failure is kept outside. Handlers are
    marked with `@handles`; the definition is refused with `TypeError` if they don't fit `M`.
    """

    mailbox_size: ClassVar[int] = 1024
    """Messages the normal lane holds."""
    urgent_size: ClassVar[int] = 64
    """Messages the urgent lane holds."""
    overflow: ClassVar[Overflow] = Overflow.WAIT
    critical: ClassVar[bool] = True
    """Whether the run is impaired once this actor has failed for good."""
    asks: ClassVar[tuple[str, ...]] = ()
    """Names of the actors this one asks; they start before it and stop after it."""
    slice_s: ClassVar[float] = 0.002
    """Seconds after which a busy actor lets others run."""

    handler_names: ClassVar[dict[type, str]] = {}
    """Message type → method name, filled in when the class is made."""

    context: ActorContext[M]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.handler_names = handler_names(cls)
        for base in vars(cls).get("__orig_bases__", ()):
            origin = get_origin(base)
            if isinstance(origin, type) and issubclass(origin, Actor):
                check_declared(cls, get_args(base)[0], cls.handler_names)

    async def on_start(self) -> None:
        """Prepare; the first message comes after this has returned."""

    async def on_stop(self) -> None:
        """Give back what `on_start` took; called however the instance ends, if it had started."""
