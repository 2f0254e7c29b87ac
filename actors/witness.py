"""Sees the run go by: records what happened, and has it counted, shown and told."""

from collections.abc import Callable, Mapping

from actors.counting import count_boundary, count_epoch
from actors.keeping import Wrote
from actors.live_view import LiveView
from actors.nissa.counters import RunCounters
from actors.oona.bus import Bus
from actors.telemetry import Telemetry
from contracts.emergency import NONE, Ordered, Trigger, Trouble
from contracts.growth import GrowthView, ProbeReport
from contracts.lifecycle import Stage
from contracts.messages import EmergencyLevel, TelemetryEvent, WallNs
from contracts.registry import Pulse
from contracts.report import AlertFacts, ResumeFacts, RollbackFacts
from contracts.view import EventKind, RunFacts
from esper.boundary import Boundary, StageChange, epoch_facts, take_down
from esper.moment import WitnessMemory
from esper.observer.standing import Standing
from esper.report.oneline import probed
from esper.report.record import Recorder
from esper.tolaria.results import Assembled

CHECKPOINT_TROUBLES = (Trigger.CHECKPOINT_FAILED.value, Trigger.DISK_FULL.value)
KINDS: Mapping[Stage, EventKind] = {
    Stage.GERMINATED: "germinated",
    Stage.FOSSILIZED: "fossilized",
    Stage.CULLED: "culled",
    Stage.TERMINATED: "culled",
}


class RunWitness:
    """One run's witness; lives on the event loop.

    What a boundary gives to tell waits until `tell_others`, when training runs again.
    """

    def __init__(
        self,
        run_id: str,
        facts: RunFacts,
        counters: RunCounters,
        bus: Bus,
        names: Mapping[str, str],
        now: Callable[[], float],
        wall_ns: Callable[[], WallNs],
    ) -> None:
        self.recorder = Recorder()
        self.counters = counters
        self.live = LiveView(facts, self.recorder, bus, now)
        self.telemetry = Telemetry(run_id, self.recorder, bus, self.epoch, wall_ns)
        self._names = names
        self._unwritten = False
        """The newest checkpoint could not be written."""
        self._waits_for = ""

    def boundary(self, boundary: Boundary) -> None:
        """A boundary is over."""
        changes = take_down(self.recorder, boundary, self._names, self.counters.boundary.budget_s)
        self.live.boundary(boundary.total_s)
        self._epoch_over(boundary.assembled)
        count_boundary(self.counters, boundary)
        event = self.telemetry.event
        events = [self._change_event(change) for change in changes]
        if boundary.verdict is not None and not boundary.verdict.applied:
            events.append(event("warning", f"refused: {boundary.verdict.refusal}"))
        if boundary.fallback:
            events.append(event("warning", f"no decision: {boundary.fallback}"))
        events += [event("warning", note) for note in boundary.notes]
        events += self._idle(boundary)
        self.telemetry.add(events, self._standing(boundary.assembled.growth))

    def last_epoch(self, assembled: Assembled) -> None:
        """The last epoch has no boundary behind it."""
        self.recorder.epoch(epoch_facts(assembled))
        for seed in assembled.growth.seeds:
            self.recorder.gain(seed.record.seed_id, seed.gain)
        self._epoch_over(assembled)
        self.telemetry.add((), self._standing(assembled.growth))
        self.tell_others()

    def reached(self, epoch: int) -> None:
        """An epoch has ended; what is told from now on is of it."""
        self.live.epoch = epoch

    def probe(self, report: ProbeReport) -> None:
        """A probe is over."""
        self.live.probe = None
        self.recorder.probe(report)
        self.counters.growth.probes.record(report.wall_s)
        if report.scores:
            self.telemetry.note("probe", probed(report.scores, self._names))

    def alert(self, name: str, text: str) -> None:
        """Something is wrong that the report must show."""
        self.recorder.alert(AlertFacts(name, self.epoch(), text))
        self.telemetry.note("alert", text)
        self.tell_others()

    def lost(self, name: str, text: str) -> None:
        """Something is gone that may come back; the report shows it, nobody can be told over the bus."""
        self.recorder.alert(AlertFacts(name, self.epoch(), text))

    def regained(self, name: str) -> None:
        """It is back."""
        self.recorder.cleared(name, self.epoch())

    def wrote(self, wrote: Wrote) -> None:
        """A moment is on disk, or could not be written, which the alarm tells of."""
        failed, self._unwritten = self._unwritten, wrote.saved is None
        if wrote.saved is None or not failed:
            return
        for name in CHECKPOINT_TROUBLES:
            self.recorder.cleared(name, self.epoch())
        self.telemetry.note("info", "checkpoints can be written again")
        self.tell_others()

    def journal_goes_on(self, lacks: str) -> None:
        """The journal can be written again; `lacks` says what is missing in it, if it is this process's."""
        self.recorder.cleared(Trigger.JOURNAL_FAILED.value, self.epoch())
        missing = f"; {lacks}" if lacks else ""
        self.telemetry.note("info", f"the journal is written again{missing}")
        self.tell_others()

    def stands_at(self, level: EmergencyLevel) -> None:
        """This is the emergency level."""
        self.counters.growth.emergency = level.value
        self.live.emergency = "" if level is NONE else level.name.lower()

    def emergency(self, ordered: Ordered, trouble: Trouble | None) -> None:
        """The emergency level has changed, or something is newly wrong."""
        self.stands_at(ordered.level)
        level = self.live.emergency
        if ordered.changed and ordered.level < ordered.before:
            self.telemetry.note("info", f"{level or 'all is well'} again: {ordered.reason}")
        else:
            name = trouble.trigger.value if trouble is not None else "operator"
            name = "halted" if ordered.level is EmergencyLevel.HALT else name
            self.alert(name, f"{level}: {ordered.reason}" if ordered.changed else ordered.reason)
        self.tell_others()

    def rolled_back(self, memory: WitnessMemory, facts: RollbackFacts) -> None:
        """The run has gone back: what the report says of later epochs did not happen."""
        self.recorder.rolled_back(memory.recorded, facts)
        self._waits_for = memory.waits_for
        where = "memory" if facts.kind == "fast" else "disk"
        told = f"went back from epoch {facts.epoch} to the end of epoch {facts.to_epoch} ({where})"
        self.alert("rolled_back", f"{told}: {facts.reason}")

    def resumed(self, memory: WitnessMemory, facts: ResumeFacts) -> None:
        """This process goes on with a run from what a checkpoint remembers."""
        self.recorder.recorded = memory.recorded.copied()
        self.recorder.resumed(facts)
        self._waits_for = memory.waits_for
        self.live.resumed(memory, facts.epoch)
        number = {"resume": str(len(self.recorder.recorded.resumes))}
        self.telemetry.note("info", f"taken up again at the end of epoch {facts.epoch}", number)
        for difference in facts.differences:
            self.alert("resumed_differently", difference)
        for told in facts.set_aside:
            self.alert("seed_set_aside", told)

    def event_id(self, name: str) -> str:
        """The id of what is told once an epoch: another one when the epoch comes again after a rollback."""
        return self.telemetry.event_id(name)

    def memory(self) -> WitnessMemory:
        """What was told so far, as a checkpoint keeps it."""
        return WitnessMemory(self.recorder.recorded.copied(), self._waits_for, self.live.worked_s)

    def tell_others(self) -> None:
        """Publish what there is to tell: nobody waits for this process now."""
        self.telemetry.publish()

    def pulse(self) -> Pulse:
        """A sign of life, a new one each time."""
        return self.live.pulse()

    def epoch(self) -> int:
        """The newest epoch that has ended."""
        return self.live.epoch

    def _epoch_over(self, assembled: Assembled) -> None:
        self.live.growth = assembled.growth
        count_epoch(self.counters, assembled)

    def _idle(self, boundary: Boundary) -> list[TelemetryEvent]:
        """Why the policy waits, whenever that changes; a lasting reason is worth a line in the report."""
        command = boundary.command
        reason = command.annotations.get("reason", "") if command.annotations.get("action") == "wait" else ""
        if boundary.fallback or not reason or reason == self._waits_for:
            return []
        self._waits_for = reason
        self.recorder.alert(AlertFacts("growth_rests", boundary.epoch, reason, "info"))
        return [self.telemetry.event("info", reason)]

    def _change_event(self, change: StageChange) -> TelemetryEvent:
        record, stage = change.record, change.record.stage
        name = self._names.get(record.blueprint_id, record.blueprint_id)
        kind = KINDS.get(stage, "advanced")
        text = f"{name} ({record.params} parameters) at {record.seed_id}: {stage.name.lower()}"
        why = f" ({change.reason})" if kind in ("germinated", "culled") and change.reason else ""
        attributes = {
            "seed_id": record.seed_id,
            "site": record.site,
            "stage": stage.name,
            "blueprint_id": record.blueprint_id,
            "reason": change.reason,
        }
        return self.telemetry.event(kind, text + why, attributes)

    def _standing(self, growth: GrowthView) -> Standing:
        """How the run stands after its newest epoch."""
        return Standing(
            facts=self.recorder.recorded.epochs[-1],
            host_params=growth.host_params,
            max_params=growth.max_params,
            boundary=self.live.boundaries,
            conservative=growth.conservative,
            seeds=tuple(seed for seed in growth.seeds if seed.record.stage is not Stage.DORMANT),
        )
