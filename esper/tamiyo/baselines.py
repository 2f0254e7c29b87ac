"""The two policies that a growing controller has to beat: never grow, and grow blindly."""

import random
from collections.abc import Callable

import msgspec

from contracts.config import GrowthConfig
from contracts.growth import Candidate, GrowthView, ProbePlan, SiteInfo
from contracts.messages import SystemState
from esper.karn.catalogue import Catalogue
from esper.tamiyo.action import Action, Germinate, Wait
from esper.tamiyo.foresight import on_offer
from esper.tamiyo.offer import offered
from esper.tamiyo.passage import due
from esper.tamiyo.policy import BadMemory


class NeverGrow:
    """Waits at every boundary."""

    name = "none"
    version = "none-1"
    reads_validation = False

    def survey(self, state: SystemState, view: GrowthView) -> ProbePlan | None:
        return None

    def act(self, state: SystemState, view: GrowthView) -> Action:
        return Wait("this policy never grows")

    def likely(self, view: GrowthView) -> tuple[Candidate, ...]:
        return ()


class _Memory(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The times that are left, and Python's own state of the random stream."""

    times: tuple[float, ...]
    version: int
    words: tuple[int, ...]
    gauss: float | None


class GrowBlindly:
    """Germinates a fixed number of seeds at random times, sites and blueprints.

    Times are uniform over an early window of the budget. Each seed gets an equal part of the
    parameters that are left, so that the network ends near its limit, as every other policy may;
    blueprints that can't be sized to their part are left out.
    """

    name = "random"
    version = "random-1"
    reads_validation = False

    def __init__(
        self,
        catalogue: Catalogue,
        rng: random.Random,
        growth: GrowthConfig,
        seeds: int = 3,
        window: tuple[float, float] = (0.05, 0.5),
    ) -> None:
        self._catalogue = catalogue
        self._rng = rng
        self._growth = growth
        self._times = sorted(rng.uniform(*window) for _ in range(seeds))

    def survey(self, state: SystemState, view: GrowthView) -> ProbePlan | None:
        return None

    def act(self, state: SystemState, view: GrowthView) -> Action:
        step = due(view)
        if step is not None:
            return step
        if not self._times or view.progress < self._times[0]:
            return Wait()
        if view.resting:
            return Wait("growth rests")
        if len(view.active) >= view.max_active:
            return Wait()
        choice = self._draw(view)
        if choice is None:
            return Wait("no site is free for what fits")
        self._times.pop(0)
        approved = choice.blueprint_id in self._growth.approved
        return Germinate(choice, self._growth.path, "drawn blindly", approved)

    def likely(self, view: GrowthView) -> tuple[Candidate, ...]:
        """Anything that can be sized, anywhere."""
        if not self._times:
            return ()
        every = on_offer(self._catalogue, self._growth, view, self._allotment(view))
        return tuple(one for one in every if self._catalogue.get(one.blueprint_id).knob)

    def memory(self) -> bytes:
        """When seeds are still to come, and where the random stream is."""
        version, words, gauss = self._rng.getstate()
        return msgspec.msgpack.encode(_Memory(tuple(self._times), version, words, gauss))

    def take_over(self, memory: bytes) -> None:
        """Go on from what `memory` gave.

        Raises:
            BadMemory: it is no memory of this policy.
        """
        try:
            kept = msgspec.msgpack.decode(memory, type=_Memory)
            self._rng.setstate((kept.version, kept.words, kept.gauss))
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, OverflowError) as error:
            raise BadMemory(f"this is no memory of the policy {self.name}: {error}") from error
        self._times = list(kept.times)

    def _allotment(self, view: GrowthView) -> int:
        """Parameters that the next seed may have."""
        return min(view.seed_params_max, (view.max_params - view.params) // max(1, len(self._times)))

    def _draw(self, view: GrowthView) -> Candidate | None:
        free = [site.site for site in view.sites if site.free]
        if not free:
            return None
        site = self._rng.choice(free)
        allotment = self._allotment(view)
        kinds = offered(self._catalogue, [site], self._growth, allotment, view)
        fitting = [one for one in kinds if one.knob]
        if not fitting:
            return None
        blueprint = self._rng.choice(sorted(fitting, key=lambda one: one.blueprint_id))
        settings = blueprint.fit(site, allotment)
        assert settings is not None
        return candidate_for(blueprint.descriptor.blueprint_id, site, settings, blueprint.params)


def candidate_for(
    blueprint_id: str,
    site: SiteInfo,
    settings: dict[str, float],
    params: Callable[[SiteInfo, dict[str, float]], int],
) -> Candidate:
    """A candidate with its parameter count filled in."""
    return Candidate(site.name, blueprint_id, settings, params(site, settings))
