"""Sees the run go by: records it, counts it, and tells the bus and the display what happened."""

import hashlib
from bisect import insort
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from msgspec.structs import replace

from actors.keeping import Wrote
from actors.nissa.counters import FLOP_ACCOUNTS, RunCounters
from actors.oona.bus import Bus
from actors.oona.telling import tell
from contracts import topics
from contracts.emergency import NONE, Ordered, Trigger, Trouble
from contracts.growth import GrowthView, ProbeReport, SeedView
from contracts.lifecycle import Stage
from contracts.messages import EmergencyLevel, TelemetryEvent, TelemetryLevel, TelemetryPacket, WallNs
from contracts.registry import ControlFacts, Pulse
from contracts.report import AlertFacts, EpochFacts, ResumeFacts, RollbackFacts
from contracts.view import BoundaryView, EventKind, KernelProgress, Phase, ProbeProgress, RunFacts, RunView
from esper.boundary import Boundary, StageChange, epoch_facts, take_down
from esper.moment import WitnessMemory
from esper.observer.standing import Standing, points
from esper.report.oneline import probed
from esper.report.record import Recorder
from esper.tolaria.results import Assembled

VIEW_EPOCHS = 400
"""Newest epochs that the display gets."""
ALERTS_SHOWN = 3
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
        self.phase: Phase = "starting"
        self._probing: ProbeProgress | None = None
        self._kernels: KernelProgress | None = None
        self._making: tuple[str, ...] = ()
        """Blueprints whose kernels are being made, by name."""
        self._idle_compiler = self._storeless = False
        """No kernels can be compiled; the store can't be used."""
        self._run_id = run_id
        self._facts = facts
        self._bus = bus
        self._names = names
        self._now = now
        self._wall_ns = wall_ns
        self._began_s = now()
        self._level = ""
        self._unwritten = False
        """The newest checkpoint could not be written."""
        self._reached = 0
        self._worked_s = 0.0
        """Seconds that the run had taken when this process took it up."""
        self._newest: Assembled | None = None
        self._boundaries_ms: list[float] = []
        """In ascending order."""
        self._due: list[tuple[TelemetryPacket, Standing | None]] = []
        self._said: Counter[str] = Counter()
        """What was told in the epoch `_said_in`, and how often."""
        self._said_in = 0
        self._pulses = 0
        self._waits_for = ""
        self._control: RunView | None = None

    def boundary(self, boundary: Boundary) -> None:
        """A boundary is over."""
        budget_s = self.counters.boundary.budget_s
        changes = take_down(self.recorder, boundary, self._names, budget_s)
        insort(self._boundaries_ms, boundary.total_s * 1e3)
        self._count_epoch(boundary.assembled)
        self._count_boundary(boundary)
        events = [self._change_event(change) for change in changes]
        if boundary.verdict is not None and not boundary.verdict.applied:
            events.append(self._event("warning", f"refused: {boundary.verdict.refusal}"))
        if boundary.fallback:
            events.append(self._event("warning", f"no decision: {boundary.fallback}"))
        events += [self._event("warning", note) for note in boundary.notes]
        events += self._idle(boundary)
        self._tell(events, self._standing(boundary.assembled.growth))

    def last_epoch(self, assembled: Assembled) -> None:
        """The last epoch has no boundary behind it."""
        self.recorder.epoch(epoch_facts(assembled))
        for seed in seeds_of(assembled.growth):
            self.recorder.gain(seed.record.seed_id, seed.gain)
        self._count_epoch(assembled)
        self._tell((), self._standing(assembled.growth))
        self.tell_others()

    def reached(self, epoch: int) -> None:
        """An epoch has ended; what is told from now on is of it."""
        self._reached = epoch

    def probe(self, report: ProbeReport) -> None:
        """A probe is over."""
        self._probing = None
        self.recorder.probe(report)
        self.counters.growth.probes.record(report.wall_s)
        if report.scores:
            self._tell([self._event("probe", probed(report.scores, self._names))])

    def probing(self, done: int, total: int) -> None:
        """How far a probe is; called from the lane, replaces one value."""
        self._probing = ProbeProgress(done=done, total=total, candidates=total - done)

    def kernels(self, ready: int, wanted: int) -> None:
        """So many kernels are fetched, of so many that were looked for."""
        self._kernels = KernelProgress(ready, wanted)
        if ready == wanted:
            self._tell([self._event("info", f"kernels: all {wanted} that are likely next are ready")])

    def compiling(self, blueprint_ids: tuple[str, ...], trouble: str) -> None:
        """Kernels of these are being made; and why none can be made at present, if none can."""
        self._making = tuple(self._names.get(one, one) for one in blueprint_ids)
        if self._storeless:
            return  # which was told, and comes to the same
        was, self._idle_compiler = self._idle_compiler, bool(trouble)
        if trouble and not was:
            told = f"no kernels can be compiled ({trouble}); plain modules stand in, with equal bits"
            self.alert("no_compiler", told)
        elif was and not trouble:
            self.regained("no_compiler")
            self._tell([self._event("info", "kernels are compiled again")])

    def left_out(self, blueprint_id: str, reason: str) -> None:
        """A blueprint could not be compiled."""
        name = self._names.get(blueprint_id, blueprint_id)
        self.alert("kernel_left_out", f"{blueprint_id} ({name}) is left out of this run: {reason}")

    def built_here(self, blueprint_id: str, reason: str) -> None:
        """A blueprint is never compiled ahead."""
        name = self._names.get(blueprint_id, blueprint_id)
        told = f"{blueprint_id} ({name}) is built on the spot, never compiled: {reason}"
        self._tell([self._event("info", told)])

    def damaged(self, blueprint_id: str, reason: str) -> None:
        """A stored kernel is not what was published."""
        name = self._names.get(blueprint_id, blueprint_id)
        told = f"a stored kernel of {blueprint_id} ({name}) is damaged, and is made again: {reason}"
        self.alert("kernel_damaged", told)

    def no_store(self, reason: str) -> None:
        """The kernel store can't be used."""
        self._storeless = True
        self.alert(
            "no_kernel_store",
            f"the kernel store can't be used ({reason}); what grows is built on the spot, with equal bits",
        )

    def alert(self, name: str, text: str) -> None:
        """Something is wrong that the report must show."""
        self.recorder.alert(AlertFacts(name, self.epoch(), text))
        self._tell([self._event("alert", text)])
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
        self._tell([self._event("info", "checkpoints can be written again")])
        self.tell_others()

    def journal_goes_on(self, lacks: str) -> None:
        """The journal can be written again; `lacks` says what is missing in it, if it is this process's."""
        self.recorder.cleared(Trigger.JOURNAL_FAILED.value, self.epoch())
        missing = f"; {lacks}" if lacks else ""
        self._tell([self._event("info", f"the journal is written again{missing}")])
        self.tell_others()

    def stands_at(self, level: EmergencyLevel) -> None:
        """This is the emergency level."""
        self.counters.growth.emergency = level.value
        self._level = "" if level is NONE else level.name.lower()

    def emergency(self, ordered: Ordered, trouble: Trouble | None) -> None:
        """The emergency level has changed, or something is newly wrong."""
        self.stands_at(ordered.level)
        level = self._level
        if ordered.changed and ordered.level < ordered.before:
            self._tell([self._event("info", f"{level or 'all is well'} again: {ordered.reason}")])
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
        self._waits_for, self._worked_s = memory.waits_for, memory.worked_s
        self._reached = facts.epoch
        self._boundaries_ms = sorted(
            one.boundary_ms.total for one in memory.recorded.epochs if one.boundary_ms is not None
        )
        number = {"resume": str(len(self.recorder.recorded.resumes))}
        self._tell([self._event("info", f"taken up again at the end of epoch {facts.epoch}", number)])
        for difference in facts.differences:
            self.alert("resumed_differently", difference)
        for told in facts.set_aside:
            self.alert("seed_set_aside", told)

    def event_id(self, name: str) -> str:
        """The id of what is told once an epoch: another one when the epoch comes again after a rollback."""
        back = len(self.recorder.recorded.rollbacks)
        return f"{name}~{back}" if back else name

    def memory(self) -> WitnessMemory:
        """What was told so far, as a checkpoint keeps it."""
        return WitnessMemory(self.recorder.recorded.copied(), self._waits_for, self.worked_s)

    @property
    def worked_s(self) -> float:
        """Seconds that the run has taken so far, in all its processes."""
        return self._worked_s + self._now() - self._began_s

    def tell_others(self) -> None:
        """Publish what there is to tell: nobody waits for this process now."""
        due, self._due = self._due, []
        for packet, standing in due:
            if standing is not None:
                packet = replace(packet, metrics=points(standing))
            tell(self._bus, topics.TELEMETRY, packet, packet.packet_id)  # the report has it all the same

    def compare(self, params: int, budget_flops: int) -> None:
        """From now on the view shows the ungrown host that is trained for comparison."""
        self.phase = "comparing"
        self._control = replace(
            self.view(), epochs=(), sites=(), spent_flops=0, epoch=0, params=params, probe=None
        )
        self._facts = replace(self._facts, epochs=None, budget_flops=budget_flops)
        self._worked_s, self._began_s = self.worked_s, self._now()

    def compared_epoch(self, facts: EpochFacts) -> None:
        """An epoch of the ungrown host is over; called from the lane, replaces one value."""
        if self._control is not None:
            self._control = replace(
                self._control,
                facts=self._facts,
                elapsed_s=self._now() - self._began_s,
                epochs=(*self._control.epochs[-VIEW_EPOCHS:], facts),
                epoch=facts.epoch,
                spent_flops=facts.train_flops,
            )

    def view(self) -> RunView:
        """The run as it is now, or the comparison once that has begun."""
        if self._control is not None:
            return self._control
        growth = self._newest.growth if self._newest is not None else None
        recorded = self.recorder.recorded
        last = recorded.epochs[-1] if recorded.epochs else None
        return RunView(
            facts=self._facts,
            phase="probing" if self._probing is not None else self.phase,
            epoch=growth.epoch if growth is not None else self._reached,
            elapsed_s=self._now() - self._began_s,
            host_params=growth.host_params if growth is not None else 0,
            params=growth.params if growth is not None else last.params if last is not None else 0,
            max_params=growth.max_params if growth is not None else 0,
            spent_flops=growth.spent_flops if growth is not None else _spent(last),
            epochs=tuple(recorded.epochs[-VIEW_EPOCHS:]),
            sites=growth.sites if growth is not None else (),
            boundary=boundary_view(self._boundaries_ms),
            probe=self._probing,
            kernels=replace(self._kernels, making=self._making) if self._kernels is not None else None,
            bus_depth=self._bus.metrics().depth,
            alerts=tuple(alert.text for alert in recorded.alerts[-ALERTS_SHOWN:] if _shown(alert)),
            conservative=growth.conservative if growth is not None else False,
            emergency=self._level,
        )

    def pulse(self) -> Pulse:
        """A sign of life, a new one each time."""
        self._pulses += 1
        view, control = self.view(), None
        if self._control is not None:
            newest = view.epochs[-1] if view.epochs else None
            control = ControlFacts(view.params, self._facts.budget_flops or 0, newest)
        return Pulse(
            self._pulses, view.phase, view.elapsed_s, view.bus_depth, view.probe, control, self.epoch()
        )

    def epoch(self) -> int:
        """The newest epoch that has ended."""
        return self._reached

    def _count_epoch(self, assembled: Assembled) -> None:
        self._newest = assembled
        state, growth, training = assembled.state, assembled.growth, self.counters.training
        training.epochs = growth.epoch
        training.steps = state.global_step
        training.loss = state.training_loss
        training.validation_loss = state.validation_loss
        training.validation_accuracy = state.validation_accuracy
        training.learning_rate = state.training_metrics["learning_rate"]
        training.flops = {account: growth.flops.get(account, 0) for account in FLOP_ACCOUNTS}
        training.host_params = growth.host_params
        training.grown_params = growth.params - growth.host_params
        self.counters.growth.conservative = growth.conservative
        self.counters.growth.stages(seed.record.stage for seed in seeds_of(growth))

    def _count_boundary(self, boundary: Boundary) -> None:
        self.counters.boundary.record(
            boundary.assemble_s, boundary.decide_s, boundary.apply_s, boundary.total_s, boundary.keep_s
        )
        if boundary.fallback:
            self.counters.boundary.decision_timeouts += 1
        if boundary.verdict is None:
            return
        growth = self.counters.growth
        growth.commands["applied" if boundary.verdict.applied else "refused"] += 1
        for gate in boundary.verdict.gates:
            growth.gate(gate.gate, gate.passed)
        for change in boundary.verdict.plan.changes:
            outcome = _outcome(change.record.stage, change.record.rolled_back)
            if outcome and change.record.stage_epoch == boundary.epoch:
                growth.grafts[outcome] += 1

    def _idle(self, boundary: Boundary) -> list[TelemetryEvent]:
        """Why the policy waits, whenever that changes; a lasting reason is worth a line in the report."""
        command = boundary.command
        reason = command.annotations.get("reason", "") if command.annotations.get("action") == "wait" else ""
        if boundary.fallback or not reason or reason == self._waits_for:
            return []
        self._waits_for = reason
        self.recorder.alert(AlertFacts("growth_rests", boundary.epoch, reason, "info"))
        return [self._event("info", reason)]

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
        return self._event(kind, text + why, attributes)

    def _event(
        self, kind: EventKind, text: str, attributes: Mapping[str, str] | None = None
    ) -> TelemetryEvent:
        """Something to tell. Its id rests on what it says: a resumed run that says it again gives it that id,
        which nothing else has."""
        notes = {"kind": kind, "epoch": str(self.epoch()), **(attributes or {})}
        level = TelemetryLevel.WARNING if kind in ("warning", "alert") else TelemetryLevel.INFO
        says = "\0".join((text, *(f"{name}={value}" for name, value in notes.items())))
        digest = hashlib.blake2b(says.encode(), digest_size=6).hexdigest()
        if self._said_in != self.epoch():
            self._said.clear()
            self._said_in = self.epoch()
        self._said[digest] += 1
        again = f"-{self._said[digest]}" if self._said[digest] > 1 else ""
        name = self.event_id(f"{self._run_id}-e{self.epoch()}-{digest}{again}")
        return TelemetryEvent(name, text, level, notes)

    def _tell(self, events: Sequence[TelemetryEvent], standing: Standing | None = None) -> None:
        """Have it told: events, or how the run stands with the events of its boundary, or both."""
        told_as = self.event_id(f"{self._run_id}-s{standing.facts.epoch}") if standing is not None else ""
        name = told_as or events[0].event_id
        packet = TelemetryPacket(name, self._wall_ns(), "tolaria", events=tuple(events))
        self._due.append((packet, standing))

    def _standing(self, growth: GrowthView) -> Standing:
        """How the run stands after its newest epoch."""
        return Standing(
            facts=self.recorder.recorded.epochs[-1],
            host_params=growth.host_params,
            max_params=growth.max_params,
            boundary=boundary_view(self._boundaries_ms),
            conservative=growth.conservative,
            seeds=tuple(seed for seed in seeds_of(growth) if seed.record.stage is not Stage.DORMANT),
        )


def seeds_of(growth: GrowthView) -> tuple[SeedView, ...]:
    """All seeds, site by site, fossils first."""
    return tuple(seed for site in growth.sites for seed in (*site.fossils, site.seed) if seed is not None)


def boundary_view(ordered: Sequence[float]) -> BoundaryView | None:
    """Median and 99th percentile (nearest rank) of the boundaries so far, in ascending order."""
    if not ordered:
        return None
    return BoundaryView(
        p50_ms=ordered[len(ordered) // 2], p99_ms=ordered[-(-99 * len(ordered) // 100) - 1], n=len(ordered)
    )


def _spent(last: EpochFacts | None) -> int:
    return last.train_flops if last is not None else 0


def _shown(alert: AlertFacts) -> bool:
    return alert.severity != "info" and alert.cleared_epoch is None


def _outcome(stage: Stage, rolled_back: bool) -> str:
    match stage:
        case Stage.FOSSILIZED:
            return "fossilized"
        case Stage.CULLED:
            return "rolled_back" if rolled_back else "culled"
        case Stage.TERMINATED:
            return "terminated"
        case _:
            return ""
