"""What must hold in every run, whatever the storm did: checked after each step, and at the end."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from actors.deciding import SURVEY_DEADLINE_S
from actors.ending import LAST_WRITE_S
from actors.kasmina import Commit
from actors.lane import JobFailed
from actors.runtime import ActorState
from actors.turn import Turned
from actors.workplace import Finalised
from contracts import topics
from contracts.control import Decided
from contracts.growth import SeedRecord
from contracts.lifecycle import Stage
from contracts.messages import AdaptationCommand, FieldReport
from tests.simulation.players import Kept
from tests.simulation.seeds import OPEN
from tests.simulation.storm import Kind
from tests.simulation.trace import Violation, ensure

if TYPE_CHECKING:
    from tests.simulation.scene import Played, Scene

BOUNDARY_S = 0.025
"""Virtual seconds from the end of a turn to the next: both deadlines, the sweeper's tick, a rest."""
WAY_BACK_S = 100.0
"""The same behind a turn that broke: several moments are tried, and each asks three actors to go back."""
STOP_S = 120.0
"""Virtual seconds from a stop to the conclusion: a slow epoch, the windows, the last judgement, the drain."""
ACTORS_S = 25.0
"""Virtual seconds in which six actors are stopped, each cancelled at the worst."""


def after_step(scene: "Scene") -> None:
    """What must hold at every moment."""
    now_s, lane = scene.loop.time(), scene.lane
    if lane.broken is not None:
        raise Violation(f"in the lane: {lane.broken}")
    ensure(not scene.strays, f"an error reached nobody: {scene.strays}")
    if lane.idle_since_s is not None and lane.jobs and not scene.company.concluded and not scene.weather.cut:
        idle_s = now_s - lane.idle_since_s
        allowed_s = _allowed_s(scene) + scene.weather.stalled_s - scene.stalled_at_delivery_s
        ensure(idle_s <= allowed_s, f"a boundary has not ended after {idle_s:.4f} s")
    _moment(scene)
    _writes(scene)
    halted = scene.weather.halted_at_s
    if halted is not None and not scene.company.concluded and not scene.weather.cut:
        ensure(now_s - halted <= STOP_S + scene.weather.stalled_s, "a run that was told to stop goes on")


def _allowed_s(scene: "Scene") -> float:
    """Virtual seconds that may pass between the end of the last job and the next."""
    if isinstance(scene.lane.last, JobFailed) or scene.weather.sent_back:
        return WAY_BACK_S
    if isinstance(scene.lane.last, Turned) and scene.lane.last.finished:
        return SURVEY_DEADLINE_S + BOUNDARY_S  # the last reports come to the disk
    return LAST_WRITE_S + BOUNDARY_S if isinstance(scene.lane.last, Finalised) else BOUNDARY_S


def _writes(scene: "Scene") -> None:
    """What goes to the disk has happened; and nobody concludes while it goes there."""
    keeper, recorder = scene.company.keeper, scene.company.witness.recorder
    moment = keeper._writing
    if moment is not None and moment is not scene.writing:
        went_back = len(moment.memories.witness.recorded.rollbacks)
        undone = went_back < len(recorder.recorded.rollbacks)
        ensure(not undone, f"the moment of epoch {moment.epoch} goes to the disk, and was undone")
    scene.writing = moment
    ensure(not scene.company.failed, scene.company.failed)
    if scene.company.concluded and scene.concluded_at_s is None and not scene.weather.cut:
        scene.concluded_at_s = scene.loop.time()
        waited_s = scene.concluded_at_s - scene.last_job_s
        ensure(not keeper.writing or waited_s >= LAST_WRITE_S, "concluded while the last moment was written")


def _moment(scene: "Scene") -> None:
    """Both halves of a moment are of one boundary."""
    moments = scene.company.keeper.moments
    if not moments or moments[-1] is scene.newest or scene.weather.lost_commits:
        return
    scene.newest = moment = moments[-1]
    epochs = [one.epoch for one in moments]
    ensure(epochs == sorted(set(epochs)), f"the moments in memory are of the epochs {epochs}")
    snapshot = moment.snapshot
    assert isinstance(snapshot, Kept)
    ensure(snapshot.epoch == moment.epoch, f"a moment of {moment.epoch} with a trainer of {snapshot.epoch}")
    _agree(moment.memories.engine.records, snapshot.records, f"in the moment of epoch {moment.epoch} ")
    if Kind.REPORTS not in scene.weather.storm.kinds:
        told, decided = moment.memories.windows.epoch, max(0, moment.epoch - 1)
        ensure(told == decided, f"the moment of epoch {moment.epoch} has the windows of epoch {told}")
    recorded = [facts.epoch for facts in moment.memories.witness.recorded.epochs]
    ensure(recorded == list(range(1, moment.epoch)), f"the moment of {moment.epoch} remembers {recorded}")


def _agree(engine: Iterable[SeedRecord], trainer: Mapping[str, SeedRecord], where: str = "") -> None:
    """What the engine has committed is what the trainer has applied."""
    held = {record.seed_id: record for record in engine}
    for seed_id, record in trainer.items():
        retired = record.stage is Stage.DORMANT and seed_id not in held
        ensure(retired or held.get(seed_id) == record, f"{where}engine and trainer differ about {seed_id}")


def now_and_then(scene: "Scene") -> None:
    """What must hold at every moment and is too dear to look at after each step."""
    ensure(scene.company.bus.metrics().closes(), "the ledger of the bus does not close")
    for actor in scene.company.system.snapshot().actors:
        for lane in (actor.normal, actor.urgent):
            ensure(lane.depth <= lane.capacity, f"{actor.name} holds {lane.depth} of {lane.capacity}")


def at_the_end(played: "Played") -> None:
    """What must hold of a run that is over; says of everything at once what does not."""
    checks = [_nothing_left, _only_planted_failures, _plans, _reports, _record, _disk, _bus]
    broken: list[str] = []
    for check in [*checks, *(() if played.cut else (_conclusion,))]:
        try:
            check(played)
        except Violation as violation:
            broken.append(str(violation))
    played.open += [claim for claim in broken if claim.startswith(tuple(OPEN))]
    broken = [claim for claim in broken if claim not in played.open]
    ensure(not broken, "; ".join(broken))


def _nothing_left(played: "Played") -> None:
    ensure(not played.left_running, f"left running: {played.left_running}")
    ensure(not played.timers_left, f"timers left: {played.timers_left}")
    ensure(not played.governor.active, "the governor still thinks that training runs")
    ensure(played.cut or not played.governor.boundary_active, "the loop is still kept quiet")
    for actor in played.actors:
        ensure(
            actor.state in (ActorState.STOPPED, ActorState.ESCALATED), f"{actor.name} is {actor.state.value}"
        )
        held = actor.normal.depth + actor.normal.parked + actor.urgent.depth + actor.urgent.parked
        ensure(held == 0, f"{actor.name} still holds {held} messages")


def _only_planted_failures(played: "Played") -> None:
    """Every failure of an actor is one that the storm planted; anything else is a bug that it brought out."""
    for letter in played.letters:
        known = "Planted" in letter.cause or "stopped" in letter.cause or "escalated" in letter.cause
        known |= letter.actor == "tamiyo" and bool(played.storm.struck[Kind.NONSENSE])
        ensure(known, f"a dead letter of {letter.actor}: {letter.cause}: {letter.message}")
    for name, error in played.errors.items():
        excused = name == "tamiyo" and played.storm.struck[Kind.NONSENSE]
        ensure("Planted" in error or not error or bool(excused), f"{name} failed: {error}")


def _plans(played: "Played") -> None:
    """Committed is what was applied, plan by plan, unless the commit is a dead letter."""
    if _without_way_back(played):
        return  # the engine went back and the trainer could not: such a run goes on from its checkpoint
    applied, committed = played.trainer.applied, played.engine.committed
    lost = [letter.message.plan_id for letter in played.letters if isinstance(letter.message, Commit)]
    _once(applied, "plan applied")
    _once(committed, "plan committed")
    if not played.cut:
        never = [plan for plan in applied if plan not in committed and plan not in lost]
        ensure(not never, f"applied and neither committed nor a dead letter: {never}")
    wrongly = [plan for plan in committed if plan not in applied]
    if _halted_in_apply(played):  # the commit of a plan travels while the lane applies it
        wrongly = [plan for plan in wrongly if plan != committed[-1]]
    ensure(not wrongly or played.cut, f"committed and never applied: {wrongly}")
    ensure(
        [plan for plan in committed if plan in applied] == [plan for plan in applied if plan in committed]
        or played.cut,
        "committed out of order",
    )
    if not lost and not played.cut and not _halted_in_apply(played):
        _agree(played.engine.records(), played.trainer.records)


def _without_way_back(played: "Played") -> bool:
    """Whether the run ended because it could not go back."""
    return played.conclusion is not None and "there is no way back" in played.conclusion.halted


def _halted_in_apply(played: "Played") -> bool:
    """Whether the run ended because its last plan could not be applied."""
    return played.conclusion is not None and "in apply" in played.conclusion.halted


def _reports(played: "Played") -> None:
    """Every command that was decided has one report, unless telling of it is a dead letter.

    Where a full bus took none until the run was over, the report lies on the disk.
    """
    commands = [one.command_id for one in played.bus.sent_of(topics.ADAPTATION_COMMAND, AdaptationCommand)]
    sent = {one.report_id: one for one in played.bus.sent_of(topics.FIELD_REPORT, FieldReport)}
    reported = [one.command_id for one in sent.values()]  # one that nobody acknowledges is sent again
    lost = {
        letter.message.command.command_id for letter in played.letters if isinstance(letter.message, Decided)
    }
    _once(commands, "command published")
    _once(played.observation.watched, "command under observation")
    _once([one for one in reported if one not in played.observation.reopened], "report on command")
    if not played.storm.struck[Kind.WALL_CLOCK]:  # else they may have been removed for their age
        ensure(not played.lost_reports, f"announced, and not on the disk: {played.lost_reports}")
    for one in sent.values():
        ensure(one.command_id in played.observation.watched, f"a report on {one.command_id}, never watched")
    if not played.cut:
        unseen = set(commands) - set(played.observation.watched) - lost
        ensure(not unseen, f"decided, and neither watched nor a dead letter: {sorted(unseen)}")
        if played.state_of("reports") is not ActorState.ESCALATED:
            missing = set(played.observation.watched) - set(reported) - played.observation.forgotten
            conclusion = played.conclusion
            if conclusion is not None and (conclusion.halted or conclusion.interrupted):
                missing -= played.observation.waiting()
            if any(isinstance(one, FieldReport) for one in played.bus.turned_away):
                missing -= {one.command_id for one in played.on_disk}
            ensure(not missing, f"watched and never reported: {sorted(missing)}")


def _record(played: "Played") -> None:
    """Every epoch that was trained to its end is in the record once, in order."""
    epochs = [facts.epoch for facts in played.recorded.epochs]
    _once([str(epoch) for epoch in epochs], "epoch recorded")
    ensure(epochs == sorted(epochs), f"epochs recorded out of order: {epochs}")
    ensure(epochs == list(range(1, len(epochs) + 1)), f"epochs are missing from the record: {epochs}")
    told_of = played.trainer.told_of
    if not played.cut:
        # An epoch that was to be gone back from, without a way, was never decided on.
        missing = 1 if _without_way_back(played) else 0
        told = f"{told_of} epochs were trained, {len(epochs)} recorded"
        ensure(told_of - missing <= len(epochs) <= told_of, told)


def _disk(played: "Played") -> None:
    """The newest moment is on the disk when the run ends, unless the disk failed."""
    if played.newest is not None and not played.cut and not played.storm.struck[Kind.DISK]:
        epochs = [moment.epoch for moment in played.saved]
        there = bool(played.saved) and played.saved[-1] is played.newest
        ensure(there, f"the moment of epoch {played.newest.epoch} is not on the disk; written: {epochs}")


def _bus(played: "Played") -> None:
    ensure(played.bus.metrics().closes(), "the ledger of the bus does not close")
    ensure(not played.bus.repeated, f"taken for a repeat, and delivered to nobody: {played.bus.repeated}")


def _conclusion(played: "Played") -> None:
    conclusion, struck = played.conclusion, played.storm.struck
    assert conclusion is not None
    broke = sum(struck[kind] for kind in (Kind.JOB, Kind.DIVERGES, Kind.RESTORE))
    ensure(bool(conclusion.halted) <= (broke > 0), f"halted by itself: {conclusion.halted}")
    both = conclusion.halted and conclusion.interrupted
    ensure(not both, f"halted ({conclusion.halted}) and interrupted ({conclusion.interrupted})")
    ensure(bool(conclusion.interrupted) <= (struck[Kind.STOP] > 0), "interrupted by nobody")
    if not conclusion.halted and not conclusion.interrupted:
        ensure(conclusion.final is not None, "finished, and nobody judged the network")
        ensure(played.trainer.finished, "finished before its last epoch")


def _once(names: Iterable[str], what: str) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    ensure(not twice, f"{what} more than once: {twice}")
