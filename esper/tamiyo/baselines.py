"""The two policies that a growing controller has to beat: never grow, and grow blindly."""

import random
from collections.abc import Callable

from contracts.growth import Candidate, GrowthView, Path, ProbePlan, SiteInfo
from contracts.messages import SystemState
from esper.karn.catalogue import Catalogue
from esper.tamiyo.action import Action, Germinate, Wait
from esper.tamiyo.passage import due


class NeverGrow:
    """Waits at every boundary."""

    name = "none"
    version = "none-1"
    reads_validation = False

    def survey(self, state: SystemState, view: GrowthView) -> ProbePlan | None:
        return None

    def act(self, state: SystemState, view: GrowthView) -> Action:
        return Wait("this policy never grows")


class GrowBlindly:
    """Germinates a fixed number of seeds at random times, sites and blueprints.

    Times are uniform over an early window of the budget. Each seed gets an equal part of the
    parameters that are left, so that the network ends near its limit, as every other policy may.
    """

    name = "random"
    version = "random-1"
    reads_validation = False

    def __init__(
        self,
        catalogue: Catalogue,
        rng: random.Random,
        path: Path,
        seeds: int = 3,
        window: tuple[float, float] = (0.05, 0.5),
    ) -> None:
        self._catalogue = catalogue
        self._rng = rng
        self._path = path
        self._times = sorted(rng.uniform(*window) for _ in range(seeds))

    def survey(self, state: SystemState, view: GrowthView) -> ProbePlan | None:
        return None

    def act(self, state: SystemState, view: GrowthView) -> Action:
        step = due(view)
        if step is not None:
            return step
        if not self._times or view.progress < self._times[0]:
            return Wait("not yet")
        if len(view.active) >= view.max_active:
            return Wait("as many seeds as may grow at once")
        choice = self._draw(view)
        if choice is None:
            return Wait("no site is free")
        self._times.pop(0)
        return Germinate(choice, self._path, "drawn blindly")

    def _draw(self, view: GrowthView) -> Candidate | None:
        free = [site.site for site in view.sites if site.free]
        if not free:
            return None
        site = self._rng.choice(free)
        allotment = (view.max_params - view.params) // len(self._times)
        fitting = [
            blueprint for blueprint in self._catalogue.offers(site.layout) if blueprint.fit(site, allotment)
        ]
        if not fitting:
            return None
        blueprint = self._rng.choice(fitting)
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
