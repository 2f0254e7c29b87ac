"""Policies that a simulated run may have: sound ones, and one that wishes for anything and may break."""

from typing import Any

from contracts.config import Config
from contracts.growth import GrowthView, Path, ProbePlan
from contracts.lifecycle import SeedOperation
from contracts.messages import SystemState
from esper.karn.catalogue import CATALOGUE
from esper.tamiyo.action import Action, Advance, Cull, Germinate, Wait
from esper.tamiyo.baselines import GrowBlindly, NeverGrow
from esper.tamiyo.heuristic import Heuristic
from esper.tamiyo.policy import Policy
from tests.simulation.storm import Kind, Storm


class StormyPolicy(NeverGrow):
    """Asks a sound policy, or raises, talks nonsense, or wishes for what is not legal."""

    def __init__(self, sound: Policy, storm: Storm) -> None:
        self._sound, self._storm = sound, storm

    def survey(self, state: SystemState, view: GrowthView) -> Any:
        self._storm.fail(Kind.DYING_POLICY, "survey", 0.05)
        if self._storm.strikes(Kind.NONSENSE, "survey", 0.1):
            return self._storm.stream("nonsense").choice(["a string", 7, ProbePlan("empty", (), ())])
        return self._sound.survey(state, view)

    def act(self, state: SystemState, view: GrowthView) -> Any:
        self._storm.fail(Kind.DYING_POLICY, "act", 0.1)
        if self._storm.strikes(Kind.NONSENSE, "act", 0.05):
            return self._storm.stream("nonsense").choice([None, "a string", 7])
        if self._storm.strikes(Kind.ILLEGAL, "act", 0.3):
            return self._anything(view)
        return self._sound.act(state, view)

    def _anything(self, view: GrowthView) -> Action:
        chance = self._storm.stream("wishes")
        seeds = [seed.record.seed_id for site in view.sites for seed in (*site.fossils, site.seed) if seed]
        seed_id = chance.choice([*seeds, "nobody"])
        match chance.randrange(3):
            case 0:
                return Advance(seed_id, chance.choice(list(SeedOperation)), "anything")
            case 1:
                return Cull(seed_id, rollback=chance.random() < 0.5, reason="anything")
            case _:
                offers = self._sound.likely(view) if isinstance(self._sound, GrowBlindly) else ()
                return Germinate(chance.choice(offers), Path(), "anything") if offers else Wait("anything")


def draw_policy(storm: Storm, config: Config) -> Policy:
    """The policy of one run."""
    stream = storm.stream("policy")
    blind = GrowBlindly(CATALOGUE, stream, config.growth, window=(0.05, 0.5))
    heuristic = Heuristic(CATALOGUE, config.growth, config.tamiyo.heuristic)
    return StormyPolicy(stream.choice([NeverGrow(), blind, blind, heuristic]), storm)
