"""The engine under random commands, random figures and lost commits, beside a trainer that obeys it."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace

from contracts.config import GrowthConfig
from contracts.growth import SeedFigures, SeedRecord
from contracts.lifecycle import ACTIVE, ENDS, LIVE, MAIN_LINE, SeedOperation, Stage, targets
from contracts.messages import AdaptationCommand
from esper.kasmina.plan import Verdict
from tests import strategies
from tests.esper.kasmina.engine_world import AT_ONCE, SITES, Rig
from tests.examples import examples

MAX_PARAMS = 338 + 90
PAUSE_EPOCHS_MAX = 2
BLUEPRINTS = {"BP001": {}, "BP002": {"rank": 1.0}, "BP003": {"width": 2.0}, "BP901": {}, "BP902": {}}
SEED_IDS = st.tuples(st.sampled_from("abc"), st.integers(0, 2)).map(lambda pair: f"{pair[0]}#{pair[1]}")
COMMANDS = st.sampled_from(sorted(BLUEPRINTS)).flatmap(
    lambda blueprint_id: strategies.seed_commands(
        command_ids=st.integers(0, 40).map(str),
        site_names=st.sampled_from("abcd"),
        seed_ids=SEED_IDS,
        blueprint_ids=st.just(blueprint_id),
        parameters=st.dictionaries(
            st.sampled_from([*AT_ONCE.__struct_fields__]), st.sampled_from([0.0, 1.0, 2.0])
        ).map(lambda path: path | BLUEPRINTS[blueprint_id]),
    )
)
FIGURES = st.one_of(
    st.just(strategies.healthy("")),
    st.just(strategies.healthy("")),
    strategies.figures(""),
)

OPERATION_OF = {
    Stage.TRAINING: SeedOperation.START_TRAINING,
    Stage.BLENDING: SeedOperation.START_GRAFTING,
    Stage.SHADOWING: SeedOperation.STABILIZE,
    Stage.PROBATIONARY: SeedOperation.EVALUATE,
    Stage.FOSSILIZED: SeedOperation.FOSSILIZE,
}
"""The command that asks for a stage of the main line."""
STEPS = [*OPERATION_OF.values(), SeedOperation.CULL, SeedOperation.FINE_TUNE]


class EngineMachine(RuleBasedStateMachine):
    """Proposes, and applies and commits what it was not told to lose."""

    @initialize(
        max_active=st.integers(1, 3), max_per_site=st.integers(1, 2), embargo_epochs=st.integers(0, 2)
    )
    def start(self, max_active: int, max_per_site: int, embargo_epochs: int) -> None:
        config = GrowthConfig(
            max_params=MAX_PARAMS,
            max_active=max_active,
            max_per_site=max_per_site,
            embargo_epochs=embargo_epochs,
            pause_epochs_max=PAUSE_EPOCHS_MAX,
            path=AT_ONCE,
        )
        self.rig = Rig(config)
        self.answered: dict[str, tuple[AdaptationCommand, Verdict]] = {}

    def measured(self, figures: SeedFigures) -> dict[str, SeedFigures]:
        return {one.seed_id: replace(figures, seed_id=one.seed_id) for one in self.rig.engine.records()}

    @rule(command=COMMANDS, figures=FIGURES, lost=st.booleans())
    def ask(self, command: AdaptationCommand, figures: SeedFigures, lost: bool) -> None:
        measured = self.measured(figures)
        state = self.rig.engine.state()
        housekeeping = self.rig.propose(self.rig.pause(), measured).plan.changes
        verdict = self.rig.propose(command, measured)
        assert self.rig.engine.state() == state, "to propose changes nothing"
        if not verdict.applied or verdict.repeated:
            assert verdict.plan.changes == housekeeping, "a refused command changes nothing"
        assert verdict.applied == (not verdict.refusal)
        if not lost:
            self.answered.setdefault(command.command_id, (command, verdict))
            self.take(verdict)

    @precondition(lambda self: bool(self.answered))
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        command, first = data.draw(st.sampled_from(list(self.answered.values())))
        again = self.rig.propose(command)
        assert again.repeated
        assert (again.applied, again.refusal, again.gates) == (first.applied, first.refusal, first.gates)
        self.take(again)

    @rule(data=st.data(), blueprint_id=st.sampled_from(["BP001", "BP001", "BP002", "BP003"]))
    def grow(self, data: st.DataObject, blueprint_id: str) -> None:
        free = [one.site for one in self.rig.engine.records() if one.stage is Stage.DORMANT]
        site = data.draw(st.sampled_from(free or ["a"]))
        command = self.rig.command(
            SeedOperation.GERMINATE, "", blueprint_id, BLUEPRINTS[blueprint_id], site=site
        )
        self.take(self.rig.propose(command))

    @rule(data=st.data(), operation=st.sampled_from(STEPS))
    def step(self, data: st.DataObject, operation: SeedOperation) -> None:
        """Of a seed that exists, with healthy figures: often enough that seeds get far."""
        records = self.rig.engine.records()
        active = [one for one in records if one.stage in ACTIVE]
        command = self.rig.command(operation, data.draw(st.sampled_from(active or records)).seed_id)
        self.take(self.rig.propose(command))

    @rule(data=st.data(), resume=st.booleans())
    def pause(self, data: st.DataObject, resume: bool) -> None:
        """Of a seed that exists, so that pauses meet every stage."""
        records = self.rig.engine.records()
        active = [one for one in records if one.stage in ACTIVE]
        seed_id = data.draw(st.sampled_from(active or records)).seed_id
        self.take(self.rig.propose(self.rig.pausing(seed_id, **({"resume": "true"} if resume else {}))))

    @precondition(lambda self: self.rig.epoch >= 3)  # else most sites close before anything happens there
    @rule(seed_id=SEED_IDS, lost=st.booleans())
    def terminate(self, seed_id: str, lost: bool) -> None:
        state = self.rig.engine.state()
        verdict = self.rig.propose(self.rig.terminating(seed_id))
        assert self.rig.engine.state() == state
        if not lost:
            self.take(verdict)

    @rule(figures=FIGURES)
    def next_epoch(self, figures: SeedFigures) -> None:
        self.rig.epoch += 1
        self.take(self.rig.propose(self.rig.pause(), self.measured(figures)))

    def take(self, verdict: Verdict) -> None:
        """Apply and commit; every change has to be a step that the table has, from where the seed was."""
        stages = {one.seed_id: one.stage for one in self.rig.engine.records()}
        for change in verdict.plan.changes:
            new = change.record
            old = stages.get(new.seed_id)
            if old is None:
                assert new.stage is Stage.DORMANT, "a new slot is dormant"
            elif old is not new.stage:
                assert new.stage in targets(old), f"{old.name} to {new.stage.name}"
            stages[new.seed_id] = new.stage
        self.rig.take(verdict)

    @invariant()
    def the_record_is_what_the_trainer_has(self) -> None:
        records = self.rig.engine.records()
        assert {one.seed_id for one in records if one.stage in ACTIVE | LIVE} == self.rig.world.in_place
        live = {one.seed_id: one.alpha for one in records if one.stage in LIVE}
        assert live == self.rig.world.alpha
        assert all(0 < alpha <= 1 for alpha in live.values())

    @invariant()
    def what_is_paused_is_in_progress_and_within_its_quota(self) -> None:
        records = self.rig.engine.records()
        assert {one.seed_id for one in records if one.paused} == self.rig.world.paused
        assert all(one.stage in ACTIVE for one in records if one.paused)
        assert all(one.paused_epochs <= PAUSE_EPOCHS_MAX for one in records)

    @invariant()
    def no_limit_is_passed(self) -> None:
        records, config = self.rig.engine.records(), self.rig.config
        assert sum(one.stage in ACTIVE for one in records) <= config.max_active
        held = sum(one.params for one in records if one.stage in ACTIVE | LIVE)
        assert 338 + held == self.rig.params <= MAX_PARAMS
        for site in SITES:
            here = [one for one in records if one.site == site.name]
            assert sum(one.stage in ACTIVE | LIVE for one in here) <= config.max_per_site
            assert sum(one.stage not in ENDS for one in here) <= 1, "a site has one seed in progress"

    @invariant()
    def no_dangerous_blueprint_is_in(self) -> None:
        assert all(one.blueprint_id != "BP902" for one in self.rig.engine.records())

    def teardown(self) -> None:
        """From wherever it got to, every seed can be brought to an end, and every culled site comes free."""
        if not hasattr(self, "rig"):
            return
        for record in self.rig.engine.records():
            self.finish(record)
        self.the_record_is_what_the_trainer_has()
        self.no_limit_is_passed()

    def finish(self, record: SeedRecord) -> None:
        for _ in range(30):
            stages = {one.seed_id: one.stage for one in self.rig.engine.records()}
            stage = stages.get(record.seed_id, Stage.DORMANT)  # a reset site has a new seed
            if stage in ENDS or stage is Stage.DORMANT:
                return
            self.rig.epoch += 1
            if any(one.paused for one in self.rig.engine.records() if one.seed_id == record.seed_id):
                verdict = self.rig.propose(self.rig.pause())  # it resumes by itself
            elif stage in MAIN_LINE:
                following = MAIN_LINE[MAIN_LINE.index(stage) + 1]
                verdict = self.rig.propose(self.rig.command(OPERATION_OF[following], record.seed_id))
                assert verdict.applied, verdict.refusal
            else:
                verdict = self.rig.propose(self.rig.pause())
            self.take(verdict)
        raise AssertionError(f"{record.seed_id} reached no end")


EngineMachine.TestCase.settings = settings(
    max_examples=examples(30, 600), stateful_step_count=40, deadline=None
)
TestEngine = EngineMachine.TestCase
