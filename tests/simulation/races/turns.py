"""Races of whole runs: what is answered, committed, kept and written while training goes on."""

import asyncio
from typing import Any

from actors.ending import Ending
from actors.keeping import Keeper, Wrote
from actors.reports import Reports
from actors.runtime import ActorError
from actors.runtime.asks import Ask, Sweeper
from actors.runtime.mailbox import Mailbox
from actors.runtime.runner import Runner
from contracts.control import CloseWindows
from contracts.messages import FieldReport
from esper.moment import Moment
from tests.simulation.plot import Script
from tests.simulation.races.race import Race, whole_run
from tests.simulation.storm import Kind

HALTS = whole_run(Script(every_s=0.3, strikes={(Kind.JOB, "step"): (26,)}))
GROWS = whole_run(Script())
LATE = whole_run(Script(delays=frozenset({Kind.SLOW_POLICY}), limit_s=200.0))
IS_CUT = whole_run(
    Script(
        epochs=20,
        strikes={(Kind.CUT, "run"): ()},
        at_s={"cut": 1.5},
        delays=frozenset({Kind.SLOW_JOURNAL}),
    )
)
REPORTS_FAIL = whole_run(Script(strikes={(Kind.REPORTS, "watch"): (7,)}))


_wrote = Keeper.wrote


def _wrote_the_newest(self: Keeper, wrote: Wrote) -> None:
    self._writing = self._newest
    _wrote(self, wrote)


_write = Keeper._write


def _writes_at_once(self: Keeper, moment: Moment) -> None:
    self._writing = None
    _write(self, moment)


def _concludes_at_once(self: Ending) -> None:
    self._conclude()


async def _answers_who_has_given_up(self: Runner, actor: Any, ask: Ask[object]) -> None:
    if ask.done() or self._monotonic() >= ask.deadline:
        self.expired += 1
        ask.expire()
    else:
        ask.set_result(await self._table[type(ask.message)](actor, ask.message))
    self._desk.answered(ask)


_arm = Sweeper._arm


def _arms_once(self: Sweeper, tick: int) -> None:
    if self._timer is None:
        _arm(self, tick)


async def _asks_once(self: Ending, request: CloseWindows) -> tuple[FieldReport, ...]:
    try:
        return await self._at.minds.reports.ask(request, deadline_s=1.0)
    except ActorError:
        return ()


_keep = Reports._keep


async def _announces_first(self: Reports, settled: float, *, hurry: bool = False) -> None:
    self._post.outbox.take(self._observation.due(settled))
    self._announce()
    await _keep(self, settled, hurry=hurry)


async def _sleeps_after_a_look(self: Mailbox) -> None:
    if self.queue or self.closed:
        return
    await asyncio.sleep(0)
    self._sleeping = asyncio.get_running_loop().create_future()
    self._gate()
    try:
        await self._sleeping
    finally:
        self._sleeping = None
        self._gate()


RACES = (
    Race(
        "write of a superseded moment",
        "what comes to the disk is taken for the moment that is the newest by then",
        Keeper,
        "wrote",
        _wrote_the_newest,
        HALTS,
        "is not on the disk",
        10,
    ),
    Race(
        "two writes at a time",
        "a moment goes to the disk without a look whether another is on its way",
        Keeper,
        "_write",
        _writes_at_once,
        GROWS,
        "tolaria has failed for good",
        0,
    ),
    Race(
        "end before the last write",
        "the run concludes without a look whether its last moment is still being written",
        Ending,
        "close",
        _concludes_at_once,
        GROWS,
        "concluded while the last moment was written",
        0,
    ),
    Race(
        "late answer",
        "a reply is given without a look whether its asker has given up",
        Runner,
        "_answer",
        _answers_who_has_given_up,
        LATE,
        "InvalidStateError",
        0,
    ),
    Race(
        "deadline behind a later one",
        "the sweeper's timer stays as it is when an ask comes that is due before it",
        Sweeper,
        "_arm",
        _arms_once,
        LATE,
        "a boundary has not ended",
        0,
    ),
    Race(
        "last reports of an actor that restarts",
        "the end of a run asks for the last reports once, and goes without if their actor restarts",
        Ending,
        "_last_reports",
        _asks_once,
        REPORTS_FAIL,
        "watched and never reported",
        0,
    ),
    Race(
        "announced before it is on the disk",
        "a report is announced while it is being written",
        Reports,
        "_keep",
        _announces_first,
        IS_CUT,
        "announced, and not on the disk",
        4,
    ),
    Race(
        "wake-up of an actor",
        "a mailbox is not looked at again before its actor goes to sleep",
        Mailbox,
        "arrival",
        _sleeps_after_a_look,
        GROWS,
        "the run has not ended",
        1,
    ),
)
