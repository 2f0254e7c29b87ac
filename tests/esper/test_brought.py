"""Claims about growing with an optimizer and a scheduler of one's own, from Python."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch.optim import LBFGS, SGD, Optimizer
from torch.optim.lr_scheduler import OneCycleLR, StepLR

from contracts.report import Ending
from esper.errors import BadSetup
from esper.session import grow
from tests.esper.test_session import SMALL, circle


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def sgd(groups: list[dict[str, Any]]) -> Optimizer:
    return SGD(groups, lr=0.1, momentum=0.9)


@pytest.mark.parametrize(
    ("own", "settings", "said"),
    [
        ({}, ["train.momentum=0.9"], "train.momentum = 0.9 has no meaning for adam"),
        ({}, ["train.optimizer=lion"], 'it takes "adam", "adam_amsgrad", "adamw", "rmsprop" or "sgd"'),
        ({}, ["train.optimizer=sgd", "train.momentum=1.0"], "train.momentum = 1.0 is refused"),
        ({"optimizer": lambda groups: None}, [], "returned a NoneType"),
        ({"optimizer": lambda groups: LBFGS(groups[0]["params"])}, [], "can't train a network that grows"),
        ({"optimizer": sgd}, ["train.optimizer=adamw"], "no meaning beside the task's own optimizer"),
        ({"scheduler": lambda o: StepLR(o, 3)}, [], "say whether StepLR goes on every step or epoch"),
    ],
)
def test_what_can_not_be_used_is_refused_and_leaves_nothing(
    own: dict[str, Callable[..., Any]], settings: list[str], said: str
) -> None:
    with pytest.raises(BadSetup, match=said):
        grow(replace(circle(), **own), sites=["1"], epochs=2, settings=[*SMALL, *settings])
    assert list(Path.cwd().iterdir()) == []


def test_a_model_whose_optimizer_was_refused_can_be_grown_with_another() -> None:
    task = circle()
    with pytest.raises(BadSetup, match="returned a NoneType"):
        grow(replace(task, optimizer=lambda groups: None), sites=["1"], epochs=1, settings=SMALL)  # type: ignore[arg-type,return-value]
    grown = grow(task, sites=["1"], epochs=1, settings=[*SMALL, "run.policy=none"])
    assert grown.report.ended == Ending("finished", complete=True)


def test_a_network_grows_with_an_optimizer_and_a_scheduler_of_ones_own() -> None:
    task = replace(
        circle(),
        optimizer=sgd,
        scheduler=lambda o: OneCycleLR(o, 0.2, total_steps=18),
        scheduler_every="step",
    )
    grown = grow(task, sites=["1"], epochs=6, settings=[*SMALL, "run.policy=random"])
    rates = [epoch.learning_rate for epoch in grown.report.epochs]
    assert grown.report.ended == Ending("finished", complete=True)
    assert max(rates) == pytest.approx(0.2, rel=0.05)
    assert rates[-1] < rates[0] < max(rates)
    assert not [alert.text for alert in grown.report.alerts if "someone else" in alert.text]
