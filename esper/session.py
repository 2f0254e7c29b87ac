"""The library face: a whole run from Python, and what `python -m esper.run` calls.

from esper.session import grow
grown = grow(task, sites=["relu1", "relu2"], gflop=2.0, max_params=5_000)
grown.model, grown.report.final.test_accuracy, grown.folder / "report.html"
"""

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import torch
from torch import nn

from actors.company import Company, Outcome, Play, Surroundings
from actors.display import Display, Silent
from actors.lane import JobFailed, ThreadLane
from actors.nissa.http import ServeRefused, listen
from actors.nissa.journal import Journal
from actors.nissa.nissa import DISPLAY_EVERY_S
from actors.runtime import LoopClock
from actors.runtime.governor import Governor, governed_loop
from actors.runtime.interpreter import shared_interpreter
from actors.runtime.signals import StopSignals
from contracts.config import Config
from contracts.report import BusFigures, Comparison, Ending, FinalFacts, Report
from contracts.view import RunFacts
from esper.assembly import Parts, assemble_parts
from esper.comparison import Ungrown, compared, final_facts
from esper.export import save_grown
from esper.karn.catalogue import CATALOGUE, Catalogue
from esper.kasmina.sites import SiteError
from esper.log import logging_to
from esper.report.build import Closing, build, write
from esper.report.page import page
from esper.settings import ConfigError, load, to_toml
from esper.tamiyo.policy import Policy
from esper.tolaria.errors import BadData
from esper.tolaria.results import FinalFigures
from esper.tolaria.task import Task
from esper.versions import versions
from esper.workloads.registry import UnknownWorkload, find_workload

LANE_CLOSES_S = 10.0
"""Seconds that the training thread may take to end after its last job."""


class BadSetup(ValueError):
    """The run can't begin as asked; the message says what would work, and nothing was written."""


@dataclass(frozen=True)
class Grown:
    """What came of a run."""

    model: nn.Module
    report: Report
    folder: Path
    """Holds report.json, report.html, events.jsonl, config.toml and the model."""


@dataclass(frozen=True)
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
    """
    try:
        workload = find_workload(config.run.workload)
    except UnknownWorkload as error:
        raise BadSetup(str(error)) from None
    config = workload.complete(config)
    if config.serve.enabled:
        try:
            listen(config.serve.host, config.serve.port).close()
        except ServeRefused as error:
            raise BadSetup(str(error)) from None
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
    """
    host_params = sum(parameter.numel() for parameter in task.model.parameters())
    values: dict[str, object] = {
        "run.workload": type(task.model).__name__,
        "run.epochs": epochs,
        "run.gflop": gflop,
        "growth.max_params": max_params or 3 * host_params,
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
    """Run `job` on an event loop of its own, from start to report.

    Raises:
        BadSetup: nothing was written.
    """
    now = datetime.now(UTC)
    run_id = (
        f"{job.config.run.workload}-{job.config.run.policy}-s{job.config.run.seed}-{now:%Y%m%dT%H%M%S%f}"[:-3]
    )
    try:
        parts = assemble_parts(job.config, job.task, run_id, job.policy, job.catalogue)
    except (SiteError, BadData, ValueError) as error:
        raise BadSetup(str(error)) from None
    folder = Path(job.config.run.out) / run_id
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(to_toml(job.config), encoding="utf-8")
    governor = Governor()
    try:
        with shared_interpreter(), asyncio.Runner(loop_factory=lambda: governed_loop(governor)) as runner:
            return runner.run(_perform(job, parts, folder, display, governor))
    except ServeRefused as error:
        raise BadSetup(str(error)) from None


async def _perform(job: Job, parts: Parts, folder: Path, display: Display, governor: Governor) -> Grown:
    """The run, the comparison, and everything that is written at the end."""
    began = time.perf_counter()
    clock = LoopClock(asyncio.get_running_loop())
    lane = ThreadLane("training", lambda: torch.set_num_threads(job.config.run.threads))
    around = Surroundings(clock, lane, governor, random.Random(job.config.run.seed), time.perf_counter)
    with ExitStack() as stack:
        stack.callback(lane.close, LANE_CLOSES_S)
        stack.enter_context(logging_to(folder))
        journal = stack.enter_context(Journal(folder / "events.jsonl"))
        company = Company(_play(job, parts, display, journal), around)
        stopper = _Stopper(company)
        async with StopSignals(stopper.stop):
            outcome = await company.perform()
            comparison = await _compare(job, outcome, stopper, display, lane)
    ended = _ending(outcome, stopper)
    wall_s = time.perf_counter() - began
    report = _report(job, parts, outcome, comparison, ended, wall_s)
    save_grown(folder, parts.grafts, parts.engine.records(), job.config.run.workload, job.config.run.seed)
    write(report, folder, page(report))
    display.finish(report)
    return Grown(parts.model, report, folder)


class _Stopper:
    """What a stop signal ends: the run, and then the comparison behind it."""

    def __init__(self, company: Company) -> None:
        self._company = company
        self.control: Ungrown | None = None
        self.reason = ""

    def stop(self) -> None:
        self.reason = "stopped by a signal"
        if self.control is not None:
            self.control.trainer.stop()
        else:
            self._company.halt(self.reason)


async def _compare(
    job: Job, outcome: Outcome, stopper: _Stopper, display: Display, lane: ThreadLane
) -> Comparison | None:
    """The same host ungrown at equal training FLOPs, if that was asked for and the run came to its end."""
    grown = outcome.conclusion.final
    if job.fresh_task is None or grown is None or stopper.reason or outcome.conclusion.halted:
        return None
    control = stopper.control = Ungrown(job.config, job.fresh_task, grown.train_flops)
    outcome.witness.compare(control.trainer.params, grown.train_flops)
    loop = asyncio.get_running_loop()
    done: asyncio.Future[object] = loop.create_future()

    def deliver(result: object) -> None:
        loop.call_soon_threadsafe(done.set_result, result)

    lane.submit(lambda: control.run(outcome.witness.compared_epoch), deliver)
    while not (await asyncio.wait([done], timeout=DISPLAY_EVERY_S))[0]:
        display.update(outcome.witness.view())
    final = done.result()
    if isinstance(final, JobFailed):
        display.event(f"the comparison failed: {final.error}", "warning")
        return None
    if final is None:
        return None
    assert isinstance(final, FinalFigures)
    return compared(grown, final, control.epochs)


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
        policy_in_thread=parts.policy_in_thread,
    )


def _ending(outcome: Outcome, stopper: _Stopper) -> Ending:
    if outcome.conclusion.halted:
        return Ending("halted", outcome.conclusion.halted)
    if outcome.conclusion.interrupted or stopper.reason:
        return Ending("interrupted", outcome.conclusion.interrupted or stopper.reason)
    return Ending()


def _report(
    job: Job, parts: Parts, outcome: Outcome, comparison: Comparison | None, ended: Ending, wall_s: float
) -> Report:
    final = outcome.conclusion.final
    return build(
        outcome.witness.recorder.recorded,
        Closing(
            config=job.config,
            versions=versions(),
            host_params=sum(p.numel() for _, p in parts.grafts.host_named_parameters()),
            final=final_facts(final) if final is not None else _unknown(parts),
            flops=parts.trainer.ledger.accounts(),
            bus=_bus_figures(outcome),
            wall_s=wall_s,
            ended=ended,
            compare=comparison,
            run_id=parts.trainer.run_id,
        ),
    )


def _unknown(parts: Parts) -> FinalFacts:
    """What can be said of a network that could not be judged at the end."""
    return FinalFacts(None, None, None, None, parts.trainer.params, parts.trainer.ledger.spent)


def _bus_figures(outcome: Outcome) -> BusFigures:
    """The bus at the end: its depth, and by topic what was published and what became of it."""
    figures: BusFigures = {"backend": "memory", "depth_max": outcome.bus.depth_max}
    for row in outcome.bus.groups:
        if row.ledger.published:
            figures[f"{row.topic}/{row.group}/{row.lane.value}"] = {
                name: value
                for name, value in msgspec.structs.asdict(row.ledger).items()
                if isinstance(value, int | float)
            }
    return figures
