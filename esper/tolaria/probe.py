"""Probing: what each contender would be worth, measured on forks and not predicted.

All forks start from the same weights and optimizer state and see the same batches, drawn from a
generator of the probe's own; an ungrown control among them tells what the host alone would have
learned. Rounds of successive halving (Jamieson and Talwalkar, AISTATS 2016) train the better ones on.
The live run is read once a fork and not written: it goes on bit for bit as if nothing had been probed.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import torch
from torch import Tensor

from contracts.growth import Candidate, Contender, ProbePlan, ProbeReport, ProbeScore, SiteInfo
from esper.tolaria.entries import Entry, build_entries, checked
from esper.tolaria.fork import Build, Fork, Original
from esper.tolaria.loader import Loader, LoaderState
from esper.tolaria.randomness import Stream, generator_for
from esper.tolaria.task import Tensors

PRICE_RESERVE = 2
"""Steps of the original that have to be left for a fork to be made: one with a graft takes more than one."""


@dataclass(frozen=True)
class Bench:
    """What a probe works with. `seed` is the run's."""

    original: Original
    sites: Mapping[str, SiteInfo]
    step_flops: int
    """Of a step of the original."""
    train: Tensors
    validation: Tensors
    batch_size: int
    build: Build
    seed: int
    flops_max: float
    """No fork is trained that would take the probe beyond this; none is made with less than
    `PRICE_RESERVE` steps of the original left, since pricing it takes a step."""
    goes_on: Callable[[], bool]
    """Asked before each step; once it says no, the report holds what was measured until then."""
    tell: Callable[[int, int], None]
    """Told how many forks of how many have been trained, rounds counted apart."""


class _Stopped(Exception):
    """Somebody asked to stop while a fork was trained: it has no score."""


@dataclass
class _Runner:
    """One contender, its fork and its newest score."""

    contender: Contender
    order: int
    fork: Fork
    score: ProbeScore | None = None


@dataclass
class Probe:
    """One probe as it runs; `run()` once.

    Raises:
        PlanRefused: the plan is none, or none that can be carried out; no fork has been made then.
    """

    bench: Bench
    plan: ProbePlan
    flops: int = 0
    at: Contender | None = None
    """Whose fork is made or trained now; None for the control's. Read from any thread."""
    _forks_done: int = 0
    _scores: dict[int, ProbeScore] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checked(self.plan, self.bench.sites)
        self._entries = build_entries(self.plan, self.bench.sites, self.bench.build, self._stream_of)
        keeps = [len(self.plan.contenders), *(r.keep for r in self.plan.rounds)]
        self._forks_total = sum(1 + keep for keep in keeps[:-1])
        self._loader = Loader(self.bench.train, self.bench.batch_size, self._generator("batches"))
        self._data = self.bench.validation.first(self.plan.validation_examples)

    def run(self, epoch: int, timer: Callable[[], float]) -> ProbeReport:
        """Train and score the forks, round by round.

        Returns:
            The scores of every contender that was trained at all, the longest-trained first, by loss
            within a round; a contender that dropped out keeps the score of its last round.
        """
        started = timer()
        with suppress(_Stopped):
            self._race()
        return self._report(epoch, timer() - started)

    def _race(self) -> None:
        """The rounds, as far as they come.

        Raises:
            _Stopped: on the way.
        """
        runners: Iterable[_Runner] = self._first()
        control: Fork | None = None
        for round_ in self.plan.rounds:
            start, self.at = self._loader.state(), None
            if control is None:
                if not self._may_price():
                    break
                control = self._fork()
            if not self._may_go_on(control, round_.steps):
                break
            loss_control = self._trained(control, round_.steps, start)
            kept: list[_Runner] = []
            for runner in runners:
                if not self._may_go_on(runner.fork, round_.steps):
                    return
                self._score(runner, round_.steps, start, loss_control)
                kept = sorted([*kept, runner], key=_rank)[: round_.keep]  # a fork that drops out is freed
            runners = kept

    def _may_go_on(self, fork: Fork, steps: int) -> bool:
        """Whether there are FLOPs left for `steps` steps of `fork`, and nobody has asked to stop.

        A forward pass is at most half of a step.
        """
        cost = steps * fork.step_flops
        if self.plan.judged_by == "validation":
            cost += fork.step_flops * len(self._data) // (2 * self._loader.batch_size)
        return self.flops + cost <= self.bench.flops_max and self.bench.goes_on()

    def _first(self) -> Iterator[_Runner]:
        """The contenders' forks, each made when it is its turn, while there is enough left to price it."""
        for order, (contender, entry) in enumerate(zip(self.plan.contenders, self._entries, strict=True)):
            if not self._may_price():
                return
            self.at = contender
            yield _Runner(contender, order, self._fork(entry))

    def _may_price(self) -> bool:
        return self.flops + PRICE_RESERVE * self.bench.step_flops <= self.bench.flops_max

    def _fork(self, entry: Entry = ()) -> Fork:
        """A fork with a contender's modules in it, priced; without any it is the control."""
        fork = Fork(self.bench.original, self.plan.rate_multiplier, self._stream())
        for site, module in entry:
            fork.graft(site, module)
        self.flops += fork.price(*self._loader.example())
        return fork

    def _trained(self, fork: Fork, steps: int, start: LoaderState) -> float:
        """Train a fork on the round's batches; its loss afterwards."""
        self._loader.restore(start)
        before = len(fork.losses)
        try:
            fork.train(self._batches(steps))
        finally:
            self.flops += (len(fork.losses) - before) * fork.step_flops
        self._forks_done += 1
        self.bench.tell(self._forks_done, self._forks_total)
        if self.plan.judged_by == "training":
            return fork.training_loss(steps)
        loss, flops = fork.validation_loss(self._data)
        self.flops += flops
        return loss

    def _batches(self, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in self._loader.batches(steps):
            if not self.bench.goes_on():
                raise _Stopped
            yield batch

    def _score(self, runner: _Runner, steps: int, start: LoaderState, loss_control: float) -> None:
        self.at = runner.contender
        loss = self._trained(runner.fork, steps, start)
        taken = len(runner.fork.losses)
        runner.score = ProbeScore(runner.contender, loss, loss_control, taken, runner.fork.step_flops)
        self._scores[runner.order] = runner.score

    def _generator(self, purpose: str) -> torch.Generator:
        return generator_for(self.bench.seed, f"probe/{self.plan.probe_id}/{purpose}")

    def _stream_of(self, graft: Candidate) -> torch.Generator:
        """A candidate's own stream of initial values."""
        settings = ",".join(f"{name}={value:g}" for name, value in sorted(graft.parameters.items()))
        return self._generator(f"{graft.site}/{graft.blueprint_id}/{settings}")

    def _stream(self) -> Stream:
        return Stream(self.bench.seed, f"probe/{self.plan.probe_id}/stream")

    def _report(self, epoch: int, wall_s: float) -> ProbeReport:
        scores = tuple(sorted(self._scores.values(), key=lambda score: (-score.steps, score.loss)))
        return ProbeReport(self.plan.probe_id, epoch, scores, self.flops, wall_s)


def _rank(runner: _Runner) -> tuple[float, int]:
    assert runner.score is not None
    return runner.score.loss, runner.order
