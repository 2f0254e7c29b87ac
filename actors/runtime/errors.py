"""Why the runtime says no: each message says what was refused, why, and what would work."""


class ActorError(Exception):
    """Anything the actor runtime refuses or reports."""


class MailboxFull(ActorError):
    """The receiver's lane is full, and it refuses rather than makes the sender wait."""

    def __init__(self, actor: str, lane: str, capacity: int) -> None:
        super().__init__(
            f"{actor} takes no more: its {lane} lane holds {capacity} messages; "
            "await tell() where the receiver lets senders wait, or send less"
        )


class ActorStopped(ActorError):
    """The receiver has ended, or was never started."""

    def __init__(self, actor: str, state: str = "stopped") -> None:
        super().__init__(f"{actor} can't answer: it is {state}; ask a running actor")


class ActorRestarting(ActorError):
    """The receiver failed and its next instance is not up yet."""

    def __init__(self, actor: str) -> None:
        super().__init__(f"{actor} can't answer: it failed and is restarting; ask again once it runs")


class AskTimeout(ActorError):
    """No reply came within the ask's deadline."""

    def __init__(self, actor: str, request: str, deadline_s: float) -> None:
        super().__init__(
            f"{actor} did not answer {request} within {deadline_s:g} s; go on without it or allow it longer"
        )


class AskFailed(ActorError):
    """The handler raised; its error is the `__cause__`."""

    def __init__(self, actor: str, request: str, error: BaseException) -> None:
        super().__init__(f"{actor} failed on {request}: {type(error).__name__}: {error}")
        self.__cause__ = error


class UnknownMessage(ActorError):
    """The receiver has no handler for this type of message."""

    def __init__(self, actor: str, message: str, takes: tuple[str, ...]) -> None:
        super().__init__(f"{actor} has no handler for {message}; it takes {', '.join(takes) or 'nothing'}")


class UndeclaredAsk(ActorError):
    """An actor asks another without saying so in its `asks`."""

    def __init__(self, caller: str, target: str, declared: tuple[str, ...]) -> None:
        allowed = ", ".join(declared) or "nobody"
        super().__init__(
            f"{caller} can't ask {target}: it declares that it asks {allowed}; add {target!r} to its `asks`"
        )


class AskCycle(ActorError):
    """Actors that ask each other in a circle could wait for each other until every deadline is over."""

    def __init__(self, cycle: tuple[str, ...]) -> None:
        super().__init__(f"actors ask each other in a circle: {' → '.join(cycle)}; make one of these a tell")


class UnknownActor(ActorError):
    """An actor declares that it asks one that was never spawned."""

    def __init__(self, actor: str, missing: str, spawned: tuple[str, ...]) -> None:
        super().__init__(f"{actor} asks {missing}, which was never spawned; there are {', '.join(spawned)}")


class StartFailed(ActorError):
    """A critical actor did not come up, so the system did not start; what had started was stopped again."""

    def __init__(self, actor: str, reason: str) -> None:
        super().__init__(f"the system did not start: {actor} {reason}")


class StrayCancellation(ActorError):
    """A handler was cancelled by something that it awaited, not by its supervisor."""

    def __init__(self, actor: str) -> None:
        super().__init__(
            f"a handler of {actor} awaited something that was cancelled; catch CancelledError there"
        )
