"""The helm: what an operator's order comes to in the run."""

from collections.abc import Callable
from dataclasses import dataclass

from actors.alarm import Alarm
from actors.alarms import CHECKPOINT
from actors.orders import Wanted
from actors.runtime.clock import Clock
from contracts.emergency import Answer, Bearings, BreakerOrder, Level, Order, Ordered, SeedOrder, Trouble
from contracts.growth import Operation, OperationFigures

PATIENCE_S = 25.0
"""How long an order that takes its time is waited for; it is carried out all the same."""
LOOK_EVERY_S = 0.05
ENDING = ("comparing", "finishing", "finished", "interrupted", "halted")
"""Phases in which nothing is left to steer."""
DONE_TO_SEEDS = {
    "pause": "is paused",
    "resume": "goes on",
    "cull": "is taken out",
    "terminate": "is taken down for good",
}
DONE_TO_BREAKERS = {
    "open": "is refused until its breaker is closed",
    "close": "is let through again",
    "try": "is tried the next time, and that decides",
}


@dataclass(frozen=True)
class Rudder:
    """What of a run can be seen and done from outside; all of it quick, on the event loop."""

    phase: Callable[[], str]
    kept: Callable[[], int]
    """Epoch of the newest moment that the run could go back to; -1 if there is none."""
    saved: Callable[[], int]
    """Epoch of the newest checkpoint on disk; -1 if there is none."""
    rollbacks: Callable[[], int]
    """How often the run has gone back."""
    save: Callable[[], bool]
    """Have the newest moment written; False if it can't be."""
    go_back: Callable[[str], None]
    """(reason) Return to the boundary before, at the end of the present epoch."""
    order: Callable[[Wanted], str]
    """Have it put to the engine at the next boundary; the command's id, empty if too many wait already."""
    answer: Callable[[str], tuple[bool, str] | None]
    """(command id) Whether the engine has carried it out, and why not; None while it has not judged it."""
    breakers: Callable[[], tuple[OperationFigures, ...]]
    """Of the engine's operations that were run, refused or set."""
    goes_back: bool = True
    """More boundaries are kept than the newest."""


class Helm:
    """One run's helm. Orders may come at the same time: each is carried out on its own."""

    def __init__(self, run_id: str, alarm: Alarm, rudder: Rudder, clock: Clock) -> None:
        self._run_id = run_id
        self._alarm = alarm
        self._rudder = rudder
        self._clock = clock

    async def carry_out(self, order: Order) -> Answer:
        """Do what is wanted, and say what came of it."""
        asks = order.what == "status" or (order.breaker is not None and order.breaker.wanted == "status")
        if not asks and self._rudder.phase() in ENDING:
            return self._answer(False, f"the run is {self._rudder.phase()}; there is nothing left to steer")
        match order.what:
            case "status":
                return self._answer(True, _word(self._alarm.level))
            case "checkpoint":
                return await self._save()
            case "rollback":
                return await self._go_back(order)
            case "seed":
                return await self._to_a_seed(order.seed)
            case "breaker":
                return await self._to_a_breaker(order.breaker)
            case "force" | "hold" | "release":
                return await self._set_level(order)

    def bearings(self) -> Bearings:
        """Where the run is."""
        emergencies = self._alarm.emergencies
        return Bearings(
            run_id=self._run_id,
            phase=self._rudder.phase(),
            epoch=self._alarm.epoch,
            level=emergencies.level,
            reason=emergencies.reason,
            since=emergencies.since,
            forced=emergencies.forced,
            held=emergencies.held,
            quiet_left=emergencies.boundaries_left,
            troubles=emergencies.open,
            checkpoint=self._rudder.saved(),
            breakers=self._rudder.breakers(),
        )

    async def _set_level(self, order: Order) -> Answer:
        nothing = not (self._alarm.emergencies.held or self._alarm.emergencies.forced)
        if order.what == "release" and nothing:
            return self._answer(False, "no level is forced or held; it falls by itself when it is quiet")
        try:
            ordered = self._alarm.steer(order)
        except ValueError as error:
            return self._answer(False, str(error))
        done, text = _came_of(order, ordered)
        trouble = await self._alarm.put_down()
        return self._answer(done, f"{text}; {trouble}" if trouble else text)

    async def _save(self) -> Answer:
        """Done when the newest moment is on disk."""
        epoch, before = self._rudder.kept(), self._failure()
        if not self._rudder.save():
            return self._answer(False, "there is nothing to write yet, or checkpoints are turned off")
        failed: Trouble | None = None

        def over() -> bool:
            nonlocal failed
            failed = self._failure()
            return self._rudder.saved() >= epoch or (failed is not None and failed is not before)

        in_time = await self._wait(over)
        if self._rudder.saved() >= epoch:
            return self._answer(True, f"the checkpoint of epoch {self._rudder.saved()} is on disk")
        if in_time and failed is not None:
            return self._answer(False, failed.text)
        return self._answer(False, f"it is not on disk after {PATIENCE_S:.0f} s; it is still being written")

    async def _go_back(self, order: Order) -> Answer:
        """Done when the run has gone back."""
        if self._alarm.level is Level.HALT:
            return self._answer(False, "the run is halted; resume it from its newest checkpoint")
        if not self._rudder.goes_back:
            return self._answer(False, "only the newest boundary is kept (checkpoint.boundaries)")
        if self._rudder.kept() < 0:
            return self._answer(False, "no boundary is kept yet that the run could go back to")
        before = self._rudder.rollbacks()
        self._rudder.go_back(f"asked for by {order.by}")
        if await self._wait(lambda: self._rudder.rollbacks() > before):
            return self._answer(True, f"the run went back to epoch {self._alarm.epoch}")
        text = f"it has not gone back within {PATIENCE_S:.0f} s; it will at the end of its epoch"
        return self._answer(False, text)

    def _failure(self) -> Trouble | None:
        """The open trouble that writing a checkpoint had."""
        return next((one for one in self._alarm.emergencies.open if one.subject == CHECKPOINT), None)

    async def _to_a_seed(self, order: SeedOrder | None) -> Answer:
        if order is None:
            return self._answer(
                False, "which seed, and what of it? pause, resume, cull or terminate, and its id"
            )
        return await self._to_the_engine(order, f"{order.seed_id} {DONE_TO_SEEDS[order.operation]}")

    async def _to_a_breaker(self, order: BreakerOrder | None) -> Answer:
        if order is None:
            return self._answer(False, "what of the breakers? status, or open, close or try and an operation")
        if order.wanted == "status":
            return self._answer(*_how_breakers_are(self._rudder.breakers(), order.operation))
        return await self._to_the_engine(order, f"{order.operation} {DONE_TO_BREAKERS[order.wanted]}")

    async def _to_the_engine(self, order: Wanted, done: str) -> Answer:
        """Done when the engine has judged it, at the next boundary."""
        command_id = self._rudder.order(order)
        if not command_id:
            return self._answer(False, "too many orders wait for their boundary already")
        if not await self._wait(lambda: self._rudder.answer(command_id) is not None):
            return self._answer(False, f"no boundary within {PATIENCE_S:.0f} s; it is put to the next one")
        applied, refusal = self._rudder.answer(command_id) or (False, "")
        return self._answer(applied, done if applied else refusal)

    async def _wait(self, over: Callable[[], bool]) -> bool:
        """Whether it was over in time."""
        until_s = self._clock.monotonic() + PATIENCE_S
        while not over():
            if self._clock.monotonic() >= until_s:
                return False
            await self._clock.sleep(LOOK_EVERY_S)
        return True

    def _answer(self, done: bool, text: str) -> Answer:
        return Answer(done, text, self.bearings())


def _came_of(order: Order, ordered: Ordered) -> tuple[bool, str]:
    """Whether the level is as ordered, and what it is."""
    word = _word(ordered.level)
    match order.what:
        case "hold":
            return True, f"{word}, held until it is released"
        case "release":
            return True, f"released: {word}"
        case _ if ordered.level is Level.HALT:
            return order.level is Level.HALT, "training is frozen; the run writes its report and ends"
        case _ if ordered.level > order.level:
            return True, f"{_word(order.level)} is forced; because of open troubles the level is {word}"
        case _:
            return True, f"{word}, forced until it is released"


def _how_breakers_are(figures: tuple[OperationFigures, ...], name: str) -> tuple[bool, str]:
    """Of one operation, or if there is no name of all whose breaker is not closed."""
    if name and name not in tuple(Operation):
        return False, f"there is no operation {name!r}; there are {', '.join(Operation)}"
    told = [one for one in figures if (one.operation == name if name else one.breaker != "closed")]
    if told:
        return True, "; ".join(one.standing for one in told)
    return True, f"{name} is closed; it was not needed yet" if name else "every breaker is closed"


def _word(level: Level) -> str:
    return "no emergency" if level is Level.UNSPECIFIED else level.name
