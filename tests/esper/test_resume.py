"""Claims about what a resume says of what is not as it was."""

import msgspec
import pytest

from contracts.config import Config
from esper.errors import BadSetup
from esper.moment import About
from esper.resume import CPU, FROM_HERE, LAST_BITS, NO_NUMBER, differences

BEFORE = About(
    run_id="a-run",
    config=Config(),
    versions={"python": "3.11.7", "torch": "2.13.0", "esper-grow": "0.1.0"},
    host={"weight": (3, 2), "bias": (3,)},
    policy="heuristic-1",
    optimizer={
        "the optimizer": "Adam",
        "lr of the optimizer": "0.01",
        "betas of the optimizer": "(0.9, 0.999)",
    },
)


def changed(**sections: dict[str, object]) -> About:
    config = BEFORE.config
    for name, settings in sections.items():
        section = msgspec.structs.replace(getattr(config, name), **settings)
        config = msgspec.structs.replace(config, **{name: section})
    return msgspec.structs.replace(BEFORE, config=config)


def test_what_is_as_it_was_is_not_named() -> None:
    assert differences(BEFORE, BEFORE) == ()


@pytest.mark.parametrize(
    ("now", "name", "meaning"),
    [
        (changed(run={"threads": 2}), "run.threads", LAST_BITS),
        (changed(run={"epochs": 50}), "run.epochs", FROM_HERE),
        (changed(train={"learning_rate": 0.1}), "train.learning_rate", FROM_HERE),
        (changed(growth={"max_stage": 2}), "growth.max_stage", FROM_HERE),
        (changed(kernels={"workers": 1}), "kernels.workers", NO_NUMBER),
        (changed(checkpoint={"keep": 9}), "checkpoint.keep", NO_NUMBER),
        (changed(budgets={"tamiyo_inference_ms": 1}), "budgets.tamiyo_inference_ms", "is not taken"),
        (changed(budgets={"tamiyo_inference_ms": 1}), "budgets.tamiyo_inference_ms", FROM_HERE),
        (changed(run={"bus": "redis://localhost"}), "run.bus", NO_NUMBER),
        (
            msgspec.structs.replace(BEFORE, versions={**BEFORE.versions, "torch": "2.14.0"}),
            "torch",
            LAST_BITS,
        ),
        (
            msgspec.structs.replace(BEFORE, versions={**BEFORE.versions, "esper-grow": "0.2.0"}),
            "esper-grow",
            FROM_HERE,
        ),
        (msgspec.structs.replace(BEFORE, versions={**BEFORE.versions, CPU: "AVX2"}), CPU, LAST_BITS),
        (msgspec.structs.replace(BEFORE, versions={**BEFORE.versions, "anyio": "5"}), "anyio", NO_NUMBER),
        (msgspec.structs.replace(BEFORE, policy="random-1"), "the policy", "without a memory"),
    ],
)
def test_each_difference_is_named_with_what_it_means(now: About, name: str, meaning: str) -> None:
    (one,) = differences(BEFORE, now)
    assert one.name == name
    assert meaning in one.meaning
    assert f"{name} was {one.was} and is {one.now}: " in one.text


def cooked(**ingredients: str) -> About:
    changed = {f"{name} of the optimizer": value for name, value in ingredients.items()}
    return msgspec.structs.replace(BEFORE, optimizer=BEFORE.optimizer | changed)


def test_another_rate_of_an_optimizer_that_was_brought_along_is_told_and_any_other_setting_refused() -> None:
    (one,) = differences(BEFORE, cooked(lr="0.4"))
    assert one.text == f"lr of the optimizer was 0.01 and is 0.4: {FROM_HERE}"
    with pytest.raises(BadSetup, match=r"betas of the optimizer was \(0.9, 0.999\) when the run began"):
        differences(BEFORE, cooked(betas="(0.5, 0.999)"))
    with pytest.raises(BadSetup, match="the optimizer was Adam when the run began and can't become SGD"):
        differences(BEFORE, msgspec.structs.replace(BEFORE, optimizer={"the optimizer": "SGD"}))


def test_a_setting_that_another_torch_does_not_know_is_no_difference() -> None:
    assert differences(cooked(decoupled="False"), BEFORE) == ()
    assert differences(BEFORE, cooked(decoupled="False")) == ()


def test_a_rate_of_the_configuration_is_told_once() -> None:
    now = msgspec.structs.replace(changed(train={"learning_rate": 0.4}), optimizer=cooked(lr="0.4").optimizer)
    (one,) = differences(BEFORE, now)
    assert one.name == "train.learning_rate"


@pytest.mark.parametrize("settings", [{"workload": "other"}, {"seed": 1}])
def test_what_a_run_can_not_change_on_its_way_is_refused(settings: dict[str, object]) -> None:
    with pytest.raises(BadSetup, match=next(iter(settings))):
        differences(BEFORE, changed(run=settings))


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ({"weight": (3, 4), "bias": (3,)}, "weight was 3x2 and is 3x4"),
        ({"weight": (3, 2)}, "bias was 3 and is not there"),
        ({"weight": (3, 2), "bias": (3,), "more": ()}, "more was not there and is a number"),
    ],
)
def test_a_checkpoint_of_another_host_is_refused(host: dict[str, tuple[int, ...]], said: str) -> None:
    with pytest.raises(BadSetup, match=said):
        differences(BEFORE, msgspec.structs.replace(BEFORE, host=host))
