"""Performs one run on the running event loop: opens what it needs, plays it, and writes what it leaves."""

import asyncio
import dataclasses
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from types import TracebackType

import torch
from msgspec.structs import asdict

from actors.company import Company, Outcome, Surroundings
from actors.comparison import Stopper, compare
from actors.display import Display
from actors.helm import Helm, Rudder
from actors.keeping import Desk, Keeper
from actors.lane import ThreadLane
from actors.nissa.journal import Journal
from actors.oona.errors import BusError
from actors.oona.open import Door, keeping_house, open_bus, open_registry
from actors.orders import Notebook
from actors.pipeline import Pipeline
from actors.play import Play, play_of
from actors.presence import Presence, present
from actors.runtime import LoopClock, WorkerThreads
from actors.runtime.governor import Governor
from actors.runtime.signals import Handler, StopSignals
from actors.steering import steering
from actors.vitals import vitals, watching_vitals
from actors.watchdog import Stall, Watch, watched
from contracts.registry import SITES_NAMED, RunEntry
from contracts.report import AlertFacts, BusFigures, Ending, Report, ResumeFacts
from contracts.view import RunFacts
from esper.ending import leave, report_of
from esper.errors import CannotWrite
from esper.folder import going_on
from esper.forced import note as put_down
from esper.log import logging_to
from esper.place import Place
from esper.report import headline
from esper.stall import Stalled, note
from esper.tolaria.task import Task
from esper.tolaria.trainer import Trainer

LANE_CLOSES_S = 10.0
"""Seconds that the training thread may take to end after its last job, and the writer after its last file."""
CUT_OFF_S = 0.5
"""The same after an interrupt; a thread that is inside torch when the process ends would abort it."""
STALLS = "stalls.txt"


class NoBus(Exception):
    """The bus could not be opened; nothing has begun."""


@dataclasses.dataclass(frozen=True)
class Script:
    """One run, ready to be performed."""

    place: Place
    fresh_task: Task | None
    """The same task anew, for the comparison; None for none."""
    pipeline: Pipeline | None
    way: Door
    display: Display
    governor: Governor
    again: Handler | None
    """What a second SIGINT does."""


async def perform(script: Script) -> Report:
    """The run, the comparison, and everything that is written at the end.

    Raises:
        NoBus: the bus has gone since it was tried.
        ServeRefused: the metrics can't be served as configured. Nothing has started.
        CannotWrite: the run is over, and its folder is not complete.
    """
    place, display, governor, way = script.place, script.display, script.governor, script.way
    parts, folder, config = place.parts, place.folder, place.about.config
    clock = LoopClock(asyncio.get_running_loop())
    async with AsyncExitStack() as whole:
        try:
            opened = await whole.enter_async_context(open_bus(way, folder.name, clock))
            await opened.succeed()
        except BusError as error:  # it has gone since it was tried
            raise NoBus(str(error)) from None
        registry = await whole.enter_async_context(open_registry(way))
        lane = ThreadLane("training", lambda: torch.set_num_threads(config.run.threads))
        writer = ThreadLane("checkpoints")
        stream = random.Random(config.run.seed)
        around = Surroundings(clock, opened.bus, lane, governor, stream, time.perf_counter)
        with ExitStack() as stack:
            stack.callback(writer.close, LANE_CLOSES_S)
            stack.push(partial(_close_lane, lane, parts.trainer))
            stack.enter_context(logging_to(folder))
            journal = stack.enter_context(_journal(folder))
            company = Company(_play(script, journal, writer), around)
            display.start(company.facts)
            entry = _entry(company, place, way, clock)
            presence = Presence(entry, registry, company.witness, opened, display, clock)
            for note in journal.notes:
                company.witness.alert("journal_damaged", note)
            journal.notes.clear()
            await whole.enter_async_context(present(presence, clock, governor.boundary_quiet))
            stopper = Stopper(company)
            async with StopSignals(stopper.stop, script.again), company.serving():
                async with _overseen(company, place, clock, governor):
                    outcome = await company.perform()
                async with keeping_house(opened.bus), _watched(_second_watch(place, stopper)):
                    comparison = await compare(config, script.fresh_task, outcome, stopper, display, lane)
        _look_at(journal, outcome, display)
        ended = _ending(outcome, stopper)
        if ended.kind != "finished" and (told := way_on(company.keeper, folder)):
            display.event(told, "info", company.witness.epoch())
        recorded, final = outcome.witness.recorder.recorded, outcome.conclusion.final
        wall_s = outcome.witness.live.worked_s
        report = report_of(parts, recorded, final, _bus_figures(outcome, way), comparison, ended, wall_s)
        try:
            leave(folder, parts, report)
        finally:  # what came of it can be read off the screen, whatever the disk does
            display.finish(report)
        presence.over(ended, headline.result(report))
    return report


def way_on(keeper: Keeper, folder: Path) -> str:
    """How to go on with a run that was cut short; empty if nothing of it is on disk."""
    resume = f"go on with: {going_on(folder)}"
    if keeper.on_disk >= 0:
        return f"the end of epoch {keeper.on_disk} is on disk; {resume}"
    if keeper.written >= 0:
        undone = f"the disk has only the end of epoch {keeper.written} as it was before the run went back"
        return f"{undone}; {resume}"
    return ""


@asynccontextmanager
async def _overseen(
    company: Company, place: Place, clock: LoopClock, governor: Governor
) -> AsyncIterator[None]:
    """While the run trains: is its loop alive, does its thread take steps, are memory and disk enough?"""
    emergency, folder = place.about.config.emergency, place.folder
    farewell = f"the run stood still and was ended; go on with it: {going_on(folder)}"
    overseer = Overseer(company, folder / STALLS, place.parts.trainer)
    watch = Watch(folder / STALLS, emergency, lambda: place.parts.trainer.progress, overseer, farewell)
    threads = WorkerThreads()
    signs = vitals(emergency, folder, threads)
    company.alarm.put_down = Notebook(company.emergencies, partial(put_down, folder), threads).put_down
    async with (
        _watched(watch),
        watching_vitals(company.alarm, signs, clock, governor.boundary_quiet, company.witness.alert),
        steering(folder, _helm(company, place, clock)),
    ):
        yield


def _second_watch(place: Place, stopper: Stopper) -> Watch:
    """Over the comparison."""
    farewell = "the comparison stood still and was ended; the run itself is complete"
    emergency = place.about.config.emergency
    return Watch(place.folder / STALLS, emergency, lambda: stopper.progress, stopper, farewell)


@asynccontextmanager
async def _watched(watch: Watch) -> AsyncIterator[None]:
    """Watched; a file without stacks does not stay."""
    try:
        async with watched(watch):
            yield
    finally:
        with suppress(OSError):
            if not watch.file.stat().st_size:
                watch.file.unlink()


def _helm(company: Company, place: Place, clock: LoopClock) -> Helm:
    """What an operator can do to the run."""
    keeper, witness = company.keeper, company.witness
    rudder = Rudder(
        phase=lambda: witness.live.phase,
        kept=lambda: keeper.moments[-1].epoch if keeper.moments else -1,
        saved=lambda: keeper.on_disk,
        rollbacks=lambda: len(witness.recorder.recorded.rollbacks),
        save=keeper.write_newest,
        go_back=company.go_back,
        order=lambda wanted: company.orders.put(wanted, clock.wall_ns()),
        answer=company.orders.answer,
        breakers=lambda: place.parts.engine.guard.figures(witness.epoch()),
        goes_back=place.about.config.checkpoint.boundaries > 1,
    )
    return Helm(place.about.run_id, company.alarm, rudder, clock)


@dataclasses.dataclass(frozen=True)
class Overseer:
    """Takes to the run what its watchdog has seen."""

    company: Company
    file: Path
    trainer: Trainer

    def stalled(self, stall: Stall) -> None:
        if stall.what == "step" and stall.over:
            return  # it moves again: too late, the run ends
        self.company.alarm.see(stall.trouble(self.company.alarm.epoch, self.file))
        if stall.what == "step":
            note(self.file.parent, Stalled(stall.text, self.company.alarm.epoch, self.trainer.suspects))
            self.company.abandon(stall.text)

    def unwatched(self, reason: str) -> None:
        self.company.witness.alert("unwatched", f"{reason}; a run that stands still is not noticed")


def _entry(company: Company, place: Place, way: Door, clock: LoopClock) -> RunEntry:
    """What the registry is told of the run."""
    sites = place.parts.sites[:SITES_NAMED]
    return RunEntry(place.about.run_id, company.facts, clock.wall_ns(), sites, signed=way.signs)


def _look_at(journal: Journal, outcome: Outcome, display: Display) -> None:
    """Say so if the event log is not complete."""
    for name, told in journal.troubles():
        outcome.witness.recorder.alert(AlertFacts(name, outcome.witness.epoch(), told))
        display.event(told, "warning")


def _journal(folder: Path) -> Journal:
    try:
        return Journal(folder)
    except OSError as error:
        raise CannotWrite(f"{folder}: its journal can't be opened: {error.strerror}") from error


def _close_lane(
    lane: ThreadLane,
    trainer: Trainer,
    kind: type[BaseException] | None,
    error: BaseException | None,
    trace: TracebackType | None,
) -> None:
    """Wait for the training thread; if the run was cut off, for one step at most."""
    if kind is None or issubclass(kind, Exception):
        lane.close(LANE_CLOSES_S)
    else:
        trainer.stop()
        lane.close(CUT_OFF_S)


def _play(script: Script, journal: Journal, writer: ThreadLane) -> Play:
    place = script.place
    parts, config = place.parts, place.about.config
    run = config.run
    facts = RunFacts(
        workload=run.workload,
        policy=parts.policy.name,
        seed=run.seed,
        out=run.out,
        folder=str(place.folder),
        epochs=run.epochs,
        budget_flops=round(run.gflop * 1e9) if run.gflop is not None else None,
        bus=run.bus,
        boundary_budget_ms=float(config.budgets.epoch_boundary_ms),
    )
    return dataclasses.replace(
        play_of(parts, place.about.run_id, facts, script.display),
        journal=journal,
        pipeline=script.pipeline,
        outlook=parts.trainer.outlook(),
        stock=parts.stock,
        policy_in_thread=parts.policy_in_thread,
        desk=Desk(place.store, writer, place.about, place.build),
        start=place.start,
        before=place.before,
        resumed=_resumed(place),
    )


def _resumed(place: Place) -> ResumeFacts | None:
    """What the report says of the run's being taken up; None at its beginning."""
    if place.start is None:
        return None
    told = (*(one.text for one in place.differences), *place.passed_over)
    return ResumeFacts(place.start.epoch, told, place.set_aside)


def _ending(outcome: Outcome, stopper: Stopper) -> Ending:
    if outcome.conclusion.halted:
        return Ending("halted", outcome.conclusion.halted)
    if outcome.conclusion.interrupted:
        return Ending("interrupted", outcome.conclusion.interrupted)
    if stopper.reason:
        told = f"the run itself is complete, its comparison was {stopper.reason}"
        return Ending("interrupted", told, complete=True)
    return Ending("finished", complete=True)


def _bus_figures(outcome: Outcome, way: Door) -> BusFigures:
    """The bus at the end: its depth, the way to it, and by topic what was published and what became of it."""
    backend = "memory" if way.is_memory else "redis"
    figures: BusFigures = {"backend": backend, "depth_max": outcome.bus.depth_max}
    link = outcome.bus.link
    if link is not None:
        figures["link"] = {
            "reconnects": link.reconnects,
            "uncertain": link.uncertain,
            "lost": link.outbox_lost,
            "frames_refused": sum(link.refused.values()),
        }
    for row in outcome.bus.groups:
        if row.ledger.published:
            figures[f"{row.topic}/{row.group}/{row.lane.value}"] = {
                name: value for name, value in asdict(row.ledger).items() if isinstance(value, int | float)
            }
    return figures
