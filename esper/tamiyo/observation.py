"""Watches what a command did until its window closes, and writes the field report.

Credit is the counterfactual gain of the seed that the command touched, never the host's own drift:
a command that touched no seed is neutral whatever the loss did meanwhile.
"""

import msgspec

from contracts.growth import GrowthView, SeedView
from contracts.messages import (
    AdaptationCommand,
    CommandSeedOperation,
    FieldReport,
    FieldReportOutcome,
    SystemState,
    WallNs,
)

GAIN_THAT_COUNTS = 0.002
"""Share of the validation loss that a gain has to reach, either way, to be more than neutral."""


class _Window(msgspec.Struct):
    """A command under observation, with the figures at its issue."""

    command: AdaptationCommand
    opened: int
    loss: float
    accuracy: float
    params: int
    spent_flops: int
    applied: bool | None = None
    reason: str = ""
    seed_id: str = ""


class Observation:
    """Open windows of the newest commands; at most one a boundary, so at most `window_epochs` are open."""

    def __init__(self, run_id: str, policy_version: str, window_epochs: int) -> None:
        self._run_id = run_id
        self._version = policy_version
        self._epochs = window_epochs
        self._windows: list[_Window] = []
        self._written = 0

    def open(self, command: AdaptationCommand, state: SystemState, view: GrowthView) -> None:
        """Begin to watch `command`."""
        window = _Window(
            command,
            view.epoch,
            state.validation_loss,
            state.validation_accuracy,
            view.params,
            view.spent_flops,
        )
        window.seed_id = command.target_seed_id
        self._windows.append(window)

    def judge(self, command_id: str, applied: bool, reason: str) -> None:
        """Note what became of a command that is being watched."""
        for window in self._windows:
            if window.command.command_id == command_id:
                window.applied, window.reason = applied, reason

    def close_due(self, state: SystemState, view: GrowthView, now_ns: WallNs) -> tuple[FieldReport, ...]:
        """Reports on the windows that end at this epoch; they are forgotten afterwards."""
        due = [window for window in self._windows if view.epoch - window.opened >= self._epochs]
        self._windows = [window for window in self._windows if view.epoch - window.opened < self._epochs]
        return tuple(self._report(window, state, view, now_ns) for window in due)

    def close_all(self, state: SystemState, view: GrowthView, now_ns: WallNs) -> tuple[FieldReport, ...]:
        """Reports on every open window, because the run ends."""
        windows, self._windows = self._windows, []
        return tuple(self._report(window, state, view, now_ns) for window in windows)

    def _report(self, window: _Window, state: SystemState, view: GrowthView, now_ns: WallNs) -> FieldReport:
        command = window.command
        seed = _seed_of(window, view)
        metrics = {
            "loss_delta": state.validation_loss - window.loss,
            "accuracy_delta": state.validation_accuracy - window.accuracy,
            "params_delta": float(view.params - window.params),
            "gflop": (view.spent_flops - window.spent_flops) / 1e9,
        }
        if seed is not None and seed.gain is not None:
            metrics["gain"] = seed.gain
        self._written += 1
        blueprint = command.payload.blueprint_id if isinstance(command.payload, CommandSeedOperation) else ""
        return FieldReport(
            report_id=f"{self._run_id}-r{self._written}",
            command_id=command.command_id,
            training_run_id=self._run_id,
            seed_id=seed.record.seed_id if seed is not None else window.seed_id,
            blueprint_id=seed.record.blueprint_id if seed is not None else blueprint,
            outcome=_outcome(window, metrics.get("gain"), state.validation_loss),
            metrics=metrics,
            observation_window_epochs=view.epoch - window.opened,
            issued_at=now_ns,
            tamiyo_policy_version=self._version,
            notes=window.reason if window.applied is not None else "the boundary went on without it",
        )


def _outcome(window: _Window, gain: float | None, loss: float) -> FieldReportOutcome:
    if not window.applied:
        return FieldReportOutcome.ABORTED
    if gain is None or abs(gain) < GAIN_THAT_COUNTS * abs(loss):
        return FieldReportOutcome.NEUTRAL
    return FieldReportOutcome.SUCCESS if gain > 0 else FieldReportOutcome.REGRESSION


def _seed_of(window: _Window, view: GrowthView) -> SeedView | None:
    """The seed that the command named, or the newest one at the site where it germinated one."""
    site_name = window.command.annotations.get("site", "")
    for site in view.sites:
        seeds = (*site.fossils, site.seed) if site.seed is not None else site.fossils
        for seed in reversed(seeds):
            if seed.record.seed_id == window.seed_id and window.seed_id:
                return seed
            if site.site.name == site_name and seed.record.born_epoch >= window.opened and not window.seed_id:
                return seed
    return None
