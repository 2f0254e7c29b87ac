"""The grafting engine: the record of every seed, and the only judge of what may happen to it next.

    verdict = engine.propose(command, figures, epoch, now_ns, params_now)   # plans; changes nothing
    applied = trainer.apply(verdict.plan)                                   # at the safe point
    engine.commit(verdict.plan.plan_id)                                     # now it is so

A plan that is never committed is as if it had not been made. The newest proposal is the only one that
can be committed.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import msgspec

from contracts.config import GrowthConfig
from contracts.growth import Candidate, SeedFigures, SeedRecord, SiteInfo
from contracts.kernels import KernelSpec
from contracts.lifecycle import ACTIVE, LIVE, OPERATION_TARGET, SeedOperation, Stage
from contracts.messages import AdaptationCommand, CommandSeedOperation, CommandType, WallNs
from esper.karn.catalogue import Catalogue
from esper.kasmina.advance import advance, cull, expelled, fine_tune
from esper.kasmina.draft import Draft, Records, Refused, after, legal, number, slot
from esper.kasmina.germination import Germination
from esper.kasmina.outcomes import Outcome, Outcomes
from esper.kasmina.permission import DrillPermission
from esper.kasmina.plan import GraftPlan, Note, Remove, Verdict
from esper.kasmina.stock import Stock
from esper.kasmina.upkeep import upkeep

NS_PER_MS = 1_000_000


class UnknownPlan(ValueError):
    """A commit of a plan that is not the newest proposal."""


class EngineState(msgspec.Struct, frozen=True):
    """Everything the engine remembers, as data for a checkpoint."""

    records: tuple[SeedRecord, ...]
    outcomes: tuple[Outcome, ...] = ()


@dataclass(frozen=True)
class _Situation:
    """What a command is judged against."""

    records: Records
    figures: Mapping[str, SeedFigures]
    epoch: int
    now_ns: WallNs
    params_now: int


@dataclass(frozen=True)
class _Proposal:
    """A plan on offer, and what the engine will remember once it is committed."""

    plan_id: str
    records: dict[str, SeedRecord]
    outcome: Outcome | None


class Engine:
    """Plans the life of every seed at `sites`; at first each site has one dormant slot.

    `seed` is the run's: a seed's initial values depend on it and on the seed's id alone.
    """

    def __init__(
        self,
        sites: Iterable[SiteInfo],
        config: GrowthConfig,
        catalogue: Catalogue,
        seed: int,
        stock: Stock | None = None,
        permission: DrillPermission | None = None,
    ) -> None:
        self._sites = {site.name: site for site in sites}
        self._config = config
        self._germination = Germination(self._sites, config, catalogue, seed, stock, permission)
        self._records: dict[str, SeedRecord] = {}
        for name in self._sites:
            self._records[slot(name, 0).seed_id] = slot(name, 0)
        self._outcomes = Outcomes()
        self._commits = 0
        self._proposal: _Proposal | None = None
        self._committed: str | None = None

    def records(self) -> tuple[SeedRecord, ...]:
        """Every seed in the order of its site, the oldest of a site first."""
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
    ) -> Verdict:
        """Judge `command` and plan this boundary, housekeeping first; nothing changes until `commit`.

        `figures` are by seed id, `params_now` counts the grown network as it is. A PAUSE asks for the
        housekeeping alone.
        """
        due = upkeep(self._records, figures, self._config, epoch)
        now = _Situation(after(self._records, due.changes), figures, epoch, now_ns, params_now)
        known = self._outcomes.get(command.command_id)
        if known is not None:
            return self._offer_again(known, command, due, epoch)
        return self._offer(lambda: self._command(command, now), due, epoch, command.command_id, command)

    def terminate(self, seed_id: str, epoch: int) -> Verdict:
        """Plan to take a seed down for good, from any stage; without one in progress its site closes."""
        return self._offer(lambda: self._termination(seed_id, epoch), Draft(), epoch, f"terminate {seed_id}")

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
        self._records = self._proposal.records
        if self._proposal.outcome is not None:
            self._outcomes.keep(self._proposal.outcome)
        self._proposal, self._committed = None, plan_id
        self._commits += 1

    def state(self) -> EngineState:
        """What a checkpoint keeps; a proposal that is not committed is not in it."""
        return EngineState(self.records(), self._outcomes.all())

    def restore(self, state: EngineState) -> None:
        """Go on from `state`. Outcomes known here stay known: a rollback does not make a command new.

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
        self._records = {record.seed_id: record for record in state.records}
        self._outcomes = Outcomes((*state.outcomes, *self._outcomes.all()))
        self._proposal, self._committed = None, None
        self._commits += 1

    def _offer(
        self,
        plan: Callable[[], Draft],
        due: Draft,
        epoch: int,
        name: str,
        command: AdaptationCommand | None = None,
    ) -> Verdict:
        """The verdict on what `plan` comes to, after the housekeeping `due`; on offer from now on."""
        try:
            draft, refusal = plan(), ""
        except Refused as error:
            draft, refusal = Draft(error.changes, error.gates), str(error)
        whole = due + draft
        plan_id = f"{self._commits}/{epoch}/{name}"
        applied = not refusal
        outcome = Outcome(command, applied, refusal, whole.gates) if command is not None else None
        self._proposal = _Proposal(plan_id, after(self._records, whole.changes), outcome)
        return Verdict(GraftPlan(plan_id, whole.changes), applied, refusal, whole.gates)

    def _offer_again(self, known: Outcome, command: AdaptationCommand, due: Draft, epoch: int) -> Verdict:
        """A known id's stored answer with today's housekeeping; another command under it is refused."""
        plan = GraftPlan(f"{self._commits}/{epoch}/{command.command_id} again", due.changes)
        self._proposal = _Proposal(plan.plan_id, after(self._records, due.changes), None)
        if known.command != command:
            refusal = f"command id {command.command_id} was used for another command; each needs its own"
            return Verdict(plan, False, refusal, due.gates)
        return Verdict(plan, known.applied, known.refusal, known.gates, repeated=True)

    def _command(self, command: AdaptationCommand, now: _Situation) -> Draft:
        _check_fresh(command, now.now_ns)
        if command.command_type is CommandType.PAUSE:
            if command.target_seed_id:
                raise Refused("a single seed can't be paused; PAUSE without a target does nothing more")
            return Draft()
        if command.command_type is not CommandType.SEED:
            raise Refused(f"Kasmina takes SEED and PAUSE commands, not {command.command_type.name}")
        if not isinstance(command.payload, CommandSeedOperation):
            raise Refused("a SEED command needs a seed operation as its payload")
        return self._operation(command, command.payload, now)

    def _operation(self, command: AdaptationCommand, asked: CommandSeedOperation, now: _Situation) -> Draft:
        if asked.operation is SeedOperation.GERMINATE:
            insert = self._germination.plan(command, asked, now.records, now.epoch, now.params_now)
            return Draft((insert,))
        if asked.parameters:
            raise Refused(
                f"{asked.operation.name} takes no parameters (given: {', '.join(sorted(asked.parameters))})"
            )
        record = _target(now.records, command.target_seed_id)
        match asked.operation:
            case SeedOperation.UNKNOWN:
                names = ", ".join(operation.name for operation in OPERATION_TARGET)
                raise Refused(f"UNKNOWN is no operation; there are {names}")
            case SeedOperation.CULL | SeedOperation.CANCEL:
                rollback = command.annotations.get("rollback") == "true"
                return cull(record, rollback, self._config.embargo_epochs, now.epoch)
            case SeedOperation.FINE_TUNE:
                return fine_tune(record, now.epoch)
            case operation:
                figures = now.figures.get(record.seed_id, SeedFigures(record.seed_id))
                fossils = sum(
                    one.site == record.site and one.stage is Stage.FOSSILIZED for one in now.records.values()
                )
                try:
                    target = OPERATION_TARGET[operation]
                    return advance(record, target, figures, self._config, now.epoch, fossils)
                except Refused as refused:
                    if record.drill and refused.gates:  # in a drill no gate is asked twice
                        raise expelled(record, refused, self._config.embargo_epochs, now.epoch) from None
                    raise

    def _termination(self, seed_id: str, epoch: int) -> Draft:
        record = _target(self._records, seed_id)
        legal(record, Stage.TERMINATED)
        gone = msgspec.structs.replace(record, stage=Stage.TERMINATED, stage_epoch=epoch, alpha=0.0)
        in_place = record.stage in ACTIVE | LIVE
        return Draft((Remove(gone, rollback=False) if in_place else Note(gone),))


def _check_fresh(command: AdaptationCommand, now_ns: WallNs) -> None:
    age_ms = (now_ns - command.issued_at) / NS_PER_MS
    if age_ms > command.execution_deadline_ms:
        raise Refused(
            f"command {command.command_id} is {age_ms:.0f} ms old and had to be executed within "
            f"{command.execution_deadline_ms} ms; issue it anew"
        )


def _target(records: Records, seed_id: str) -> SeedRecord:
    record = records.get(seed_id)
    if record is None:
        known = ", ".join(sorted(records)) or "none"
        raise Refused(f"there is no seed {seed_id!r}; the seeds are {known}")
    return record
