"""Going on with a run in a new process: whether that can be, what is not as it was, and what that means.

Bit for bit the numbers go on only where nothing differs that a number depends on; everything that does is
named, with its consequence, in the report too.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import msgspec

from contracts.config import Config
from esper.errors import BadSetup
from esper.moment import About
from esper.tolaria.recipe import RATE

LAST_BITS = "its numbers may differ in their last bits from those of a run that was never interrupted"
FROM_HERE = "from here on its numbers are others than they would have been"
NO_NUMBER = "no number depends on it"

KEPT = ("run.workload", "run.seed", "growth.sites", "growth.layouts")
"""What a run can't change on its way."""
CPU = "the processor's instruction set"
ROUNDING = ("python", "torch", "numpy", CPU)
BESIDE = ("msgspec", "anyio", "opentelemetry-sdk")
"""Packages that no number goes through."""
SILENT = ("run.out", "run.compare")
HARMLESS = ("run.bus", "serve", "kernels", "checkpoint")


@dataclass(frozen=True)
class Difference:
    """One thing that is not as it was."""

    name: str
    was: str
    now: str
    meaning: str

    @property
    def text(self) -> str:
        """In one line."""
        return f"{self.name} was {self.was} and is {self.now}: {self.meaning}"


def differences(about: About, now: About) -> tuple[Difference, ...]:
    """What is not as it was when the checkpoint was written, and what that means.

    Raises:
        BadSetup: the run can't go on like this; nothing has changed.
    """
    _same_host(about.host, now.host)
    settings, optimizer = tuple(_settings(about.config, now.config)), tuple(_optimizer(about, now))
    for one in (*settings, *optimizer):
        if one.name in KEPT or (one in optimizer and not one.name.startswith(RATE)):
            raise BadSetup(
                f"{one.name} was {one.was} when the run began and can't become {one.now} on its way"
            )
    others = (*_versions(about.versions, now.versions), *_policy(about, now), *_data(about, now))
    told = any(one.name == "train.learning_rate" for one in settings)
    return (*others, *settings, *(() if told else optimizer))


def _same_host(was: Mapping[str, tuple[int, ...]], now: Mapping[str, tuple[int, ...]]) -> None:
    if was == now:
        return
    odd = sorted(name for name in was.keys() | now.keys() if was.get(name) != now.get(name))
    shapes = (f"{name} was {_shape(was.get(name))} and is {_shape(now.get(name))}" for name in odd[:3])
    raise BadSetup(f"the checkpoint is of another host: {'; '.join(shapes)}")


def _shape(shape: tuple[int, ...] | None) -> str:
    return "not there" if shape is None else "x".join(map(str, shape)) or "a number"


def _versions(was: Mapping[str, str], now: Mapping[str, str]) -> Iterator[Difference]:
    for package in sorted(was.keys() | now.keys()):
        before, after = was.get(package, "not known"), now.get(package, "not known")
        if before != after:
            meaning = NO_NUMBER if package in BESIDE else LAST_BITS if package in ROUNDING else FROM_HERE
            yield Difference(package, before, after, meaning)


def _policy(was: About, now: About) -> Iterator[Difference]:
    if was.policy != now.policy:
        meaning = "the new one begins without a memory, among seeds that it did not germinate"
        yield Difference("the policy", was.policy, now.policy, meaning)


def _data(was: About, now: About) -> Iterator[Difference]:
    for split, digest in now.data.items():
        if was.data.get(split, digest) != digest:
            yield Difference(f"the {split} data", was.data[split], digest, FROM_HERE)


def _optimizer(was: About, now: About) -> Iterator[Difference]:
    """What it was made with; a setting that only one torch knows is none that somebody has changed."""
    for name, before in was.optimizer.items():
        if now.optimizer.get(name, before) != before:
            yield Difference(name, before, now.optimizer[name], FROM_HERE)


def _settings(was: Config, now: Config) -> Iterator[Difference]:
    """Every setting that has another value."""
    before, after = _flat(was), _flat(now)
    for name in before:
        if before[name] != after.get(name) and name not in SILENT and name != "run.policy":
            yield Difference(name, _shown(before[name]), _shown(after.get(name)), _meaning(name))


def _meaning(name: str) -> str:
    if name == "run.threads":
        return f"sums are added up in another order, so that {LAST_BITS}"
    if name in ("run.epochs", "run.gflop"):
        return f"the spent share of the length is another now, and so is the learning rate: {FROM_HERE}"
    if name.startswith("budgets."):
        return f"a decision that comes later than it may is not taken; where one does, {FROM_HERE}"
    return NO_NUMBER if any(name == one or name.startswith(f"{one}.") for one in HARMLESS) else FROM_HERE


def _flat(config: Config) -> dict[str, object]:
    """Every setting by its dotted name."""
    found: dict[str, object] = {}

    def walk(value: object, name: str) -> None:
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                walk(inner, f"{name}.{key}" if name else key)
        else:
            found[name] = value

    walk(msgspec.to_builtins(config), "")
    return found


def _shown(value: object) -> str:
    return "not given" if value is None or value == {} else str(value)
