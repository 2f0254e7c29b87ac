"""What one run is: what is trained, who decides, who looks on, and where it goes on."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from actors.display import Display
from actors.keeping import Desk
from actors.nissa.journal import Journal
from actors.pipeline import Pipeline
from actors.turn import Training
from contracts.config import Config
from contracts.growth import GrowthView
from contracts.report import ResumeFacts
from contracts.view import RunFacts
from esper.assembly import Parts
from esper.kasmina.engine import Engine
from esper.kasmina.stock import Stock
from esper.moment import Moment
from esper.tamiyo.controller import Controller
from esper.tamiyo.observation import Observation
from esper.tolaria.loop import Sample


@dataclass(frozen=True)
class Play:
    """One run, as its company plays it."""

    run_id: str
    config: Config
    facts: RunFacts
    training: Training
    samples: deque[Sample]
    engine: Engine
    controller: Controller
    observation: Observation
    names: Mapping[str, str]
    """Blueprints' names by id."""
    display: Display
    journal: Journal | None = None
    pipeline: Pipeline | None = None
    """Compiles and fetches kernels ahead; without it modules are built on the spot."""
    outlook: GrowthView | None = None
    """How growth stands at the beginning, so that kernels can be made from then on."""
    stock: Stock | None = None
    """Kernels that are ready, and what is not to be grown."""
    desk: Desk | None = None
    """What checkpoints are written with; without it nothing goes to disk."""
    start: Moment | None = None
    """Where the run goes on; None at its beginning."""
    before: Callable[[], Iterable[Moment]] = tuple
    """Reads earlier moments that it may go back to, the oldest first."""
    resumed: ResumeFacts | None = None
    policy_in_thread: bool = False
    """Whether the policy is asked in a thread: yes for one that nobody has measured."""


def play_of(
    parts: Parts, run_id: str, facts: RunFacts, display: Display, training: Training | None = None
) -> Play:
    """These parts' run, from its beginning, nothing of it on disk; `training` stands in for their trainer."""
    return Play(
        run_id=run_id,
        config=parts.config,
        facts=facts,
        training=training or parts.trainer,
        samples=parts.trainer.samples,
        engine=parts.engine,
        controller=parts.controller,
        observation=parts.observation,
        names={one.blueprint_id: one.descriptor.name for one in parts.catalogue},
        display=display,
    )
