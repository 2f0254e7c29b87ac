"""The library face: a whole run from Python, and what `python -m esper.run` calls.

from esper.session import grow
grown = grow(task, sites=["relu1", "relu2"], gflop=2.0, max_params=5_000)
grown.model, grown.report.final.test_accuracy, grown.folder / "report.html"
"""

import dataclasses
import os
import shutil
import signal
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime
from pathlib import Path

from msgspec.structs import replace
from torch import nn
from torch.nn.parameter import is_lazy

from actors.display import Display, Silent
from actors.nissa.http import ServeRefused, listen
from actors.oona.open import Door, try_door
from actors.perform import NoBus, Script, perform
from actors.pipeline import Pipeline
from actors.runtime.governor import Governor
from actors.runtime.own_loop import run_on_own_loop
from contracts.address import masked
from contracts.config import Config
from contracts.report import Ending, Report
from esper.assembly import Parts, assemble_parts
from esper.errors import BadSetup
from esper.folder import check_folder, check_left, name_of, with_name
from esper.karn import source
from esper.karn.catalogue import CATALOGUE, Catalogue
from esper.karn.source import NotImportable, absolute, own_in, source_of
from esper.kernels import kernel_store
from esper.place import Place, new_place, old_place
from esper.settings import ConfigError, load
from esper.tamiyo.policy import Policy
from esper.tolaria.task import Task
from esper.tolaria.trial import try_out
from esper.workloads.registry import UnknownWorkload, find_workload


@dataclasses.dataclass(frozen=True)
class Grown:
    """What came of a run."""

    model: nn.Module
    """The task's own, as it is now: grown as far as the run came."""
    report: Report
    """`report.ended` says whether it finished."""
    folder: Path
    """Holds report.json, report.html, events.jsonl, config.toml, the model and the checkpoints."""


@dataclasses.dataclass(frozen=True)
class Job:
    """What is to be run; `fresh_task` makes the same task anew for the comparison."""

    config: Config
    task: Task
    fresh_task: Task | None
    policy: Policy | None = None
    catalogue: Catalogue = CATALOGUE
    resume: Path | None = None
    """The folder of the run to go on with; None begins a new one."""
    name: str = ""
    """What a new run's folder is called; empty if that is not said yet."""


def run(config: Config, display: Display, folder: Path, *, resume: bool) -> Ending:
    """Run a configured workload and leave its `folder`, or go on in it.

    Raises:
        BadSetup: nothing was written.
        CannotWrite: the run is over, and its folder is not complete.
    """
    try:
        workload = find_workload(config.run.workload)
    except UnknownWorkload as error:
        raise BadSetup(str(error)) from None
    there = folder if resume else None
    config = at_home(workload.complete(config), there)
    check_places(config, there)
    catalogue = with_own(CATALOGUE, config)
    task = workload.task(config.run.seed)
    again = workload.task(config.run.seed) if config.run.compare else None
    job = Job(config, task, again, catalogue=catalogue, resume=there, name=folder.name)
    return play(job, display).report.ended


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
    resume: Path | str | None = None,
) -> Grown:
    """Grow a model of one's own; `task.model` is changed in place.

    Args:
        task: the model and its data; its own optimizer and scheduler too, where it has some.
        sites: where it may grow: module names or suffixes, or one regular expression.
        epochs: length in epochs; or `gflop`, in training GFLOP. One of them.
        max_params: parameters of the grown network at most; three times the host's if not given.
        policy: who decides, if it is none of Esper's own.
        settings: more settings as `section.key=value`, as for `--set`.
        display: who is told how it goes; nobody if not given.
        catalogue: the blueprints on offer; those of `growth.blueprints` come to them.
        resume: the folder of a run that was broken off, to go on with from its newest checkpoint; the task,
            the policy and the settings have to be those that it began with.

    Returns:
        What came of it, also of a run that was cut short: `report.ended.kind` is "finished", "interrupted"
        (Ctrl-C) or "halted" (an emergency, an error of the task's own code), and `report.ended.reason` says
        why. Figures of `report.final` are None where the network could not be judged any more.

    Raises:
        BadSetup: it can't begin as asked; a ValueError. Nothing was written and nothing grown.
        CannotWrite: the folder is not complete: the message says what is missing, and by then the model has
            grown, unless it says that the journal could not be opened.
        KeyboardInterrupt: Ctrl-C again before it had ended, or once beside a running loop (a notebook), where
            the first can't be caught. `resume` goes on from the newest checkpoint.
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
    folder = Path(resume) if resume is not None else None
    config = at_home(config, folder)
    job = Job(config, task, None, policy, with_own(catalogue, config), folder)
    return play(job, display or Silent())


def play(job: Job, display: Display) -> Grown:
    """Run `job` on an event loop of its own, from start to report; from any thread, beside any loop.

    Raises:
        BadSetup: nothing was written.
        CannotWrite: the run is over, and its folder is not complete.
    """
    way = try_door(job.config.run.bus, os.environ)
    job = dataclasses.replace(job, config=without_password(job.config))
    check_places(job.config, job.resume)
    with ExitStack() as stack:
        try:
            try_out(job.task)
            place = stack.enter_context(_place(job))
        except ValueError as error:  # of the data, the sites, the model's fit
            raise BadSetup(str(error)) from error
        except OSError as error:
            raise BadSetup(f"run.out {job.config.run.out}: {error.strerror}; give another folder") from None
        return _performed(job, place, way, display)


def _place(job: Job) -> AbstractContextManager[Place]:
    def assemble(run_id: str) -> Parts:
        return assemble_parts(job.config, job.task, run_id, job.policy, job.catalogue)

    if job.resume is not None:
        return old_place(job.resume, job.config, assemble)
    return new_place(Path(job.config.run.out), _name(job), job.config, assemble)


def _performed(job: Job, place: Place, way: Door, display: Display) -> Grown:
    """Raises BadSetup if it could not begin: a folder that is new is gone then."""
    governor, again = Governor(), signal.getsignal(signal.SIGINT)
    pipeline = _pipeline(job, place.parts)
    script = Script(place, job.fresh_task, pipeline, way, display, governor, again)
    try:
        report = run_on_own_loop(governor, lambda: perform(script))
    except (ServeRefused, NoBus) as error:
        if job.resume is None:
            shutil.rmtree(place.folder)
        raise BadSetup(str(error)) from None
    return Grown(place.parts.model, report, place.folder)


def check_places(config: Config, resume: Path | None) -> None:
    """See that a run's folder can be made, or is there to be taken up; its kernel store and its port be had.

    Raises:
        BadSetup: one of them can't.
    """
    if resume is None:
        check_folder(Path(config.run.out))
    else:
        check_left(resume)
    if config.kernels.prefetch:
        kernel_store(config.kernels)
    if config.serve.enabled:
        try:
            listen(config.serve.host, config.serve.port).close()
        except ServeRefused as error:
            raise BadSetup(str(error)) from None


def with_own(catalogue: Catalogue, config: Config) -> Catalogue:
    """The catalogue with the blueprints of the user's own that the configuration names.

    Raises:
        BadSetup: they can't be had.
    """
    try:
        return source.with_own(catalogue, config.growth.blueprints)
    except ValueError as error:
        raise BadSetup(f"growth.blueprints: {error}") from None


def at_home(config: Config, resume: Path | None) -> Config:
    """The same with places that hold from anywhere; a run that goes on does so where its folder lies now,
    which may have been moved."""
    blueprints = tuple(map(absolute, config.growth.blueprints))
    config = replace(config, growth=replace(config.growth, blueprints=blueprints))
    if resume is None:
        return config
    return replace(config, run=replace(config.run, out=str(with_name(resume).parent)))


def without_password(config: Config) -> Config:
    """The same configuration as others may see it."""
    return replace(config, run=replace(config.run, bus=masked(config.run.bus)))


def _name(job: Job) -> str:
    """What the run's folder is called, unless that was said before."""
    run = job.config.run
    policy = run.policy if job.policy is None else job.policy.name
    return job.name or name_of(run.workload, policy, run.seed, datetime.now(UTC))


def _room(model: nn.Module) -> int:
    """Parameters that a grown network may have if nothing is said: three times the host's."""
    return 3 * sum(parameter.numel() for parameter in model.parameters() if not is_lazy(parameter)) or 1


def _pipeline(job: Job, parts: Parts) -> Pipeline | None:
    """None if nothing is to be compiled ahead."""
    config = job.config.kernels
    if not config.prefetch:
        return None
    folder = kernel_store(config)
    approved = frozenset(job.config.growth.approved)
    sources = {}
    for blueprint in own_in(job.catalogue):
        try:
            sources[blueprint.blueprint_id] = source_of(blueprint)
        except NotImportable as error:
            parts.stock.built_here[blueprint.blueprint_id] = str(error)
    return Pipeline(folder, config, job.catalogue, approved, parts.stock, sources)
