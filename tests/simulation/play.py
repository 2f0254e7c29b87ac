"""One simulated run: the real system on a seeded loop, with a storm over it."""

import asyncio
import logging
import random
from functools import partial
from typing import Any

from actors.company import Outcome, Surroundings
from actors.runtime import SystemSnapshot
from actors.runtime.dead_letters import DeadLetters
from actors.runtime.simulation import SimulatedLoop, Stuck, run_simulated
from contracts.config import Config, GrowthConfig
from contracts.growth import Path
from tests.simulation import invariants
from tests.simulation.disk import moments_as_they_are
from tests.simulation.lane import SteppedLane
from tests.simulation.scene import Cast, Played, Scene, WatchedCompany
from tests.simulation.scribe import not_on_disk
from tests.simulation.storm import Kind, Storm
from tests.simulation.trace import Trace, Violation
from tests.simulation.weather import Weather

CONFIG = Config(growth=GrowthConfig(path=Path(1, 1, 1, 2), embargo_epochs=2, max_params=1300))
LIMIT_S = 3_000.0
"""Virtual seconds after which a run that has not ended never will."""
LETTERS_MAX = 1_000_000
"""All dead letters are looked through, also those of a flood."""
PENDING_MAX = 10_000
"""Reports that are looked through in the end."""
LOOK_EVERY = 97
"""Steps from one dear look to the next."""


class Failed(AssertionError):
    """A simulated run broke an invariant; the text has all that replays it."""

    def __init__(self, seed: int | None, why: BaseException, storm: Storm, trace: Trace) -> None:
        super().__init__(f"seed {seed}: {type(why).__name__}: {why}\nstorm: {storm.told()}\n{trace.tail()}")
        self.seed = seed
        self.why = f"{type(why).__name__}: {why}"


class Simulation:
    """Builds and plays the run of one seed, and checks it."""

    def __init__(
        self, storm: Storm, order: int | None, config: Config = CONFIG, limit_s: float = LIMIT_S
    ) -> None:
        """`order` is the seed of the loop's order; None is first in, first out."""
        self.storm = storm
        self._order = order
        self._config = config
        self._limit_s = limit_s
        self.trace = Trace()
        self._scene: Scene | None = None
        self._lanes: list[SteppedLane] = []

    def play(self) -> Played:
        """The run, from its first epoch to its end; raises `Failed` if an invariant broke."""
        logging.disable(logging.CRITICAL)
        try:
            with moments_as_they_are():
                played = run_simulated(self._main, seed=self._order, watch=self._look)
            invariants.at_the_end(played)
        except (Violation, Stuck) as error:
            raise Failed(self._order, error, self.storm, self.trace) from error
        finally:
            logging.disable(logging.NOTSET)
            for lane in self._lanes:
                assert lane.close(0.0), f"the thread of {lane} does not end"
        return played

    def _look(self, now_s: float, name: str) -> None:
        self.trace.step(now_s, name)
        if self._scene is not None:
            invariants.after_step(self._scene)
            if self.trace.steps % LOOK_EVERY == 0:
                invariants.now_and_then(self._scene)

    async def _main(self) -> Played:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        players = Cast(loop, self.storm, self.trace, self._config)
        self._lanes = [players.lane, players.writer]
        scene = self._scene_of(loop, players)
        run = loop.create_task(scene.company.perform(), name="perform")
        scene.weather.begin(run)
        outcome = await self._ended(run)
        await self._close(scene, players)
        snapshot = scene.company.system.snapshot()
        await asyncio.sleep(0)
        return self._played(scene, players, outcome, snapshot)

    def _scene_of(self, loop: SimulatedLoop, players: Cast) -> Scene:
        """The company about to perform, with the weather over it, and the watch looking on from now."""
        storm, trace = self.storm, self.trace
        play, stream = players.play(storm, self._config), random.Random(storm.seed)
        around = Surroundings(
            players.clock, players.bus, players.lane, players.governor, stream, loop.time, players.threads
        )
        company = WatchedCompany(play, around)
        company.system.dead_letters = DeadLetters(LETTERS_MAX)
        weather = Weather(storm, company, players.clock, trace, loop)
        scene = Scene(loop, players.lane, company, weather)

        def cut() -> None:
            scene.announced = players.announced()
            if players.scribe is not None:
                players.scribe.cut()

        weather.when_cut = cut
        players.lane.delivered = scene.delivered
        loop.set_exception_handler(lambda _, context: scene.strays.append(_stray(context)))
        self._scene = scene
        return scene

    async def _close(self, scene: Scene, players: Cast) -> None:
        """What the session does once the run has ended, or what is left to do once it was cut off."""
        cut = scene.weather.cut
        if cut:
            players.lane.close(0.0)
        await self._written(players.writer)
        await scene.weather.end()
        players.threads.end()
        if cut:
            await self._clean_up()
        else:
            scene.announced = players.announced()
            if players.scribe is not None:
                players.scribe.finish()

    def _played(
        self, scene: Scene, players: Cast, outcome: Outcome | None, snapshot: SystemSnapshot
    ) -> Played:
        """Everything that can be asked about the run now."""
        company, cut, scribe = scene.company, scene.weather.cut, players.journal.scribe
        me = asyncio.current_task()
        return Played(
            storm=self.storm,
            trace=self.trace,
            trainer=players.trainer,
            engine=players.engine,
            observation=players.observation,
            bus=players.bus,
            governor=players.governor,
            recorded=company.witness.recorder.recorded,
            conclusion=outcome.conclusion if outcome is not None else None,
            cut=cut,
            actors=snapshot.actors,
            errors={name: one.last_error for name, one in company.system._supervisors.items()},
            letters=company.system.dead_letters.listed(),
            left_running=sorted(task.get_name() for task in asyncio.all_tasks() if task is not me),
            timers_left=[] if cut else scene.loop.timers(),
            took_s=scene.loop.time(),
            saved=players.store.saved,
            newest=company.keeper._newest,
            on_disk=scribe.wait(lambda book: book.reports.pending(PENDING_MAX)).reports,
            lost_reports=scribe.wait(partial(not_on_disk, scene.announced)),
        )

    async def _written(self, writer: SteppedLane) -> None:
        """The session waits for the writer before it leaves."""
        while writer.idle_since_s is None:  # noqa: ASYNC110 - of virtual time there is enough
            await asyncio.sleep(0.01)

    async def _clean_up(self) -> None:
        """What asyncio's runner does once the main task was cancelled: all others are, and waited for."""
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in sorted(others, key=asyncio.Task.get_name):
            task.cancel()
        if others:
            await asyncio.wait(others, timeout=invariants.ACTORS_S)

    async def _ended(self, run: "asyncio.Task[Outcome]") -> Outcome | None:
        done, _ = await asyncio.wait({run}, timeout=self._limit_s)
        if not done:
            raise Violation(f"the run has not ended after {self._limit_s:g} s")
        return None if run.cancelled() else run.result()


def _stray(context: dict[str, Any]) -> str:
    return f"{context.get('message')}: {context.get('exception')!r}"


def simulate(seed: int, kinds: frozenset[Kind] | None = None) -> Played:
    """Play the run of one seed; raises `Failed` if an invariant broke."""
    return Simulation(Storm(seed, kinds), seed).play()
