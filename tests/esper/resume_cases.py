"""The runs that `resume_rig` kills: hosts, policies and ways in, and the one that meets everything."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from unittest.mock import patch

from actors.keeping import Keeper, Wrote
from esper.karn.catalogue import CATALOGUE
from esper.moment import Moment
from esper.session import grow
from esper.tolaria.results import EpochResult
from esper.tolaria.task import Task, Tensors, class_accuracy
from esper.tolaria.trainer import Trainer
from esper.workloads.registry import find_workload
from tests.esper import troubles
from tests.esper.tolaria.runs import WITH_RESTLESS, Eager
from tests.hosts import HOSTS, loss_fn

WRITTEN_S = 100.0
"""Longest wait for a checkpoint to be written."""
PATIENT = (
    "emergency.loop_stall_s=60",
    "emergency.step_stall_s=600",
    "emergency.hang_s=0",
    "emergency.disk_free_mb=0",
)
"""A busy machine may not decide anything: a decision that comes late would be another decision."""
SETTINGS = (
    *PATIENT,
    "budgets.tamiyo_inference_ms=60000",
    "budgets.epoch_boundary_ms=60000",
    "kernels.prefetch=false",
    "checkpoint.every_s=0",
    "growth.embargo_epochs=2",
    "growth.max_stage=2",
    "growth.gates.interface_loss_ratio_max=2.0",
    "growth.guard.graft_ms=0",
    "growth.guard.change_ms=0",
)
LONG_WAY = (
    "growth.path.training_epochs=2",
    "growth.path.blending_epochs=2",
    "growth.path.shadowing_epochs=2",
    "growth.path.probation_epochs=3",
)
SHORT_WAY = ("growth.path.probation_epochs=3",)
RICH = (
    "tamiyo.heuristic.race_at=0.1",
    "tamiyo.heuristic.kind_shares=[0.5, 0.3]",
    "tamiyo.heuristic.site_share=0.3",
    "tamiyo.heuristic.latest=0.9",
)
"""So that the heuristic can race blueprints on so short a run: it grows nothing otherwise."""
LENIENT = (
    "growth.gates.rms_ratio_max=1e6",
    "growth.gates.gain_min=0",
    "growth.gates.grad_norm_min=0",
)
"""So that seeds come as far as the policy takes them."""


class Case(Protocol):
    """One kind of run."""

    @property
    def name(self) -> str: ...
    def play(self, out: Path, resume: Path | None) -> None:
        """The whole run, or the rest of it, in this process."""


class Culling(Eager):
    """Takes a seed into the host, and others out; it decides by the view alone."""

    def memory(self) -> bytes:
        return b""

    def take_over(self, memory: bytes) -> None:
        assert memory == b""


@dataclass(frozen=True)
class Grown:
    """What is trained, who decides, by which way seeds come in."""

    name: str
    host: int
    """Number of the host in `HOSTS`; -1 is the workload MNIST-1D."""
    policy: str
    """One of Esper's own, or "culling"."""
    settings: tuple[str, ...]
    epochs: int

    def task(self) -> Task:
        if self.host < 0:
            return find_workload("mnist1d").task(0)
        host = HOSTS[self.host]
        train, validation, test = (
            Tensors(*host.batch(size, seed)) for seed, size in enumerate((240, 80, 40))
        )
        return Task(host.model(), train, validation, test, loss_fn, class_accuracy)

    def sites(self) -> list[str]:
        if self.host < 0:
            return list(find_workload("mnist1d").sites)
        return list(HOSTS[self.host].sites)

    def play(self, out: Path, resume: Path | None) -> None:
        culls = self.policy == "culling"
        grow(
            self.task(),
            sites=self.sites(),
            epochs=self.epochs,
            settings=(
                *SETTINGS, *self.settings, f"run.policy={'none' if culls else self.policy}", f"run.out={out}",
            ),
            policy=Culling() if culls else None,
            catalogue=WITH_RESTLESS if culls else CATALOGUE,
            resume=resume,
        )  # fmt: skip


class Troubled:
    """The run that meets everything; each epoch waits for the checkpoint of the last one."""

    name = "troubled"

    def play(self, out: Path, resume: Path | None) -> None:
        task = troubles.task()
        settings = (*troubles.SETTINGS, *PATIENT, "checkpoint.keep=6", f"run.out={out}")
        with troubles.operated(), unhurried():
            grow(
                task,
                sites=troubles.HOST.sites,
                epochs=troubles.EPOCHS,
                max_params=troubles.PARAMS_MAX,
                policy=troubles.Scripted(),
                settings=settings,
                catalogue=troubles.catalogue(task.model),
                resume=resume,
            )


@contextmanager
def unhurried() -> Iterator[None]:
    """No epoch begins before the newest moment is on disk."""
    keep, wrote, run_epoch = Keeper.keep, Keeper.wrote, Trainer.run_epoch
    settled, newest = threading.Condition(), [0, 0]

    def kept(self: Keeper, moment: Moment) -> None:
        keep(self, moment)
        newest[0] = moment.epoch

    def written(self: Keeper, outcome: Wrote) -> None:
        wrote(self, outcome)
        with settled:
            newest[1] = outcome.epoch
            settled.notify_all()

    def trained(self: Trainer) -> EpochResult:
        with settled:
            assert settled.wait_for(lambda: newest[0] in (0, newest[1]), WRITTEN_S)
        return run_epoch(self)

    with ExitStack() as stack:
        for owner, name, instead in (
            (Keeper, "keep", kept), (Keeper, "wrote", written), (Trainer, "run_epoch", trained),
        ):  # fmt: skip
            stack.enter_context(patch.object(owner, name, instead))
        yield


def cases() -> Iterator[Case]:
    """Every host with the policies that grow, seeds taking the long way and the short one."""
    small = ("train.epoch_steps=6", "train.batch_size=20")
    for number, host in enumerate(HOSTS):
        yield Grown(f"{host.name}, random, long way", number, "random", (*small, *LONG_WAY), 26)
        yield Grown(f"{host.name}, culling", number, "culling", (*small, *LENIENT), 26)
    yield Grown(
        "mnist1d, heuristic, short way", -1, "heuristic", (*SHORT_WAY, *RICH, "train.epoch_steps=20"), 30
    )
    yield Grown(
        "mnist1d, heuristic, long way", -1, "heuristic", (*LONG_WAY, *RICH, "train.epoch_steps=20"), 30
    )
    yield Grown("mnist1d, none", -1, "none", ("train.epoch_steps=10",), 20)
