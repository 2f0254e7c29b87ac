"""The trial of a module on a copy of the live host: what can be checked before it comes near the host.

Run in a process that can do nothing else: a module that hangs, eats memory or forks is that process's
trouble, and is watched from outside. What is checked here is what only the inside can see:

    step      shadow pass ─ joint pass ─ the same pass twice ─ one update of the module
    always    finite · gradients of the host's order, the module's own and the host's
              equal inputs, equal bits · the host bit for bit as in a list frozen before the graft
              no threads left running · no try to start a process or to reach the network
    at last   memory

Gradients are compared with the host's own on the same mini-batch.
"""

import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from resource import getpagesize

import torch
from torch import Tensor, nn

from contracts.growth import SiteInfo
from esper.drill.report import Trial, TrialReport, TrialTerms
from esper.karn.catalogue import Catalogue
from esper.karn.permission import DrillPermission
from esper.kasmina.aside import spared_buffers
from esper.kasmina.footprint import same_bits
from esper.kasmina.gauge import jump_of
from esper.kasmina.graft import Grafts
from esper.kasmina.isolation import IsolationMonitor
from esper.kasmina.purity import IMPURE, WRITES
from esper.kasmina.shadow import LossFn, ShadowPath, gradients_of
from esper.kasmina.stream import RandomStream

SEED_ID = "trial#0"
STREAM_SEED = 0


@dataclass(frozen=True)
class Subject:
    """The copy of the host, and what it is trained with."""

    model: nn.Module
    sites: tuple[SiteInfo, ...]
    loss_fn: LossFn
    batches: Sequence[tuple[Tensor, Tensor]]


class Failed(Exception):
    """The module did not hold a check."""

    def __init__(self, check: str, reason: str) -> None:
        super().__init__(reason)
        self.check = check


@dataclass(frozen=True)
class Watchman:
    """What is looked at of the process itself."""

    seconds: Callable[[], float] = time.perf_counter
    resident_bytes: Callable[[], int] = lambda: _resident_bytes()
    refused: Callable[[], int] = lambda: 0
    """Tries to start a process or to reach the network that were refused so far."""


def undergo(
    trial: Trial,
    subject: Subject,
    catalogue: Catalogue,
    watchman: Watchman,
    tell: Callable[[int], None] = lambda step: None,
) -> TrialReport:
    """Try the module of `trial` on `subject`, which is not changed if it passes.

    `tell` hears of each completed step, so that whoever waits knows how far a module came that never ends.

    Raises:
        UnknownBlueprint, BlueprintError, GraftError: there is no such module, or no such site.
    """
    course = _Course(trial, subject, catalogue, watchman)
    done = 0
    try:
        course.begin()
        while done < trial.terms.steps:
            course.step(done)
            done += 1
            tell(done)
        course.end()
    except Failed as failed:
        return TrialReport(False, done, failed.check, str(failed), course.told())
    except Exception as error:  # noqa: BLE001 - whatever the module raises is what the trial finds
        return TrialReport(False, done, "error", f"{type(error).__name__}: {error}", course.told())
    return TrialReport(True, done, figures=course.told())


class _Course:
    """One trial under way."""

    def __init__(self, trial: Trial, subject: Subject, catalogue: Catalogue, watchman: Watchman) -> None:
        self.terms: TrialTerms = trial.terms
        self.subject, self.watchman = subject, watchman
        self.figures: dict[str, float] = {}
        model = subject.model
        model.train()
        self.frozen = [(name, tensor, tensor.detach().clone()) for name, tensor in _tensors(model)]
        self.learned = [p for p in model.parameters() if p.requires_grad]
        self.named = [name for name, p in model.named_parameters() if p.requires_grad]
        self.threads = set(sys._current_frames())
        self.refused = watchman.refused()
        self.grafts = Grafts(model, subject.sites)
        design = trial.spec.design
        generator = torch.Generator().manual_seed(trial.spec.draw)
        blueprint = catalogue.get(design.blueprint_id)
        self.module = blueprint.build(design.site, design.parameters, generator, DrillPermission())
        self.grafts.insert(SEED_ID, trial.site, self.module)
        self.monitor = IsolationMonitor(self.grafts)
        self.path = ShadowPath(self.grafts, SEED_ID, subject.loss_fn, RandomStream(STREAM_SEED, SEED_ID))
        self.own = [p for p in self.module.parameters() if p.requires_grad]
        self.resident = 0

    def told(self) -> dict[str, float]:
        """The figures that JSON can say."""
        return {name: value for name, value in self.figures.items() if math.isfinite(value)}

    def begin(self) -> None:
        if not self.own:
            raise Failed("start", "it has no parameters: there is nothing that it could learn")
        self.optimizer = torch.optim.Adam(self.own, lr=self.terms.learning_rate)
        jump = jump_of(self.grafts, SEED_ID, self.subject.batches[0][0])
        if jump is None:
            raise Failed("start", "it does not keep the shape or the type of its input")
        self.figures["jump"] = jump
        if not jump <= self.terms.jump_max:
            raise Failed("start", f"the host's output changes by {jump:.3g} of itself when it is put in")

    def step(self, number: int) -> None:
        inputs, targets = self.subject.batches[number % len(self.subject.batches)]
        began = self.watchman.seconds()
        self.optimizer.zero_grad()
        own = self._shadow_pass(inputs, targets)
        self._judge_gradients(own, inputs, targets)
        self._repeat(inputs)
        self.optimizer.step()
        self._look_around()
        taken = self.figures["step_s"] = self.watchman.seconds() - began
        if taken > self.terms.step_s_max:
            raise Failed("time", f"a step took {taken:.2f} s; it may take {self.terms.step_s_max:g}")
        if number == 0:
            self.resident = self.watchman.resident_bytes()

    def end(self) -> None:
        growth = max(0, self.watchman.resident_bytes() - self.resident)
        self.figures["growth_bytes"] = growth
        if growth > self.terms.growth_bytes_max:
            raise Failed("memory", f"it holds {growth / 2**20:.0f} MiB more than after its first step")

    def _shadow_pass(self, inputs: Tensor, targets: Tensor) -> float:
        """L2 norm of the module's gradient, which it is left with."""
        with self.monitor.watching(SEED_ID, inputs, targets, exact=True, strict=True):
            result = self.path.backward(inputs, targets)
        if self.monitor.violations(SEED_ID):
            what = self.monitor.newest[-1].what
            raise Failed("input" if what == WRITES else "host", what)
        self.figures |= {"loss": result.loss, "rms_ratio": result.rms_ratio, "own_gradient": result.grad_norm}
        if not result.finite:
            raise Failed("finite", "its output, its gradient or the loss is not finite")
        return result.grad_norm

    def _judge_gradients(self, own: float, inputs: Tensor, targets: Tensor) -> None:
        alone = self._host_gradients(inputs, targets)
        with self.grafts.with_(SEED_ID):
            beside = self._host_gradients(inputs, targets)
        whole = math.hypot(*alone)
        terms = self.terms
        if whole > 0.0:
            share = self.figures["own_gradient_ratio"] = own / whole
            if not terms.own_gradient_min <= share <= terms.own_gradient_max:
                raise Failed(
                    "gradient",
                    f"its own gradient is {share:.3g} of the host's; it may be "
                    f"{terms.own_gradient_min:g} to {terms.own_gradient_max:g}",
                )
        for name, before, after in zip(self.named, alone, beside, strict=True):
            share = after / before if before > 0.0 else 1.0
            if not terms.host_gradient_min <= share <= terms.host_gradient_max:
                raise Failed(
                    "gradient",
                    f"{name} gets {share:.3g} of the gradient that it gets without it; it may be "
                    f"{terms.host_gradient_min:g} to {terms.host_gradient_max:g}",
                )

    def _host_gradients(self, inputs: Tensor, targets: Tensor) -> list[float]:
        """L2 norm of each host tensor's gradient, in the order of `learned`; nothing is left behind."""
        with (
            RandomStream(STREAM_SEED, "joint").flowing(),
            spared_buffers(tuple(self.grafts.model.modules())),
            torch.enable_grad(),
        ):
            loss = self.subject.loss_fn(self.grafts.model(inputs), targets)
            gradients = gradients_of(loss, self.learned)
        return [0.0 if g is None else float(torch.linalg.vector_norm(g)) for g in gradients]

    def _repeat(self, inputs: Tensor) -> None:
        one, other = (self._output(inputs) for _ in range(2))
        if not same_bits(one, other):
            raise Failed("repeat", IMPURE)

    def _output(self, inputs: Tensor) -> Tensor:
        with (
            RandomStream(STREAM_SEED, "repeat").flowing(),
            spared_buffers(tuple(self.grafts.model.modules())),
            torch.no_grad(),
            self.grafts.with_(SEED_ID),
        ):
            outputs: Tensor = self.grafts.model(inputs)
        return outputs

    def _look_around(self) -> None:
        """The host, threads, and what was refused."""
        for name, tensor, kept in self.frozen:
            if not same_bits(tensor.detach(), kept):
                raise Failed("host", f"{name} of the host was changed")
        left = set(sys._current_frames()) - self.threads
        if left:
            raise Failed("thread", f"it left {len(left)} threads running")
        tried = self.watchman.refused() - self.refused
        if tried:
            raise Failed("escape", f"it tried {tried} times to start a process or to reach the network")


def _tensors(model: nn.Module) -> list[tuple[str, Tensor]]:
    """All of the host's, by name, each once."""
    return [*model.named_parameters(), *model.named_buffers()]


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * getpagesize()
