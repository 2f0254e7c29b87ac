"""Watches what a command did until its window closes, and writes the field report.

Credit is the counterfactual gain of the seed that the command touched, never the host's own drift:
a command that touched no seed is neutral whatever the loss did meanwhile.
"""

import msgspec

from contracts.control import Decided
from contracts.growth import GrowthView, SeedView
from contracts.messages import CommandSeedOperation, FieldReport, FieldReportOutcome, SystemState, WallNs

GAIN_THAT_COUNTS = 0.002
"""Share of the validation loss that a gain has to reach, either way, to be more than neutral."""


class Window(msgspec.Struct, frozen=True):
    """A command under observation, since the epoch of its boundary."""

    decided: Decided
    opened: int


class ObservationMemory(msgspec.Struct, frozen=True):
    """The windows that are open, and how many reports were written."""

    windows: tuple[Window, ...] = ()
    written: int = 0


class Observation:
    """Open windows of the newest commands: one a boundary, so at most `window_epochs` are open."""

    def __init__(self, run_id: str, policy_version: str, window_epochs: int) -> None:
        self._run_id = run_id
        self._version = policy_version
        self._epochs = window_epochs
        self._windows: list[Window] = []
        self._written = 0

    def watch(self, decided: Decided, now_ns: WallNs) -> tuple[FieldReport, ...]:
        """Reports on the windows that end at this boundary; then this boundary's own window opens."""
        epoch = decided.view.epoch
        due = [window for window in self._windows if epoch - window.opened >= self._epochs]
        self._windows = [window for window in self._windows if epoch - window.opened < self._epochs]
        self._windows.append(Window(decided, epoch))
        return tuple(self._full(window, decided.state, decided.view, now_ns) for window in due)

    def close(self, state: SystemState, view: GrowthView, now_ns: WallNs) -> tuple[FieldReport, ...]:
        """Reports on every open window, because the run ends.

        Their ids are their own: a run that is taken up again reports on the same windows once they are full.
        """
        windows, self._windows = self._windows, []
        return tuple(
            self._report(window, state, view, now_ns, f"cut{state.global_step}-{number}")
            for number, window in enumerate(windows, start=1)
        )

    def remember(self) -> ObservationMemory:
        """What the next reports depend on."""
        return ObservationMemory(tuple(self._windows), self._written)

    def recall(self, memory: ObservationMemory) -> None:
        """Go on from what `remember` gave; the ids of reports that were written are not used again."""
        self._windows = list(memory.windows)
        self._written = max(self._written, memory.written)

    def _full(self, window: Window, state: SystemState, view: GrowthView, now_ns: WallNs) -> FieldReport:
        """The report on a window that has come to its end."""
        self._written += 1
        return self._report(window, state, view, now_ns, f"r{self._written}")

    def _report(
        self, window: Window, state: SystemState, view: GrowthView, now_ns: WallNs, name: str
    ) -> FieldReport:
        then, seed = window.decided, _seed_of(window, view)
        payload = then.command.payload
        blueprint = payload.blueprint_id if isinstance(payload, CommandSeedOperation) else ""
        metrics = {
            "loss_delta": state.validation_loss - then.state.validation_loss,
            "accuracy_delta": state.validation_accuracy - then.state.validation_accuracy,
            "params_delta": float(view.params - then.view.params),
            "gflop": (view.spent_flops - then.view.spent_flops) / 1e9,
        }
        if seed is not None and seed.gain is not None:
            metrics["gain"] = seed.gain
        return FieldReport(
            report_id=f"{self._run_id}-{name}",
            command_id=then.command.command_id,
            training_run_id=self._run_id,
            seed_id=seed.record.seed_id if seed is not None else then.command.target_seed_id,
            blueprint_id=seed.record.blueprint_id if seed is not None else blueprint,
            outcome=_outcome(then.applied, metrics.get("gain"), state.validation_loss),
            metrics=metrics,
            observation_window_epochs=view.epoch - window.opened,
            issued_at=now_ns,
            tamiyo_policy_version=self._version,
            notes=then.reason,
        )


def _outcome(applied: bool, gain: float | None, loss: float) -> FieldReportOutcome:
    if not applied:
        return FieldReportOutcome.ABORTED
    if gain is None or abs(gain) < GAIN_THAT_COUNTS * abs(loss):
        return FieldReportOutcome.NEUTRAL
    return FieldReportOutcome.SUCCESS if gain > 0 else FieldReportOutcome.REGRESSION


def _seed_of(window: Window, view: GrowthView) -> SeedView | None:
    """The seed that the command named, or the newest one at the site where it germinated one."""
    command = window.decided.command
    site_name, seed_id = command.annotations.get("site", ""), command.target_seed_id
    for site in view.sites:
        seeds = (*site.fossils, site.seed) if site.seed is not None else site.fossils
        for seed in reversed(seeds):
            if seed_id and seed.record.seed_id == seed_id:
                return seed
            if not seed_id and site.site.name == site_name and seed.record.born_epoch >= window.opened:
                return seed
    return None
