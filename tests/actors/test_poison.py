"""NaN or infinity at any step of any stage: it costs a part of an epoch, and neither host nor accuracy."""

import pytest

from contracts.lifecycle import ACTIVE, LIVE, Stage
from tests.actors.poison import (
    BESIDE,
    EPOCHS,
    HARMS,
    SEED,
    STEPS,
    Dose,
    Noise,
    Ran,
    assert_finite,
    clean,
    noise,
    run,
)
from tests.esper.tolaria.runs import same_value

SHORT = 6
"""Epochs: as far as the first seed's blending."""
OTHERS = range(20, 36)
"""Seeds of clean runs."""
SUSPECT = LIVE & ACTIVE
"""Stages in which a seed may be at fault: it is in the forward pass, and undecided."""


def check(ran: Ran, dose: Dose, chance: Noise) -> str:
    """All that has to hold of a run that was harmed once; how it went on, in a word."""
    poisoner, epochs, last = ran.poisoner, ran.poisoner.parts.config.run.epochs, dose.epoch - 1
    assert poisoner.given
    assert (ran.outcome.conclusion.halted, ran.outcome.conclusion.interrupted) == ("", "")
    assert [one.epoch for one in ran.training.results] == list(range(1, (epochs or 0) + 1))
    assert all(one.set_aside == () for one in ran.training.results), "it was no seed's doing"
    assert_finite(ran.tensors)
    assert abs(ran.accuracy - chance.mean) <= chance.width
    twice = poisoner.steps_taken - len(ran.training.results) * STEPS
    if dose.harm == BESIDE:
        assert (ran.way, ran.tried_again, twice) == ([], [], 0), "training does not depend on it"
        return "borne"
    assert twice == dose.step < STEPS, "a part of one epoch was trained twice"
    if SUSPECT.isdisjoint(poisoner.stages[dose.epoch]):
        assert (ran.way, ran.tried_again) == ([(dose.epoch, last, "fast")], [])
        assert ran.training.restored == [(last, last * STEPS, True)], "the newest boundary, bit for bit"
        return "back"
    assert (ran.way, ran.tried_again) == ([], [dose.epoch]), "from the epoch's beginning, with everyone"
    assert same_value(ran.tensors, clean(epochs=epochs).tensors), "as if nothing had happened"
    return "again"


@pytest.mark.parametrize(
    ("dose", "went_on"),
    [
        (Dose("gradient inf", 4, STEPS - 1), "back"),
        (Dose("pass nan", SHORT, 0), "again"),
        (Dose(BESIDE, 3, 2), "borne"),
    ],
)
def test_a_bad_number_costs_a_part_of_an_epoch_and_no_accuracy(dose: Dose, went_on: str) -> None:
    chance = noise((SEED, *OTHERS[:2]), SHORT)
    assert check(run(dose, epochs=SHORT), dose, chance) == went_on


def doses(harm: str) -> list[Dose]:
    """The first, a middle and the last step of the first epoch in which a seed is in each of the stages."""
    stages = clean().poisoner.stages
    firsts = {one: epoch for epoch, seeds in reversed(stages.items()) for one in seeds}
    steps = (0, STEPS // 2, STEPS - 1)
    return [Dose(harm, epoch, step) for epoch in sorted(set(firsts.values())) for step in steps]


def harmed(harm: str, chance: Noise) -> dict[str, Noise]:
    """What became of them all: accuracies by how the runs went on."""
    became: dict[str, list[float]] = {}
    for dose in doses(harm):
        ran = run(dose)
        became.setdefault(check(ran, dose, chance), []).append(ran.accuracy)
    told = ", ".join(f"{len(ran)} {word} at {Noise(tuple(ran)).mean:.1%}" for word, ran in became.items())
    clean_ones = f"{len(chance.accuracies)} clean ones at {chance.mean:.1%}, give or take {chance.stdev:.1%}"
    print(f"{harm}: {told}; {clean_ones}")
    return {word: Noise(tuple(ran)) for word, ran in became.items()}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("harm", HARMS)
def test_a_bad_number_at_any_step_of_any_stage_costs_no_more(harm: str) -> None:
    stages = clean().poisoner.stages
    assert {one for seeds in stages.values() for one in seeds} == set(Stage) - {Stage.UNKNOWN}
    assert len(stages) == EPOCHS
    chance = noise(OTHERS)
    became = harmed(harm, chance)
    assert became.keys() == {"back", "again"}
    assert abs(became["back"].mean - chance.mean) <= chance.stdev, "nor on average"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_bad_number_beside_the_steps_of_any_stage_costs_training_nothing() -> None:
    chance = noise(OTHERS)
    became = harmed(BESIDE, chance)
    assert became.keys() == {"borne"}
    assert abs(became["borne"].mean - chance.mean) <= chance.stdev
