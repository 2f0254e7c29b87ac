"""Claims about growing a model of one's own from Python."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from contracts.growth import GrowthView
from contracts.messages import SystemState
from esper.session import BadSetup, grow
from esper.tamiyo.action import Action, Wait
from esper.tamiyo.baselines import NeverGrow
from esper.tolaria.task import Task, Tensors, class_accuracy
from tests.hosts import HOSTS, Host

SMALL = ("train.epoch_steps=3", "train.batch_size=20")


def circle(spoil: bool = False) -> Task:
    """Points inside or outside of a circle, and a network too small for it."""
    stream = torch.Generator().manual_seed(1)
    points = torch.randn(300, 2, generator=stream)
    labels = (points.norm(dim=1) > 1.2).long()
    if spoil:
        points[7, 1] = float("nan")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    parts = [Tensors(points[a:b], labels[a:b]) for a, b in ((0, 200), (200, 250), (250, 300))]
    return Task(model, *parts, loss_fn=F.cross_entropy, accuracy_fn=class_accuracy)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sites": ["relu"]}, "names no module"),
        ({"sites": r"\d+("}, "no regular expression"),
        ({"sites": []}, "no pattern"),
        ({"epochs": None}, "needs a length"),
        ({"settings": ["train.batch=3"]}, "not a setting"),
    ],
)
def test_a_setup_that_can_not_begin_is_refused_and_leaves_nothing(
    changes: dict[str, object], said: str
) -> None:
    asked: dict[str, object] = {"sites": ["1"], "epochs": 2, "settings": SMALL, **changes}
    with pytest.raises(BadSetup, match=said):
        grow(circle(), **asked)  # type: ignore[arg-type]
    assert list(Path.cwd().iterdir()) == []


def test_data_with_nan_are_refused_before_anything_is_written() -> None:
    with pytest.raises(BadSetup, match="1 of 200 inputs of the train split hold NaN"):
        grow(circle(spoil=True), sites=["1"], epochs=2, settings=SMALL)
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.real
def test_a_model_of_ones_own_is_grown_in_place() -> None:
    task = circle()
    before = sum(p.numel() for p in task.model.parameters())
    grown = grow(
        task, sites=["1"], epochs=40, max_params=200, settings=["train.batch_size=20", "run.policy=random"]
    )
    assert grown.model is task.model
    assert grown.report.final.params > before
    assert (grown.folder / "report.html").exists()


@pytest.mark.real
def test_a_policy_of_ones_own_decides() -> None:
    class Counting(NeverGrow):
        name = "counting"

        def __init__(self) -> None:
            self.asked = 0

        def act(self, state: SystemState, view: GrowthView) -> Action:
            self.asked += 1
            return Wait()

    policy = Counting()
    grow(circle(), sites=["1"], epochs=5, settings=SMALL, policy=policy)
    assert policy.asked == 4


@pytest.mark.real
@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.name)
def test_every_kind_of_host_grows_in_a_whole_run(host: Host) -> None:
    parts = [Tensors(*host.batch(size, seed)) for seed, size in enumerate((160, 60, 60))]
    task = Task(host.model(), *parts, loss_fn=F.cross_entropy, accuracy_fn=class_accuracy)
    settings = [
        "run.policy=random", "train.epoch_steps=4", "train.batch_size=16", "train.learning_rate=0.003",
        "growth.path.probation_epochs=2",
        "budgets.tamiyo_inference_ms=1000", "budgets.epoch_boundary_ms=1000",
    ]  # fmt: skip
    grown = grow(task, sites=host.sites, epochs=20, settings=settings)
    assert grown.report.ended.kind == "finished"
    assert grown.report.grafts
    assert grown.report.final.params > grown.report.host.params
