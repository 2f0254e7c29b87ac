"""Watches what a command did until its window closes, and writes the field report.

Credit is the counterfactual gain of the seed that the command touched, never the host's own drift:
a command that touched no seed is neutral whatever the loss did meanwhile. A command that takes a seed out
gives up what the seed gained: its credit is minus the gain that it was decided on.

    watch ─▶ window ─▶ closed report ─▶ due, once no way back leads before its closing ─▶ kept, on the disk
                └────────────┴─ go_back ─▶ the command is undone: reported as ABORTED

A command has one report, whose id is the command's own with a suffix. What may still be undone is told to
nobody: a closed report waits here, and in the checkpoints, so that a rollback or a resume forgets it with the
epochs that it is about. So does a window that an interrupt cuts off: the resumed run fills it.
"""

from collections.abc import Collection, Iterable
from itertools import takewhile

import msgspec
from msgspec.structs import replace

from contracts.control import Decided
from contracts.growth import GrowthView, SeedView
from contracts.lifecycle import SeedOperation
from contracts.messages import CommandSeedOperation, FieldReport, FieldReportOutcome, SystemState, WallNs

GAIN_THAT_COUNTS = 0.002
"""Share of the validation loss that a gain has to reach, either way, to be more than neutral."""
UNSETTLED_MAX = 1_000
"""Closed reports that wait for what can't be undone; with more the oldest are due all the same."""
SPAN_MAX = UNSETTLED_MAX // 2
"""Boundaries behind which whoever keeps the ways back leaves none: a boundary closes one report, and the rest
is room for what rollbacks undo."""
CLOSED_MAX = UNSETTLED_MAX + 200
"""Closed reports in all, with those that wait for the disk."""
TAKES_OUT = frozenset({SeedOperation.CULL, SeedOperation.CANCEL})
"""What ends a seed: nothing is measured of it afterwards."""
UNDONE = "undone: the run went back to before it"
"""What the report on an undone command notes."""


class Window(msgspec.Struct, frozen=True):
    """A command under observation, since the epoch of its boundary."""

    decided: Decided
    opened: int


class Closed(msgspec.Struct, frozen=True):
    """A report that is not on the disk yet, and the epoch at whose boundary it was closed."""

    report: FieldReport
    epoch: int


class ObservationMemory(msgspec.Struct, frozen=True):
    """The windows that are open, the reports that wait, and the epoch of the newest boundary."""

    windows: tuple[Window, ...] = ()
    closed: tuple[Closed, ...] = ()
    epoch: int = 0


class Observation:
    """Open windows of the newest commands, one a boundary, so at most `window_epochs`; and closed reports."""

    def __init__(self, run_id: str, policy_version: str, window_epochs: int) -> None:
        self._run_id = run_id
        self._version = policy_version
        self._epochs = window_epochs
        self._windows: list[Window] = []
        self._closed: list[Closed] = []
        """In the order of closing; epochs never fall."""
        self._epoch = 0

    def watch(self, decided: Decided, now_ns: WallNs) -> tuple[FieldReport, ...]:
        """Close the windows that end at this boundary, and open its own.

        Returns the reports on those that closed; they wait here until they are due.
        """
        self._epoch = epoch = decided.view.epoch
        full = [window for window in self._windows if epoch - window.opened >= self._epochs]
        self._windows = [window for window in self._windows if epoch - window.opened < self._epochs]
        self._windows.append(Window(decided, epoch))
        return self._close(full, decided.state, decided.view, now_ns)

    def close(
        self, state: SystemState, view: GrowthView, now_ns: WallNs, *, resumable: bool = False
    ) -> tuple[FieldReport, ...]:
        """Reports on every open window, because the run ends.

        Those of a `resumable` run are for the caller alone: whoever resumes it reports on the same commands
        once their windows are full.
        """
        windows, self._windows = self._windows, []
        if resumable:
            return tuple(self._report(window, state, view, now_ns) for window in windows)
        self._epoch = view.epoch
        return self._close(windows, state, view, now_ns)

    def due(self, settled: float) -> tuple[FieldReport, ...]:
        """Closed reports that can be told, the oldest first.

        `settled` is the epoch of the oldest moment that the run may still go back to, infinite if there is
        none: a report that was closed at an earlier boundary is part of every future. With more than
        `UNSETTLED_MAX` in all the oldest are due too, and may be of epochs that are undone later; see
        `hasty`.
        """
        over = len(self._closed) - UNSETTLED_MAX
        due = takewhile(lambda one: one[0] < over or one[1].epoch < settled, enumerate(self._closed))
        return tuple(closed.report for _, closed in due)

    def hasty(self, settled: float) -> bool:
        """Whether a report is due only since too many wait: no checkpoint has come to the disk for too long.

        No moment in memory is from before it. A process that resumes from so long ago trains the same epochs
        again with the same numbers, and so reports the same; only if the run has gone back meanwhile it may
        not, and what its reader has then stays.
        """
        return len(self._closed) > UNSETTLED_MAX and self._closed[0].epoch >= settled

    def kept(self, report_ids: Collection[str]) -> None:
        """These are on the disk."""
        self._closed = [one for one in self._closed if one.report.report_id not in report_ids]

    def shed(self) -> tuple[FieldReport, ...]:
        """Give up the oldest of more than `CLOSED_MAX` reports: the disk has not taken them for too long."""
        over = max(0, len(self._closed) - CLOSED_MAX)
        lost, self._closed = self._closed[:over], self._closed[over:]
        return tuple(one.report for one in lost)

    def remember(self) -> ObservationMemory:
        """What the next reports depend on."""
        return ObservationMemory(tuple(self._windows), tuple(self._closed), self._epoch)

    def recall(self, memory: ObservationMemory) -> None:
        """Go on from what `remember` gave, in another process."""
        self._windows, self._closed = list(memory.windows), list(memory.closed)
        self._epoch = memory.epoch

    def go_back(self, memory: ObservationMemory, now_ns: WallNs) -> None:
        """Go back to what `remember` gave, in the same process: commands issued since then are undone.

        Each gets its report now, as ABORTED; their ids are not used again. It is due once no way back leads
        to before they were undone: until then another process may go on where they were not.
        """
        before = self.remember()
        self.recall(memory)
        known = {window.decided.command.command_id for window in memory.windows}
        known |= {one.report.command_id for one in memory.closed}
        back = memory.epoch + 1
        reports = (*(one.report for one in before.closed), *self._unmeasured(before, now_ns))
        self._closed += [
            Closed(replace(one, outcome=FieldReportOutcome.ABORTED, notes=UNDONE), back)
            for one in reports
            if one.command_id not in known
        ]

    def _close(
        self, windows: Iterable[Window], state: SystemState, view: GrowthView, now_ns: WallNs
    ) -> tuple[FieldReport, ...]:
        reports = tuple(self._report(window, state, view, now_ns) for window in windows)
        self._closed += [Closed(report, view.epoch) for report in reports]
        return reports

    def _unmeasured(self, memory: ObservationMemory, now_ns: WallNs) -> Iterable[FieldReport]:
        """Reports on windows that close before anything could be measured."""
        for window in memory.windows:
            yield self._told(window, None, {}, FieldReportOutcome.ABORTED, memory.epoch, now_ns)

    def _report(self, window: Window, state: SystemState, view: GrowthView, now_ns: WallNs) -> FieldReport:
        then = window.decided
        out = then.applied and _takes_out(then)
        seed = _seed_of(window, then.view if out else view)
        metrics = {
            "loss_delta": state.validation_loss - then.state.validation_loss,
            "accuracy_delta": state.validation_accuracy - then.state.validation_accuracy,
            "params_delta": float(view.params - then.view.params),
            "gflop": (view.spent_flops - then.view.spent_flops) / 1e9,
        }
        if seed is not None and seed.gain is not None:
            metrics |= {"gain": -seed.gain, "seed_gain": seed.gain} if out else {"gain": seed.gain}
        loss = then.state.validation_loss if out else state.validation_loss
        outcome = _outcome(then.applied, metrics.get("gain"), loss)
        return self._told(window, seed, metrics, outcome, view.epoch, now_ns)

    def _told(
        self,
        window: Window,
        seed: SeedView | None,
        metrics: dict[str, float],
        outcome: FieldReportOutcome,
        epoch: int,
        now_ns: WallNs,
    ) -> FieldReport:
        then = window.decided
        payload = then.command.payload
        blueprint = payload.blueprint_id if isinstance(payload, CommandSeedOperation) else ""
        return FieldReport(
            report_id=report_id_of(then.command.command_id),
            command_id=then.command.command_id,
            training_run_id=self._run_id,
            seed_id=seed.record.seed_id if seed is not None else then.command.target_seed_id,
            blueprint_id=seed.record.blueprint_id if seed is not None else blueprint,
            outcome=outcome,
            metrics=metrics,
            observation_window_epochs=epoch - window.opened,
            issued_at=now_ns,
            tamiyo_policy_version=self._version,
            notes=then.reason,
        )


def report_id_of(command_id: str) -> str:
    """The id of the report on this command."""
    return f"{command_id}-r"


def _takes_out(decided: Decided) -> bool:
    payload = decided.command.payload
    return isinstance(payload, CommandSeedOperation) and payload.operation in TAKES_OUT


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
        for seed in reversed(site.seeds):
            if seed_id and seed.record.seed_id == seed_id:
                return seed
            if not seed_id and site.site.name == site_name and seed.record.born_epoch >= window.opened:
                return seed
    return None
