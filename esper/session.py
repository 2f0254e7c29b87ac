"""The library face: a whole run from Python, and what `python -m esper.run` calls.

from esper.session import grow
grown = grow(task, sites=["relu1", "relu2"], gflop=2.0, max_params=5_000)
grown.model, grown.report.final.test_accuracy, grown.folder / "report.html"
"""

import asyncio
import dataclasses
import os
import random
import re
import shutil
import signal
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType

import torch
from msgspec.structs import asdict, replace
from torch import nn
from torch.nn.parameter import is_lazy

from actors.company import Company, Outcome, Play, Surroundings
from actors.comparison import Stopper, compare
from actors.display import Display, Silent
from actors.lane import ThreadLane
from actors.nissa.http import ServeRefused, listen
from actors.nissa.journal import Journal
from actors.oona.errors import BusError
from actors.oona.open import Door, keeping_house, open_bus, open_registry, try_door
from actors.pipeline import Pipeline
from actors.presence import Presence, present
from actors.runtime import LoopClock
from actors.runtime.governor import Governor
from actors.runtime.own_loop import run_on_own_loop
from actors.runtime.signals import Handler, StopSignals
from contracts.address import masked
from contracts.config import Config
from contracts.registry import SITES_NAMED, RunEntry
from contracts.report import AlertFacts, BusFigures, Ending, Report
from contracts.view import RunFacts
from esper.assembly import Parts, assemble_parts
from esper.ending import leave, report_of
from esper.errors import BadSetup, CannotWrite
from esper.folder import check_folder, new_folder, write_whole
from esper.karn.catalogue import CATALOGUE, Catalogue
from esper.log import logging_to
from esper.report import headline
from esper.settings import ConfigError, load, to_toml
from esper.tamiyo.policy import Policy
from esper.tolaria.task import Task
from esper.tolaria.trainer import Trainer
from esper.tolaria.trial import try_out
from esper.workloads.cache import cache_folder
from esper.workloads.registry import UnknownWorkload, find_workload

LANE_CLOSES_S = 10.0
"""Seconds that the training thread may take to end after its last job."""
CUT_OFF_S = 0.5
"""The same after an interrupt; a thread that is inside torch when the process ends would abort it."""
EVENTS = "events.jsonl"


class _NoBus(Exception):
    """The bus could not be opened; nothing has begun."""


@dataclasses.dataclass(frozen=True)
class Grown:
    """What came of a run."""

    model: nn.Module
    report: Report
    folder: Path
    """Holds report.json, report.html, events.jsonl, config.toml and the model."""


@dataclasses.dataclass(frozen=True)
class Job:
    """What is to be run; `fresh_task` makes the same task anew for the comparison."""

    config: Config
    task: Task
    fresh_task: Task | None
    policy: Policy | None = None
    catalogue: Catalogue = CATALOGUE


def run(config: Config, display: Display) -> Ending:
    """Run a configured workload and leave its folder.

    Raises:
        BadSetup: nothing was written.
        CannotWrite: the run is over, and its folder is not complete.
    """
    try:
        workload = find_workload(config.run.workload)
    except UnknownWorkload as error:
        raise BadSetup(str(error)) from None
    config = workload.complete(config)
    check_places(config)
    task = workload.task(config.run.seed)
    again = workload.task(config.run.seed) if config.run.compare else None
    return play(Job(config, task, again), display).report.ended


def grow(
    task: Task,
    *,
    sites: Sequence[str] | str,
    epochs: int | None = None,
    gflop: float | None = None,
    max_params: int | None = None,
    policy: Policy | None = None,
    settings: Sequence[str] = (),
    display: Display | None = None,
    catalogue: Catalogue = CATALOGUE,
) -> Grown:
    """Grow a model of one's own; `task.model` is changed in place.

    Args:
        task: the model and its data.
        sites: where it may grow: module names or suffixes, or one regular expression.
        epochs: length in epochs; or `gflop`, in training GFLOP. One of them.
        max_params: parameters of the grown network at most; three times the host's if not given.
        policy: who decides, if it is none of Esper's own.
        settings: more settings as `section.key=value`, as for `--set`.
        display: who is told how it goes; nobody if not given.
        catalogue: the blueprints on offer.

    Raises:
        BadSetup: it can't begin as asked. Nothing was written and nothing grown.
        CannotWrite: the model has grown, and its folder is not complete.
    """
    values: dict[str, object] = {
        "run.workload": type(task.model).__name__,
        "run.epochs": epochs,
        "run.gflop": gflop,
        "growth.max_params": _room(task.model) if max_params is None else max_params,
        "growth.sites": sites if isinstance(sites, str) else list(sites),
    }
    try:
        config = load(None, settings, values)
    except ConfigError as error:
        raise BadSetup(str(error)) from None
    if epochs is None and gflop is None:
        raise BadSetup("a run needs a length; give epochs or gflop")
    return play(Job(config, task, None, policy, catalogue), display or Silent())


def play(job: Job, display: Display) -> Grown:
    """Run `job` on an event loop of its own, from start to report; from any thread, beside any loop.

    Raises:
        BadSetup: nothing was written.
        CannotWrite: the run is over, and its folder is not complete.
    """
    way = try_door(job.config.run.bus, os.environ)
    job = dataclasses.replace(job, config=without_password(job.config))
    check_places(job.config)
    try:
        try_out(job.task)
        with new_folder(Path(job.config.run.out), _name(job)) as folder:
            parts = assemble_parts(job.config, job.task, folder.name, job.policy, job.catalogue)
            write_whole(folder / "config.toml", to_toml(job.config).encode())
    except ValueError as error:  # of the data, the sites, the model's fit
        raise BadSetup(str(error)) from error
    except OSError as error:
        raise BadSetup(f"run.out {job.config.run.out}: {error.strerror}; give another folder") from None
    governor, again = Governor(), signal.getsignal(signal.SIGINT)
    try:
        return run_on_own_loop(governor, lambda: _perform(job, parts, way, folder, display, governor, again))
    except (ServeRefused, _NoBus) as error:
        shutil.rmtree(folder)
        raise BadSetup(str(error)) from None


def check_places(config: Config) -> None:
    """See that a run's folder can be made and its port be had.

    Raises:
        BadSetup: one of them can't.
    """
    check_folder(Path(config.run.out))
    if config.serve.enabled:
        try:
            listen(config.serve.host, config.serve.port).close()
        except ServeRefused as error:
            raise BadSetup(str(error)) from None


def without_password(config: Config) -> Config:
    """The same configuration as others may see it."""
    return replace(config, run=replace(config.run, bus=masked(config.run.bus)))


def _name(job: Job) -> str:
    """What a run's folder is called: what is trained, who decides, from which seed, and when."""
    run, now = job.config.run, datetime.now(UTC)
    policy = run.policy if job.policy is None else job.policy.name
    plain = re.sub(r"[^\w.-]+", "-", f"{run.workload}-{policy}-s{run.seed}")
    return f"{plain}-{now:%Y%m%dT%H%M%S%f}"[:-3]


def _room(model: nn.Module) -> int:
    """Parameters that a grown network may have if nothing is said: three times the host's."""
    return 3 * sum(parameter.numel() for parameter in model.parameters() if not is_lazy(parameter)) or 1


async def _perform(
    job: Job,
    parts: Parts,
    way: Door,
    folder: Path,
    display: Display,
    governor: Governor,
    again: Handler | None,
) -> Grown:
    """The run, the comparison, and everything that is written at the end; `again` is for a second SIGINT."""
    began = time.perf_counter()
    clock = LoopClock(asyncio.get_running_loop())
    async with AsyncExitStack() as whole:
        try:
            opened = await whole.enter_async_context(open_bus(way, folder.name, clock))
        except BusError as error:  # it has gone since it was tried
            raise _NoBus(str(error)) from None
        registry = await whole.enter_async_context(open_registry(way))
        lane = ThreadLane("training", lambda: torch.set_num_threads(job.config.run.threads))
        stream = random.Random(job.config.run.seed)
        around = Surroundings(clock, opened.bus, lane, governor, stream, time.perf_counter)
        with ExitStack() as stack:
            stack.push(partial(_close_lane, lane, parts.trainer))
            stack.enter_context(logging_to(folder))
            journal = stack.enter_context(_journal(folder))
            play = _play(job, parts, display, journal)
            company = Company(play, around)
            entry = _entry(play, parts, way, clock)
            presence = Presence(entry, registry, company.witness, opened, display, clock)
            await whole.enter_async_context(present(presence, clock, governor.boundary_quiet))
            stopper = Stopper(company)
            async with StopSignals(stopper.stop, again):
                outcome = await company.perform()
                async with keeping_house(opened.bus):
                    comparison = await compare(job.config, job.fresh_task, outcome, stopper, display, lane)
        _look_at(journal, folder, outcome, display)
        ended = _ending(outcome, stopper)
        wall_s = time.perf_counter() - began
        recorded, final = outcome.witness.recorder.recorded, outcome.conclusion.final
        report = report_of(parts, recorded, final, _bus_figures(outcome, way), comparison, ended, wall_s)
        leave(folder, parts, report)
        display.finish(report)
        presence.over(ended, headline.sentence(report))
    return Grown(parts.model, report, folder)


def _entry(play: Play, parts: Parts, way: Door, clock: LoopClock) -> RunEntry:
    """What the registry is told of the run."""
    sites = parts.sites[:SITES_NAMED]
    return RunEntry(play.run_id, play.facts, clock.wall_ns(), sites, signed=way.signs)


def _look_at(journal: Journal, folder: Path, outcome: Outcome, display: Display) -> None:
    """Say so if the event log is not complete."""
    if journal.broken:
        told = f"{folder / EVENTS} ends early: {journal.broken}"
        outcome.witness.recorder.alert(AlertFacts("journal_broken", outcome.witness.view().epoch, told))
        display.event(told, "warning")


def _journal(folder: Path) -> Journal:
    try:
        return Journal(folder / EVENTS)
    except OSError as error:
        raise CannotWrite(f"{folder / EVENTS}: {error.strerror}") from error


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


def _play(job: Job, parts: Parts, display: Display, journal: Journal) -> Play:
    run = job.config.run
    facts = RunFacts(
        workload=run.workload,
        policy=parts.policy.name,
        seed=run.seed,
        out=run.out,
        epochs=run.epochs,
        budget_flops=round(run.gflop * 1e9) if run.gflop is not None else None,
        bus=run.bus,
        boundary_budget_ms=float(job.config.budgets.epoch_boundary_ms),
    )
    return Play(
        run_id=parts.trainer.run_id,
        config=job.config,
        facts=facts,
        training=parts.trainer,
        samples=parts.trainer.samples,
        engine=parts.engine,
        controller=parts.controller,
        observation=parts.observation,
        names={blueprint.blueprint_id: blueprint.descriptor.name for blueprint in job.catalogue},
        display=display,
        journal=journal,
        pipeline=_pipeline(job, parts),
        policy_in_thread=parts.policy_in_thread,
    )


def _pipeline(job: Job, parts: Parts) -> Pipeline | None:
    """None if nothing is to be compiled ahead, or could be: a compiler's process knows our catalogue only."""
    config = job.config.kernels
    if not config.prefetch or job.catalogue is not CATALOGUE:
        return None
    folder = Path(config.store).expanduser() if config.store else cache_folder() / "kernels"
    approved = frozenset(job.config.growth.approved)
    return Pipeline(folder, config, job.catalogue, approved, parts.stock)


def _ending(outcome: Outcome, stopper: Stopper) -> Ending:
    if outcome.conclusion.halted:
        return Ending("halted", outcome.conclusion.halted)
    if outcome.conclusion.interrupted:
        return Ending("interrupted", outcome.conclusion.interrupted)
    if stopper.reason:
        return Ending("interrupted", f"the run itself is complete, its comparison was {stopper.reason}")
    return Ending()


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
