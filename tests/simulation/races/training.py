"""Races beside training: a rollback in a step, a torn policy, a late answer, a checkpoint, a stop, a plan."""

import asyncio

import msgspec

from actors.kasmina import Adapt, Commit, Kasmina
from actors.runtime import Actor, ActorError, handles
from contracts.config import GrowthConfig
from contracts.growth import Candidate, Path
from contracts.lifecycle import Stage
from esper.karn.catalogue import CATALOGUE
from esper.kasmina.engine import Engine
from esper.kasmina.plan import Insert
from esper.tamiyo.action import Action, Germinate, Wait, command_for
from tests.actors.fakes import HOST_PARAMS, SITES
from tests.simulation.races.race import Race, Scene, hop, on_stage
from tests.simulation.trace import ensure


class Step(msgspec.Struct, frozen=True):
    pass


class Rollback(msgspec.Struct, frozen=True):
    pass


class Weights:
    """A weight and the optimizer's state for it: equal at every boundary."""

    def __init__(self) -> None:
        self.value = self.state = 0
        self.stepping = asyncio.Lock()


class Stepper(Actor[Step]):
    """Takes optimizer steps."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights

    @handles
    async def on_step(self, _: Step) -> None:
        async with self._weights.stepping:
            self._weights.value += 1
            await hop()
            self._weights.state += 1


class Restorer(Actor[Rollback]):
    """Goes back to the beginning."""

    def __init__(self, weights: Weights, planted: bool) -> None:
        self._weights, self._planted = weights, planted

    @handles
    async def on_rollback(self, _: Rollback) -> None:
        if self._planted:
            self._weights.value = self._weights.state = 0
            return
        async with self._weights.stepping:
            self._weights.value = self._weights.state = 0


async def rollback(planted: bool) -> None:
    scene, weights = Scene(), Weights()
    stepper = scene.system.spawn("stepper", lambda: Stepper(weights))
    restorer = scene.system.spawn("restorer", lambda: Restorer(weights, planted))
    async with on_stage(scene):
        stepper.tell_nowait(Step())
        scene.later(lambda: restorer.tell_nowait(Rollback()))
    ensure(weights.value == weights.state, f"weight {weights.value} with optimizer state {weights.state}")


class Reload(msgspec.Struct, frozen=True):
    version: int


class Decide(msgspec.Struct, frozen=True):
    pass


class PolicyBox:
    """A policy in use: its version, and the weights that belong to it."""

    def __init__(self) -> None:
        self.version, self.weights = 1, "weights 1"


class Loader(Actor[Reload]):
    """Puts a new policy in place."""

    def __init__(self, box: PolicyBox, planted: bool) -> None:
        self._box, self._planted = box, planted

    @handles
    async def on_reload(self, reload: Reload) -> None:
        if self._planted:
            self._box.version = reload.version
        await hop()  # the weights are checked
        self._box.version, self._box.weights = reload.version, f"weights {reload.version}"


class Decider(Actor[Decide]):
    """Decides with the policy in use."""

    def __init__(self, box: PolicyBox, made: list[tuple[int, str]]) -> None:
        self._box, self._made = box, made

    @handles
    async def on_decide(self, _: Decide) -> None:
        self._made.append((self._box.version, self._box.weights))


async def reload(planted: bool) -> None:
    scene, box, made = Scene(), PolicyBox(), list[tuple[int, str]]()
    loader = scene.system.spawn("loader", lambda: Loader(box, planted))
    decider = scene.system.spawn("decider", lambda: Decider(box, made))
    async with on_stage(scene):
        loader.tell_nowait(Reload(2))
        scene.later(lambda: decider.tell_nowait(Decide()))
    ensure(bool(made), "nobody decided")
    for version, weights in made:
        ensure(weights == f"weights {version}", f"version {version} decided with {weights}")


class Question(msgspec.Struct, frozen=True):
    epoch: int


class Answerer(Actor[Question]):
    """Answers each question after some time, to whoever waits then."""

    def __init__(self, desk: "Counter", planted: bool) -> None:
        self._desk, self._planted = desk, planted

    @handles
    async def on_question(self, question: Question) -> None:
        waiting = self._desk.waiting
        await self.context.clock.sleep(0.012 if question.epoch == 1 else 0.001)
        await hop()
        self._desk.answer(self._desk.waiting if self._planted else waiting, question.epoch)


class Counter:
    """Where one question at a time waits for its answer."""

    def __init__(self) -> None:
        self.waiting: asyncio.Future[int] | None = None

    def answer(self, waiting: "asyncio.Future[int] | None", epoch: int) -> None:
        if waiting is not None and not waiting.done():
            waiting.set_result(epoch)


async def stale_reply(planted: bool) -> None:
    scene, desk, got = Scene(), Counter(), dict[int, int]()
    answerer = scene.system.spawn("answerer", lambda: Answerer(desk, planted))
    async with on_stage(scene):
        for epoch in (1, 2):
            desk.waiting = asyncio.get_running_loop().create_future()
            answerer.tell_nowait(Question(epoch))
            await hop()
            await hop()
            done, _ = await asyncio.wait({desk.waiting}, timeout=0.012)
            if done:
                got[epoch] = done.pop().result()
            desk.waiting = None
            await hop()  # it does without
    for epoch, answered in got.items():
        ensure(answered == epoch, f"the question of epoch {epoch} got the answer to {answered}")


class Keep(msgspec.Struct, frozen=True):
    pass


class Boundary(msgspec.Struct, frozen=True):
    plan: int


class Books:
    """Which plan the trainer has applied, and which the engine has committed."""

    def __init__(self) -> None:
        self.applied = self.committed = 0
        self.kept: list[tuple[int, int]] = []
        self.wanted = False

    def keep(self) -> None:
        self.kept.append((self.applied, self.committed))
        self.wanted = False


class Conductor(Actor[Boundary]):
    """Applies a plan, then commits it; checkpoints belong behind that."""

    def __init__(self, books: Books) -> None:
        self._books = books

    @handles
    async def on_boundary(self, boundary: Boundary) -> None:
        self._books.applied = boundary.plan
        await hop()  # the engine is told
        self._books.committed = boundary.plan
        if self._books.wanted:
            self._books.keep()


class Keeper(Actor[Keep]):
    """Writes checkpoints when it is asked to."""

    def __init__(self, books: Books, planted: bool) -> None:
        self._books, self._planted = books, planted

    @handles
    async def on_keep(self, _: Keep) -> None:
        self._books.wanted = True
        if self._planted:
            self._books.keep()


async def checkpoint(planted: bool) -> None:
    scene, books = Scene(), Books()
    conductor = scene.system.spawn("conductor", lambda: Conductor(books))
    keeper = scene.system.spawn("keeper", lambda: Keeper(books, planted))
    async with on_stage(scene):
        conductor.tell_nowait(Boundary(1))
        scene.later(lambda: keeper.tell_nowait(Keep()))
        await asyncio.sleep(0.1)
        conductor.tell_nowait(Boundary(2))
    ensure(bool(books.kept), "no checkpoint was taken")
    for applied, committed in books.kept:
        ensure(applied == committed, f"a checkpoint with plan {applied} applied and {committed} committed")


class Ended(msgspec.Struct, frozen=True):
    pass


class Stop(msgspec.Struct, frozen=True):
    pass


class Journey:
    """Turns and the report, in the order in which they happened."""

    def __init__(self) -> None:
        self.stopping = False
        self.happened: list[str] = []


class Driver(Actor[Ended]):
    """Submits the next turn when one has ended, unless the run stops."""

    def __init__(self, journey: Journey, planted: bool) -> None:
        self._journey, self._planted = journey, planted

    @handles
    async def on_ended(self, _: Ended) -> None:
        stopping = self._journey.stopping
        await hop()  # the decision
        if not (stopping if self._planted else self._journey.stopping):
            self._journey.happened.append("turn")


class Closer(Actor[Stop]):
    """Ends the run and writes its report."""

    def __init__(self, journey: Journey) -> None:
        self._journey = journey

    @handles
    async def on_stop_wanted(self, _: Stop) -> None:
        self._journey.stopping = True
        self._journey.happened.append("report")


async def stop(planted: bool) -> None:
    scene, journey = Scene(), Journey()
    driver = scene.system.spawn("driver", lambda: Driver(journey, planted))
    closer = scene.system.spawn("closer", lambda: Closer(journey))
    async with on_stage(scene):
        driver.tell_nowait(Ended())
        scene.later(lambda: closer.tell_nowait(Stop()))
    ensure(journey.happened[-1] == "report", f"after the end: {journey.happened}")


async def older_plan(planted: bool) -> None:
    """The real engine and its actor: a commit that goes its own way is overtaken by the next question."""
    scene = Scene()
    engine = Engine(SITES, GrowthConfig(path=Path(1, 1, 1, 2), max_params=1300), CATALOGUE, 0)
    kasmina = scene.system.spawn("kasmina", lambda: Kasmina(engine))
    applied: list[str] = []
    blueprint = CATALOGUE.get("BP002")
    settings = blueprint.fit(SITES[0], 200)
    assert settings is not None
    candidate = Candidate(SITES[0].name, "BP002", settings, blueprint.params(SITES[0], settings))
    wishes: list[Action] = [Germinate(candidate, Path(1, 1, 1, 2)), Wait()]
    async with on_stage(scene):
        for epoch, wish in enumerate(wishes, 1):
            command = command_for(wish, f"c{epoch}", "tamiyo/none", 0)
            try:
                verdict = await kasmina.ask(Adapt(command, {}, epoch, 0, HOST_PARAMS), deadline_s=1.0)
            except ActorError:
                break
            applied += [one.record.seed_id for one in verdict.plan.changes if isinstance(one, Insert)]
            message = Commit(verdict.plan.plan_id)
            if planted:
                scene.later(lambda message=message: kasmina.tell_nowait(message))
            else:
                kasmina.tell_nowait(message)
            await hop()
    held = [one.seed_id for one in engine.records() if one.stage is not Stage.DORMANT]
    ensure(held == applied, f"the trainer has {applied}, the engine thinks {held}")


RACES = (
    Race("rollback against a step", "a rollback does not wait for the step that is under way", rollback, 1),
    Race("torn policy reload", "the version is changed before the weights were checked", reload, 1),
    Race("stale reply", "an answer goes to whoever waits now, not to whoever asked", stale_reply, 1),
    Race("checkpoint in between", "a checkpoint is taken at once, between apply and commit", checkpoint, 1),
    Race("stop against a submission", "whether to stop is not looked at again after the decision", stop, 1),
    Race("commit of an older plan", "a commit travels beside the actor's next question", older_plan, 1),
)
