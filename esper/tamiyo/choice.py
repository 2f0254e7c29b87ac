"""Makes the policy that a run asks for by name."""

import random

from contracts.config import Config
from esper.karn.catalogue import Catalogue
from esper.tamiyo.baselines import GrowBlindly, NeverGrow
from esper.tamiyo.heuristic import Heuristic
from esper.tamiyo.offer import check_approved
from esper.tamiyo.policy import Policy


def make_policy(config: Config, catalogue: Catalogue) -> Policy:
    """The policy of `config.run.policy`; what is random in it depends on the run's seed alone.

    Raises:
        NotGrown: see `check_approved`.
    """
    check_approved(catalogue, config.growth)
    match config.run.policy:
        case "none":
            return NeverGrow()
        case "random":
            return GrowBlindly(catalogue, random.Random(f"{config.run.seed}/policy"), config.growth)
        case "heuristic":
            return Heuristic(catalogue, config.growth, config.tamiyo.heuristic)
