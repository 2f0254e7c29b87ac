"""The whole control loop with every actor, on a virtual clock, with a trainer that only keeps books."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from actors.company import Company, Outcome
from actors.runtime import Threads
from actors.runtime.simulation import run_simulated
from contracts import topics
from contracts.config import Config, EmergencyConfig, GrowthConfig
from contracts.growth import GrowthView, Path, ProbePlan, ProbeReport
from contracts.lifecycle import Stage
from contracts.messages import AdaptationCommand, SystemState
from esper.karn.catalogue import CATALOGUE
from esper.kasmina.engine import Engine
from esper.tamiyo.action import Action, Wait
from esper.tamiyo.baselines import GrowBlindly, NeverGrow
from esper.tamiyo.controller import Controller
from esper.tamiyo.heuristic import Heuristic
from esper.tamiyo.policy import Policy
from esper.tolaria.errors import PlanRefused
from tests.actors.fakes import FakeTrainer, SlowThreads, Spectator, VirtualLane
from tests.actors.staging import fake_play, surroundings
from tests.examples import few_seeds

CONFIG = Config(
    growth=GrowthConfig(path=Path(0, 0, 0, 3), embargo_epochs=2, max_params=1300),
    emergency=EmergencyConfig(slow_boundaries=1_000_000),  # a virtual lane's turn begins when it ends
)
DEADLINE_S = CONFIG.budgets.tamiyo_inference_ms / 1e3


@dataclass
class Played:
    """One simulated run and everything that can be asked about it afterwards."""

    outcome: Outcome
    trainer: FakeTrainer
    spectator: Spectator
    engine: Engine
    lane: VirtualLane
    took_s: float

    @property
    def stages(self) -> list[tuple[str, str, int]]:
        """Every stage that a seed entered: seed, stage, epoch."""
        grafts = self.outcome.witness.recorder.recorded.grafts.values()
        return [(graft.seed_id, entry.stage, entry.epoch) for graft in grafts for entry in graft.stages]


def play(
    policy: Policy,
    trainer: FakeTrainer | None = None,
    *,
    seed: int = 0,
    threads: Threads | None = None,
    controller: Controller | None = None,
    meddle: Callable[[Company], None] = lambda company: None,
    config: Config = CONFIG,
    lane: VirtualLane | None = None,
    spent_s: Callable[[], float] = float,
) -> Played:
    """Play one run from its first epoch to its conclusion, in virtual time; `spent_s` comes on top."""
    training, spectator, lane = trainer or FakeTrainer(), Spectator(), lane or VirtualLane()

    async def main() -> Played:
        loop = asyncio.get_running_loop()
        script = fake_play(policy, training, config, seed, spectator)
        script = replace(
            script,
            controller=controller or script.controller,
            policy_in_thread=threads is not None,
        )
        company = Company(script, surroundings(seed, lane, threads, now=lambda: loop.time() + spent_s()))
        meddle(company)
        outcome = await company.perform()
        return Played(outcome, training, spectator, script.engine, lane, loop.time())

    return run_simulated(main, seed=seed)


def alerts(played: Played, name: str) -> list[str]:
    return [alert.text for alert in played.outcome.witness.recorder.recorded.alerts if alert.name == name]


def blind(seed: int = 0) -> GrowBlindly:
    return GrowBlindly(CATALOGUE, random.Random(seed), CONFIG.growth, window=(0.05, 0.4))


class Scripted(NeverGrow):
    """Does what the script says at each epoch; anything that raises is raised, anything else is answered."""

    def __init__(self, script: Callable[[int], Any]) -> None:
        self._script = script

    def act(self, state: SystemState, view: GrowthView) -> Action:
        action: Action = self._script(view.epoch)
        return action


def test_a_run_that_never_grows_trains_every_epoch_and_finishes() -> None:
    played = play(NeverGrow())
    assert played.outcome.conclusion.final is not None
    assert played.trainer.epoch == 30
    recorded = played.outcome.witness.recorder.recorded
    assert [facts.epoch for facts in recorded.epochs] == list(range(1, 31))
    assert recorded.applied == {"WAIT": 29}
    assert not recorded.grafts
    assert not recorded.late


def test_a_blind_policy_takes_seeds_all_the_way_to_fossils() -> None:
    played = play(blind(), FakeTrainer(epochs=60))
    fossils = [one for one in played.engine.records() if one.stage is Stage.FOSSILIZED]
    assert len(fossils) == 3
    assert played.trainer.records == {
        **played.trainer.records,
        **{one.seed_id: one for one in fossils},
    }, "what the trainer applied is what the engine has committed"
    assert any("fossilized" in event for event in played.spectator.events)
    named = {seed_id for seed_id, _, _ in played.stages}
    told = [event for event in played.spectator.events if event.startswith(("germinated:", "fossilized:"))]
    assert told
    assert all(any(f" at {seed_id}:" in event for seed_id in named) for event in told), (
        "orders name a seed by its id"
    )


def test_the_heuristic_races_then_germinates_what_won() -> None:
    policy = Heuristic(CATALOGUE, CONFIG.growth, CONFIG.tamiyo.heuristic)
    played = play(policy, FakeTrainer(epochs=80))
    recorded = played.outcome.witness.recorder.recorded
    assert [probe.probe_id.split("-")[0] for probe in recorded.probes] == ["kinds", "sites"]
    winner = recorded.probes[1].candidates[0]
    first = next(iter(recorded.grafts.values()))
    assert (first.blueprint_id, first.site) == (winner.blueprint_id, winner.sites[0])
    assert len([one for one in played.engine.records() if one.stage is Stage.FOSSILIZED]) == 3


def test_a_seed_that_gains_nothing_is_culled_and_its_site_rests() -> None:
    policy = Heuristic(CATALOGUE, CONFIG.growth, CONFIG.tamiyo.heuristic)
    played = play(policy, FakeTrainer(epochs=80, gain=-0.5))
    entered = [stage for _, stage, _ in played.stages]
    assert "CULLED" in entered
    assert "EMBARGOED" in entered
    assert "FOSSILIZED" not in entered


@few_seeds(2, 4)
def test_the_same_seed_plays_the_same_run(seed: int) -> None:
    first, second = (play(blind(seed), FakeTrainer(epochs=40), seed=seed) for _ in range(2))
    assert first.stages == second.stages
    assert first.spectator.events == second.spectator.events
    assert first.took_s == second.took_s


def test_no_order_of_the_actors_steps_changes_what_the_run_does() -> None:
    reference, *shuffled = (play(blind(7), FakeTrainer(epochs=40), seed=seed) for seed in (1000, *range(5)))
    assert [one.stages for one in shuffled] == [reference.stages] * 5


@pytest.mark.slow
def test_none_of_a_hundred_orders_changes_what_the_run_does() -> None:
    reference, *shuffled = (play(blind(7), FakeTrainer(epochs=40), seed=seed) for seed in range(1_000, 1_100))
    assert [one.stages for one in shuffled] == [reference.stages] * 99


@few_seeds(2, 5)
def test_the_bus_accounts_for_every_message(seed: int) -> None:
    played = play(blind(seed), FakeTrainer(epochs=40), seed=seed)
    bus = played.outcome.bus
    assert bus.closes()
    assert bus.depth == 0
    states = next(row for row in bus.published if row.topic == topics.SYSTEM_STATE and row.ledger.published)
    assert states.ledger.published == 39


def crash_at(*epochs: int) -> Callable[[int], Any]:
    def script(epoch: int) -> Any:
        if epoch in epochs:
            raise RuntimeError("a bug in the policy")
        return Wait()

    return script


@pytest.mark.parametrize(
    ("policy", "threads"),
    [
        (blind(), None),
        (Scripted(crash_at(5, 10, 15)), None),
        (Scripted(crash_at(*range(100))), None),
        (Scripted(lambda epoch: None if epoch % 4 == 0 else Wait()), None),
        (NeverGrow(), SlowThreads(0.3)),
        (NeverGrow(), SlowThreads(1e6)),
    ],
    ids=["sound", "crashes now and then", "always crashes", "nonsense", "slow", "hangs"],
)
def test_every_command_gets_one_field_report_whatever_the_policy_does(
    policy: Policy, threads: Threads | None
) -> None:
    played = play(policy, FakeTrainer(epochs=40), threads=threads)
    counted = played.outcome.witness.counters.growth.field_reports
    commands = next(
        row
        for row in played.outcome.bus.published
        if row.topic == topics.ADAPTATION_COMMAND and row.ledger.published
    )
    assert commands.ledger.published == 39
    assert sum(counted.values()) == 39


def test_a_slow_controller_costs_one_deadline_and_do_nothing_epochs_until_it_has_answered() -> None:
    played = play(NeverGrow(), FakeTrainer(epochs=40), threads=SlowThreads(0.5))
    recorded = played.outcome.witness.recorder.recorded
    assert played.outcome.conclusion.final is not None
    waited = [facts.boundary_ms.decide for facts in recorded.epochs if facts.boundary_ms is not None]
    # the lane's own start, which in a simulation takes a job's whole time, is part of each
    lane_ms = played.lane.job_s * 1e3
    assert max(waited) <= lane_ms + DEADLINE_S * 1e3 + 0.6
    asked = [one for one in waited if one > lane_ms + 1]
    assert 0 < len(asked) < len(waited) / 2, "while an answer is overdue nobody waits for another"
    assert recorded.late == 39


def test_a_slow_survey_does_not_hold_a_boundary_up() -> None:
    class SlowToSurvey:
        """Answers decisions at once and surveys late."""

        async def run(self, work: Callable[[], Any]) -> Any:
            result = work()
            if not isinstance(result, AdaptationCommand):
                await asyncio.sleep(0.3)
            return result

    played = play(NeverGrow(), FakeTrainer(epochs=30), threads=SlowToSurvey())
    recorded = played.outcome.witness.recorder.recorded
    limit = (played.lane.job_s + DEADLINE_S) * 1e3 + 0.6
    assert all(one.boundary_ms is None or one.boundary_ms.decide <= limit for one in recorded.epochs)


@pytest.mark.parametrize("answer", ["a string", 7, ProbePlan("p", (), ())])
def test_a_nonsensical_survey_costs_nothing_but_itself(answer: Any) -> None:
    class Babbling(NeverGrow):
        def survey(self, state: SystemState, view: GrowthView) -> Any:
            return answer if view.epoch == 5 else None

    class Strict(FakeTrainer):
        def probe(self, plan: ProbePlan, tell: Callable[[int, int], None]) -> ProbeReport:
            raise PlanRefused("a probe without contenders")

    played = play(Babbling(), Strict(epochs=20))
    assert played.outcome.conclusion.final is not None
    assert played.trainer.epoch == 20
    assert len(alerts(played, "probe_refused")) == 1


def test_a_controller_that_crashes_is_restarted_and_training_goes_on() -> None:
    def crash_once(epoch: int) -> Action:
        if epoch == 3:
            raise RuntimeError("a bug in the policy")
        return Wait()

    played = play(Scripted(crash_once), FakeTrainer(epochs=30))
    recorded = played.outcome.witness.recorder.recorded
    assert played.trainer.epoch == 30
    assert 1 <= recorded.late <= 4, "while it restarts, boundaries do nothing"
    assert "a bug in the policy" in alerts(played, "decision_missing")[0]
    tamiyo = next(actor for actor in played.outcome.system.actors if actor.name == "tamiyo")
    assert tamiyo.restarts == 1


def test_a_controller_that_always_crashes_stops_and_training_goes_on_without_it() -> None:
    def crash(epoch: int) -> Action:
        raise RuntimeError("a bug in the policy")

    played = play(Scripted(crash), FakeTrainer(epochs=200))
    recorded = played.outcome.witness.recorder.recorded
    assert played.outcome.conclusion.final is not None
    assert played.trainer.epoch == 200
    assert recorded.late == 199
    assert "actor_failed" in {alert.name for alert in recorded.alerts}


def test_a_controller_that_answers_nonsense_is_overruled() -> None:
    class Babbling(Controller):
        def decide(self, state: SystemState, view: GrowthView, now_ns: int) -> Any:
            return "yes"

    policy = NeverGrow()
    played = play(policy, controller=Babbling(policy, "fake"))
    recorded = played.outcome.witness.recorder.recorded
    assert recorded.late == 29
    assert "str where AdaptationCommand was due" in alerts(played, "decision_missing")[0]


def test_training_that_fails_halts_the_run_with_an_emergency_signal() -> None:
    played = play(NeverGrow(), FakeTrainer(epochs=30, fails_at=10))
    conclusion = played.outcome.conclusion
    assert "the loss is not a number" in conclusion.halted
    assert conclusion.final is not None, "the network as it was is judged all the same"
    emergency = [row for row in played.outcome.bus.published if row.topic == topics.EMERGENCY]
    assert sum(row.ledger.published for row in emergency) == 1


def test_a_halt_ends_the_run_after_the_present_epoch() -> None:
    def meddle(company: Company) -> None:
        asyncio.get_running_loop().call_later(0.5, company.halt, "enough")

    played = play(NeverGrow(), FakeTrainer(epochs=1000), meddle=meddle)
    assert played.outcome.conclusion.interrupted == "enough"
    assert played.outcome.conclusion.final is not None
    assert played.trainer.epoch < 20


def test_a_survey_is_answered_by_a_probe_before_the_epoch_after_next() -> None:
    class Curious(NeverGrow):
        def __init__(self) -> None:
            self.seen: list[int] = []

        def survey(self, state: SystemState, view: GrowthView) -> ProbePlan | None:
            return ProbePlan(f"p{view.epoch}", (), ()) if view.epoch == 4 else None

        def act(self, state: SystemState, view: GrowthView) -> Action:
            if view.evidence is not None:
                self.seen.append(view.epoch)
            return Wait()

    policy = Curious()
    play(policy, FakeTrainer(epochs=10))
    assert policy.seen[0] == 6
