"""The grafting engine: the record of every seed, and the only judge of what may happen to it next.

    verdict = engine.propose(command, figures, epoch, now_ns, params_now)   # plans; changes nothing
    applied = trainer.apply(verdict.plan)                                   # at the safe point
    engine.commit(verdict.plan.plan_id)                                     # now it is so

A plan that is never committed is as if it had not been made. The newest proposal is the only one that
can be committed.
"""

from collections.abc import Iterable, Mapping

import msgspec

from contracts.config import GrowthConfig
from contracts.growth import Candidate, Operation, SeedFigures, SeedRecord, SiteInfo
from contracts.kernels import KernelSpec
from contracts.lifecycle import ACTIVE, LIVE, OPERATION_TARGET, SeedOperation, Stage
from contracts.messages import AdaptationCommand, CommandSeedOperation, CommandType, WallNs
from esper.breaker import BreakerMemory
from esper.karn.catalogue import Catalogue
from esper.karn.permission import DrillPermission
from esper.kasmina.admissible import check_fresh, check_issuer, check_operator
from esper.kasmina.advance import advance, cull, expelled, fine_tune
from esper.kasmina.draft import Draft, Records, Refused, after, legal, number, slot
from esper.kasmina.gates import tightened
from esper.kasmina.germination import Germination
from esper.kasmina.guard import Guard, check_changes, postponed
from esper.kasmina.limits import ADAMS, Burden
from esper.kasmina.outcomes import Outcome, Outcomes
from esper.kasmina.pause import pause, resume
from esper.kasmina.plan import GraftPlan, Note, Remove, Setting, Verdict
from esper.kasmina.stock import Stock
from esper.kasmina.switch import setting_of
from esper.kasmina.upkeep import upkeep
from esper.tolaria.trial import WRONG


class UnknownPlan(ValueError):
    """A commit of a plan that is not the newest proposal."""


class EngineState(msgspec.Struct, frozen=True):
    """Everything the engine remembers, as data for a checkpoint."""

    records: tuple[SeedRecord, ...]
    outcomes: tuple[Outcome, ...] = ()
    breakers: dict[str, BreakerMemory] = {}
    """By operation, those that are not as new."""


class _Situation(msgspec.Struct, frozen=True):
    """What a command is judged against."""

    records: Records
    figures: Mapping[str, SeedFigures]
    epoch: int
    now_ns: WallNs
    params_now: int
    config: GrowthConfig
    conservative: bool
    resting: bool


class _Proposal(msgspec.Struct, frozen=True):
    """A plan on offer, and what the engine will remember once it is committed."""

    plan_id: str
    epoch: int
    records: dict[str, SeedRecord]
    outcome: Outcome | None
    setting: Setting | None = None


class Engine:
    """Plans the life of every seed at `sites`; at first each site has one dormant slot.

    `seed` is the run's: a seed's initial values depend on it and on the seed's id alone. `guard` is shared
    with the safe point, so that what fails there is not planned here; alone the engine has its own.
    """

    def __init__(
        self,
        sites: Iterable[SiteInfo],
        config: GrowthConfig,
        catalogue: Catalogue,
        seed: int,
        stock: Stock | None = None,
        permission: DrillPermission | None = None,
        guard: Guard | None = None,
        burden: Burden = ADAMS,
    ) -> None:
        self._sites = {site.name: site for site in sites}
        self._config = config
        self._careful = msgspec.structs.replace(config, gates=tightened(config.gates))
        self.guard = guard or Guard(config.guard)
        self._germination = Germination(self._sites, config, catalogue, seed, stock, permission, burden)
        self._records: dict[str, SeedRecord] = {}
        """Never changed, but replaced by another."""
        self._in_order: tuple[SeedRecord, ...] | None = None
        """What `records` said of these; None before that."""
        for name in self._sites:
            self._records[slot(name, 0).seed_id] = slot(name, 0)
        self._outcomes = Outcomes()
        self._commits = 0
        self._proposal: _Proposal | None = None
        self._committed: str | None = None

    def records(self) -> tuple[SeedRecord, ...]:
        """Every seed in the order of its site, the oldest of a site first."""
        if self._in_order is None:
            self._in_order = self._sorted()
        return self._in_order

    def _sorted(self) -> tuple[SeedRecord, ...]:
        order = {name: position for position, name in enumerate(self._sites)}
        return tuple(sorted(self._records.values(), key=lambda one: (order[one.site], number(one))))

    def kernel_for(self, candidate: Candidate) -> KernelSpec | None:
        """The kernel that germinating `candidate` next would take; None if its site is full or unknown."""
        return self._germination.spec(candidate, self._records)

    def propose(
        self,
        command: AdaptationCommand,
        figures: Mapping[str, SeedFigures],
        epoch: int,
        now_ns: WallNs,
        params_now: int,
        *,
        conservative: bool = False,
        resting: bool = False,
    ) -> Verdict:
        """Judge `command` and plan this boundary, housekeeping first; nothing changes until `commit`.

        `figures` are by seed id, `params_now` counts the grown network as it is. A PAUSE without a target
        asks for the housekeeping alone; with one it pauses that seed, or lets it go on where
        `annotations["resume"]` is "true" (the wire has no other type for it). So a CULL with
        `annotations["terminate"]` takes a seed down for good, from any stage, which only an operator may:
        unlike a culled one it makes no place for another, and a site without a seed closes. While growth
        is `resting`, or the run `conservative`, nothing is germinated, whoever asks; while it is
        `conservative` the gates are those of `gates.tightened`. A refused command changes nothing.
        """
        due = postponed(self.guard, upkeep(self._records, figures, self._config, epoch), epoch)
        records = self._after(due)
        config = self._careful if conservative else self._config
        now = _Situation(records, figures, epoch, now_ns, params_now, config, conservative, resting)
        known = self._outcomes.get(command.command_id)
        if known is not None:
            return self._offer_again(known, command, due, epoch)
        return self._offer(command, now, due)

    def commit(self, plan_id: str) -> None:
        """What the trainer has applied becomes the record. To commit the same plan again does nothing.

        Raises:
            UnknownPlan: it is not the newest proposal. Nothing changes.
        """
        if plan_id == self._committed:
            return
        if self._proposal is None or self._proposal.plan_id != plan_id:
            newest = self._proposal.plan_id if self._proposal else "none: propose one first"
            raise UnknownPlan(f"there is no plan {plan_id!r} to commit; the newest proposal is {newest}")
        self._take(self._proposal.records)
        if self._proposal.outcome is not None:
            self._outcomes.keep(self._proposal.outcome)
        setting = self._proposal.setting
        if setting is not None:
            self.guard.put(setting.operation, setting.state, self._proposal.epoch)
        self._proposal, self._committed = None, plan_id
        self._commits += 1

    def state(self) -> EngineState:
        """What a checkpoint keeps; a proposal that is not committed is not in it."""
        return EngineState(self.records(), self._outcomes.all(), self.guard.memory())

    def restore(self, state: EngineState) -> None:
        """Go on from `state`. Outcomes known here stay known: a rollback does not make a command new, nor
        does it heal what has failed since.

        Raises:
            ValueError: a record is of a site that this engine does not have, or a site has no record.
                Nothing changes.
        """
        there = {record.site for record in state.records}
        if there != self._sites.keys():
            raise ValueError(
                f"the state is of the sites {', '.join(sorted(there))}; "
                f"this engine has {', '.join(sorted(self._sites))}"
            )
        self._take({record.seed_id: record for record in state.records})
        self._outcomes = Outcomes((*state.outcomes, *self._outcomes.all()))
        self.guard.restore(state.breakers)
        self._proposal, self._committed = None, None
        self._commits += 1

    def _take(self, records: dict[str, SeedRecord]) -> None:
        """These are the seeds from now on."""
        if records is not self._records:
            self._records, self._in_order = records, None

    def _after(self, draft: Draft) -> dict[str, SeedRecord]:
        """The records once the draft's changes are made."""
        return after(self._records, draft.changes) if draft.changes else self._records

    def _offer(self, command: AdaptationCommand, now: _Situation, due: Draft) -> Verdict:
        """The verdict on what `command` comes to, after the housekeeping `due`; on offer from now on."""
        epoch = now.epoch
        try:
            draft, refusal = check_changes(self.guard, self._command(command, now), epoch), ""
        except Refused as error:
            draft, refusal = Draft(error.changes, error.gates), str(error)
        whole = due + draft
        plan_id = f"{self._commits}/{epoch}/{command.command_id}"
        applied = not refusal
        outcome = Outcome(command, applied, refusal, whole.gates)
        self._proposal = _Proposal(plan_id, epoch, self._after(whole), outcome, draft.setting)
        return Verdict(GraftPlan(plan_id, whole.changes, epoch), applied, refusal, whole.gates)

    def _offer_again(self, known: Outcome, command: AdaptationCommand, due: Draft, epoch: int) -> Verdict:
        """A known id's stored answer with today's housekeeping; another command under it is refused."""
        plan = GraftPlan(f"{self._commits}/{epoch}/{command.command_id} again", due.changes, epoch)
        self._proposal = _Proposal(plan.plan_id, epoch, self._after(due), None)
        if known.command != command:
            refusal = f"command id {command.command_id} was used for another command; each needs its own"
            return Verdict(plan, False, refusal, due.gates)
        return Verdict(plan, known.applied, known.refusal, known.gates, repeated=True)

    def _command(self, command: AdaptationCommand, now: _Situation) -> Draft:
        check_fresh(command, now.now_ns)
        check_issuer(command, self._config.issuers)
        match command.command_type:
            case CommandType.PAUSE:
                return self._pause(command, now) if command.target_seed_id else Draft()
            case CommandType.CIRCUIT_BREAKER:
                return Draft(setting=setting_of(command))
            case CommandType.SEED:
                if not isinstance(command.payload, CommandSeedOperation):
                    raise Refused("a SEED command needs a seed operation as its payload")
                return self._operation(command, command.payload, now)
            case other:
                raise Refused(f"Kasmina takes SEED, PAUSE and CIRCUIT_BREAKER commands, not {other.name}")

    def _pause(self, command: AdaptationCommand, now: _Situation) -> Draft:
        record = _target(now.records, command.target_seed_id)
        if command.annotations.get("resume") == "true":
            return resume(record, now.epoch)
        return pause(record, self._config.pause_epochs_max, now.epoch)

    def _operation(self, command: AdaptationCommand, asked: CommandSeedOperation, now: _Situation) -> Draft:
        if asked.operation is SeedOperation.GERMINATE:
            return self._germinate(command, asked, now)
        if asked.parameters:
            raise Refused(
                f"{asked.operation.name} takes no parameters (given: {', '.join(sorted(asked.parameters))})"
            )
        record = _target(now.records, command.target_seed_id)
        match asked.operation:
            case SeedOperation.UNKNOWN:
                names = ", ".join(operation.name for operation in OPERATION_TARGET)
                raise Refused(f"UNKNOWN is no operation; there are {names}")
            case SeedOperation.CULL if command.annotations.get("terminate") == "true":
                check_operator(command, "take seeds down for good")
                return self._termination(record, now.epoch)
            case SeedOperation.CULL | SeedOperation.CANCEL:
                rollback = command.annotations.get("rollback") == "true"
                with self.guard.run(Operation.CULL, now.epoch):
                    return cull(record, rollback, now.config.embargo_epochs, now.epoch)
            case SeedOperation.FINE_TUNE:
                return fine_tune(record, now.epoch)
            case operation:
                return self._advance(record, OPERATION_TARGET[operation], now)

    def _germinate(self, command: AdaptationCommand, asked: CommandSeedOperation, now: _Situation) -> Draft:
        """Nothing that a blueprint's own code raises goes further than the refusal."""
        if now.conservative:
            raise Refused("the run is in conservative mode: nothing is germinated until it has left it")
        if now.resting:
            raise Refused("growth rests after a trouble: nothing is germinated until that is over")
        for operation in (Operation.GERMINATE, Operation.INSERT):
            self.guard.check(operation, now.epoch)
        try:
            with self.guard.run(Operation.GERMINATE, now.epoch):
                return Draft(
                    (self._germination.plan(command, asked, now.records, now.epoch, now.params_now),)
                )
        except WRONG as error:
            text = f"{type(error).__name__}: {error}"
            raise Refused(f"{asked.blueprint_id} can't be built: {text}") from error

    def _advance(self, record: SeedRecord, target: Stage, now: _Situation) -> Draft:
        """Along the main line; in a drill no gate is asked twice."""
        self.guard.check(Operation.ADVANCE, now.epoch)
        figures = now.figures.get(record.seed_id, SeedFigures(record.seed_id))
        fossils = sum(
            one.site == record.site and one.stage is Stage.FOSSILIZED for one in now.records.values()
        )
        try:
            with self.guard.run(Operation.ADVANCE, now.epoch):
                return advance(record, target, figures, now.config, now.epoch, fossils)
        except Refused as refused:
            if record.drill and refused.gates:
                raise expelled(record, refused, now.config.embargo_epochs, now.epoch) from None
            raise

    def _termination(self, record: SeedRecord, epoch: int) -> Draft:
        legal(record, Stage.TERMINATED)
        gone = msgspec.structs.replace(
            record, stage=Stage.TERMINATED, stage_epoch=epoch, alpha=0.0, paused_since=-1
        )
        in_place = record.stage in ACTIVE | LIVE
        with self.guard.run(Operation.TERMINATE, epoch):
            return Draft((Remove(gone, rollback=False) if in_place else Note(gone),))


def _target(records: Records, seed_id: str) -> SeedRecord:
    record = records.get(seed_id)
    if record is None:
        known = ", ".join(sorted(records)) or "none"
        raise Refused(f"there is no seed {seed_id!r}; the seeds are {known}")
    return record
