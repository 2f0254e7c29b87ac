"""Races of what may happen once: a nonce, a budget, a stage, a resume."""

from itertools import pairwise

import msgspec

from actors.runtime import Actor, handles
from contracts.lifecycle import TRANSITIONS, Stage
from tests.simulation.races.race import Race, Scene, hop, on_stage
from tests.simulation.trace import ensure


class Frame(msgspec.Struct, frozen=True):
    nonce: str


class Door(Actor[Frame]):
    """Admits each nonce once; several doors share what they have seen."""

    def __init__(self, seen: set[str], admitted: list[str], planted: bool) -> None:
        self._seen, self._admitted, self._planted = seen, admitted, planted

    @handles
    async def on_frame(self, frame: Frame) -> None:
        if frame.nonce in self._seen:
            return
        if not self._planted:
            self._seen.add(frame.nonce)
        await hop()  # the signature is checked
        self._seen.add(frame.nonce)
        self._admitted.append(frame.nonce)


async def nonce(planted: bool) -> None:
    scene, seen, admitted = Scene(), set[str](), list[str]()
    doors = [scene.system.spawn(f"door {n}", lambda: Door(seen, admitted, planted)) for n in range(2)]
    async with on_stage(scene):
        doors[0].tell_nowait(Frame("n1"))
        scene.later(lambda: doors[1].tell_nowait(Frame("n1")))
    ensure(admitted == ["n1"], f"one nonce was admitted {len(admitted)} times")


class Grow(msgspec.Struct, frozen=True):
    params: int


class Purse:
    """Parameters that are left."""

    def __init__(self, left: int) -> None:
        self.left = left


class Grower(Actor[Grow]):
    """Spends parameters on seeds."""

    def __init__(self, purse: Purse, planted: bool) -> None:
        self._purse, self._planted = purse, planted

    @handles
    async def on_grow(self, grow: Grow) -> None:
        left = self._purse.left
        await hop()  # the seed is sized
        self._purse.left = (left if self._planted else self._purse.left) - grow.params


async def budget(planted: bool) -> None:
    scene, purse = Scene(), Purse(100)
    growers = [scene.system.spawn(f"grower {n}", lambda: Grower(purse, planted)) for n in range(2)]
    async with on_stage(scene):
        growers[0].tell_nowait(Grow(30))
        scene.later(lambda: growers[1].tell_nowait(Grow(50)))
    ensure(purse.left == 20, f"100 - 30 - 50 left {purse.left}")


LEGAL = frozenset((step.source, step.target) for step in TRANSITIONS)


class Advance(msgspec.Struct, frozen=True):
    pass


class Cull(msgspec.Struct, frozen=True):
    pass


class Gate(Actor[Advance]):
    """Lets a training seed blend once it was measured."""

    def __init__(self, stages: list[Stage], planted: bool) -> None:
        self._stages, self._planted = stages, planted

    @handles
    async def on_advance(self, _: Advance) -> None:
        may = self._stages[-1] is Stage.TRAINING
        await hop()  # the gate measures
        if may if self._planted else self._stages[-1] is Stage.TRAINING:
            self._stages.append(Stage.BLENDING)


class Operator(Actor[Cull]):
    """Takes a seed out."""

    def __init__(self, stages: list[Stage]) -> None:
        self._stages = stages

    @handles
    async def on_cull(self, _: Cull) -> None:
        if (self._stages[-1], Stage.CULLED) in LEGAL:
            self._stages.append(Stage.CULLED)


async def lifecycle(planted: bool) -> None:
    scene, stages = Scene(), [Stage.TRAINING]
    gate = scene.system.spawn("gate", lambda: Gate(stages, planted))
    operator = scene.system.spawn("operator", lambda: Operator(stages))
    async with on_stage(scene):
        gate.tell_nowait(Advance())
        scene.later(lambda: operator.tell_nowait(Cull()))
    for was, now in pairwise(stages):
        ensure((was, now) in LEGAL, f"a {was.name} seed became {now.name}")


class Resume(msgspec.Struct, frozen=True):
    pass


class Crew:
    """A lane that should have one turn at a time."""

    def __init__(self) -> None:
        self.paused, self.running, self.most = True, 0, 0

    def start(self) -> None:
        self.paused = False
        self.running += 1
        self.most = max(self.most, self.running)


class Resumer(Actor[Resume]):
    """Lets a paused run go on."""

    def __init__(self, crew: Crew, planted: bool) -> None:
        self._crew, self._planted = crew, planted

    @handles
    async def on_resume(self, _: Resume) -> None:
        if not self._crew.paused:
            return
        await hop()  # the moment is read
        if self._planted or self._crew.paused:
            self._crew.start()


async def resume(planted: bool) -> None:
    scene, crew = Scene(), Crew()
    both = [scene.system.spawn(name, lambda: Resumer(crew, planted)) for name in ("operator", "warden")]
    async with on_stage(scene):
        both[0].tell_nowait(Resume())
        scene.later(lambda: both[1].tell_nowait(Resume()))
    ensure(crew.most == 1, f"{crew.most} turns ran at a time")


RACES = (
    Race("nonce", "a nonce is looked up, and noted only after the signature was checked", nonce, 1),
    Race("budget", "what is left is read before a wait and written after it", budget, 1),
    Race("lifecycle", "a stage is looked at before the gate measures and changed after it", lifecycle, 1),
    Race(
        "double resume",
        "whether the run is paused is not looked at again after the moment was read",
        resume,
        1,
    ),
)
