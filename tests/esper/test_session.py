"""Claims about growing a model of one's own from Python."""

import asyncio
import copy
import io
import signal
import socket
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, tzinfo
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from actors.display import PlainLines, Silent
from actors.oona.errors import UnreachableError
from actors.oona.open import OpenBus
from contracts.growth import GrowthView
from contracts.messages import SystemState
from contracts.report import Report
from esper.errors import BadSetup, CannotWrite
from esper.session import Grown, grow
from esper.tamiyo.action import Action, Wait
from esper.tamiyo.baselines import NeverGrow
from esper.tolaria.task import Task, Tensors, class_accuracy
from tests.actors.oona.redis_server import RedisServer
from tests.esper.unhurried import TIMES
from tests.hosts import HOSTS, Host

SMALL = ("train.epoch_steps=3", "train.batch_size=20")
DECIDES = ("budgets.tamiyo_inference_ms=60000", "budgets.epoch_boundary_ms=60000")
"""No decision comes too late, however busy the machine."""


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
        (
            {"max_params": 16},
            "^growth.max_params 16 is below the host's own 17 parameters; give more than 17",
        ),
        (
            {"epochs": None, "gflop": 1e-7},
            r"^run.gflop 1e-07 is less than the 0.\d+ GFLOP that one step takes",
        ),
    ],
)
def test_a_setup_that_can_not_begin_is_refused_and_leaves_nothing(
    changes: dict[str, object], said: str
) -> None:
    asked: dict[str, object] = {"sites": ["1"], "epochs": 2, "settings": SMALL, **changes}
    with pytest.raises(BadSetup, match=said):
        grow(circle(), **asked)  # type: ignore[arg-type]
    assert list(Path.cwd().iterdir()) == []


def taken_port(port: int) -> tuple[str, ...]:
    return ("serve.enabled=true", f"serve.port={port}")


def test_an_occupied_port_is_refused_before_anything_is_written() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BadSetup, match=f"port {port}"):
            grow(circle(), sites=["1"], epochs=2, settings=(*SMALL, *taken_port(port)))
    assert list(Path.cwd().iterdir()) == []


def test_a_bus_that_goes_away_before_the_run_begins_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    @asynccontextmanager
    async def gone(*_: object) -> AsyncIterator[OpenBus]:
        raise UnreachableError("it was there a moment ago")
        yield

    monkeypatch.setattr("actors.perform.open_bus", gone)
    with pytest.raises(BadSetup, match="a moment ago"):
        grow(circle(), sites=["1"], epochs=2, settings=SMALL)
    assert list(Path.cwd().glob("runs/*")) == []


def test_a_bus_that_can_not_be_had_is_refused_before_anything_is_written() -> None:
    with pytest.raises(BadSetup, match=r"no Redis can be reached at redis://127\.0\.0\.1:1"):
        grow(circle(), sites=["1"], epochs=2, settings=(*SMALL, "run.bus=redis://127.0.0.1:1"))
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize("inside_a_loop", [False, True])
def test_a_model_of_ones_own_grows_on_a_redis_too(
    redis_server: RedisServer, inside_a_loop: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name, value in TIMES:
        monkeypatch.setattr(f"{module}.{name}", value)
    settings = (*SMALL, f"run.bus={redis_server.address}")

    def growing() -> Grown:
        return grow(circle(), sites=["1"], epochs=6, settings=settings)

    async def notebook() -> Grown:
        return growing()

    report = (asyncio.run(notebook()) if inside_a_loop else growing()).report
    assert report.bus["backend"] == "redis"
    assert report.bus["link"] == {"reconnects": 0, "uncertain": 0, "lost": 0, "frames_refused": 0}
    telemetry = report.bus["telemetry/nissa/normal"]
    assert isinstance(telemetry, dict)
    assert telemetry["published"] == telemetry["acked"] >= 6


def test_a_folder_that_can_not_be_made_is_refused() -> None:
    Path("taken").write_text("")
    for out in ("taken", "taken/deeper", "/proc/nowhere"):
        with pytest.raises(BadSetup, match="give a"):
            grow(circle(), sites=["1"], epochs=2, settings=(*SMALL, f"run.out={out}"))
    assert [file.name for file in Path.cwd().iterdir()] == ["taken"]


def refused(task: Task) -> str:
    """What is said against `task`; its model and the random streams are as before, and nothing is written."""
    model, stream = copy.deepcopy(task.model.state_dict()), torch.get_rng_state()
    with pytest.raises(BadSetup) as caught:
        grow(task, sites=["1"], epochs=2, settings=SMALL)
    assert list(Path.cwd().iterdir()) == []
    assert torch.equal(torch.get_rng_state(), stream)
    assert list(task.model.state_dict()) == list(model)
    assert all(torch.equal(value, model[name]) for name, value in task.model.state_dict().items())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_model_that_does_not_take_the_inputs_is_refused() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2))
    said = refused(replace(circle(), model=model))
    assert said.startswith("the model does not accept the training inputs: mat1 and mat2 shapes")


def test_a_model_without_shapes_is_refused_and_still_has_none() -> None:
    model = nn.Sequential(nn.LazyLinear(3), nn.ReLU(), nn.Linear(3, 2))
    with pytest.raises(BadSetup, match="run a batch through the model"):
        grow(replace(circle(), model=model), sites=["1"], epochs=2, settings=SMALL)
    assert isinstance(model[0], nn.LazyLinear)


def split_at_random(outputs: Tensor, targets: Tensor) -> Tensor:
    """A loss that draws, and fails for targets of another type."""
    loss: Tensor = F.nll_loss(F.dropout(outputs), targets)
    return loss


@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_loss_that_does_not_take_the_targets_is_refused(batch_norm: bool) -> None:
    task = circle()
    train = Tensors(task.train.inputs, task.train.targets.double())
    norm = nn.BatchNorm1d(3) if batch_norm else nn.Identity()
    model = nn.Sequential(nn.Linear(2, 3), norm, nn.Dropout(0.5), nn.Linear(3, 2))
    said = refused(replace(task, model=model, train=train, loss_fn=split_at_random))
    assert said.startswith("the loss does not accept outputs and targets: ")


def test_a_loss_of_more_than_one_number_is_refused() -> None:
    said = refused(replace(circle(), loss_fn=lambda a, b: F.cross_entropy(a, b, reduction="none")))
    assert said == "the loss has shape (2,); it has to be one number, the examples' mean"


def test_an_accuracy_that_fails_is_refused() -> None:
    said = refused(replace(circle(), accuracy_fn=lambda a, b: (a.argmax(1) == b).double()))
    assert said.startswith("the accuracy is not to be had: ")


def with_split(split: str, inputs: Tensor | None = None, targets: Tensor | None = None) -> Task:
    """The circle with another split of this name."""
    task = circle()
    data: Tensors = getattr(task, split)
    return replace(
        task,
        **{
            split: Tensors(
                data.inputs if inputs is None else inputs, data.targets if targets is None else targets
            )
        },
    )


@pytest.mark.parametrize("split", ["validation", "test"])
def test_every_split_has_to_fit_the_model_and_its_loss(split: str) -> None:
    data: Tensors = getattr(circle(), split)
    said = refused(with_split(split, inputs=torch.randn(len(data), 3)))
    assert said.startswith(f"the model does not accept the {split} inputs: mat1 and mat2 shapes")
    targets = data.targets.clone()
    targets[-1] = 7
    said = refused(with_split(split, targets=targets))
    assert (
        said
        == f"the loss does not accept outputs and targets of the {split} data: Target 7 is out of bounds."
    )
    assert refused(with_split(split, data.inputs[:0], data.targets[:0])).startswith(
        f"the {split} split is empty"
    )


def test_a_label_that_is_out_of_range_anywhere_in_the_training_data_is_refused() -> None:
    targets = circle().train.targets.clone()
    targets[len(targets) // 2] = -3
    assert refused(with_split("train", targets=targets)).endswith("Target -3 is out of bounds.")


def test_a_model_with_nothing_to_train_is_refused() -> None:
    task = circle()
    task.model.requires_grad_(False)
    assert refused(task) == (
        "the model has no parameter to train; at least one has to have requires_grad, and none has"
    )
    next(iter(task.model.parameters())).requires_grad_(True)
    assert grow(task, sites=["1"], epochs=1, settings=SMALL).report.ended.kind == "finished"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_model_with_weights_that_are_no_numbers_is_refused(value: float) -> None:
    task = circle()
    task.model.get_parameter("2.bias").data[1] = value
    with pytest.raises(
        BadSetup, match=r"^2\.bias of the model holds NaN or infinity; give it finite numbers"
    ):
        grow(task, sites=["1"], epochs=2, settings=SMALL)
    assert list(Path.cwd().iterdir()) == []


def test_a_buffer_may_hold_infinity_but_not_nan() -> None:
    task = circle()
    task.model.register_buffer("mask", torch.tensor([0.0, -float("inf")]))
    assert grow(task, sites=["1"], epochs=1, settings=SMALL).report.ended.kind == "finished"
    task = circle()
    task.model.register_buffer("mask", torch.tensor([0.0, float("nan")]))
    with pytest.raises(BadSetup, match=r"^mask of the model holds NaN; give it finite"):
        grow(task, sites=["1"], epochs=1, settings=SMALL)


class Counting(nn.Module):
    """Scales by how often it was called in training; the count is a buffer, or torch knows nothing of it."""

    count: int | Tensor

    def __init__(self, kept: bool) -> None:
        super().__init__()
        if kept:
            self.register_buffer("count", torch.zeros(()))
        else:
            self.count = 0

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.count = self.count + 1
        return F.dropout(x * (1 + 0.01 * self.count), 0.3, self.training)


@pytest.mark.parametrize("kept", [False, True])
def test_a_model_that_counts_its_passes_has_to_do_it_in_a_buffer(kept: bool) -> None:
    body = [nn.Linear(2, 3), nn.ReLU(), Counting(kept), nn.Linear(3, 2)]
    task = replace(circle(), model=nn.Sequential(*body))
    if kept:
        assert grow(task, sites=["1"], epochs=1, settings=SMALL).report.ended.kind == "finished"
        return
    assert refused(task).startswith(
        "the model computes something else when it is called again on the same input"
    )


class Ready(nn.Module):
    """Sets itself up on the first batch that it trains on."""

    first = 0

    def forward(self, x: Tensor) -> Tensor:
        if self.training and not self.first:
            self.first = len(x)
        return x


def test_what_a_layer_does_on_its_first_batch_it_does_on_one_of_the_run() -> None:
    ready = Ready()
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), ready, nn.Linear(3, 2))
    grow(replace(circle(), model=model), sites=["1"], epochs=1, settings=[*SMALL, "run.policy=none"])
    assert ready.first == 20


def test_no_parameters_at_most_is_not_the_same_as_nothing_said() -> None:
    with pytest.raises(BadSetup, match="max_params"):
        grow(circle(), sites=["1"], epochs=2, max_params=0, settings=SMALL)


def test_a_display_that_is_given_is_told_of_the_whole_run() -> None:
    out = io.StringIO()
    settings = [*SMALL, "kernels.prefetch=false", "run.policy=none"]
    grown = grow(circle(), sites=["1"], epochs=2, settings=settings, display=PlainLines(out, lambda: 0.0))
    lines = out.getvalue().splitlines()
    assert lines[0] == f"Esper  Sequential · policy none · seed 0 · 2 epochs · {grown.folder}"
    assert lines[-1] == f"report  {grown.folder}/report.html"


def test_the_last_epoch_of_a_budget_in_flops_says_how_many_steps_it_had() -> None:
    settings = [*SMALL, "kernels.prefetch=false", "run.policy=none"]
    step = grow(circle(), sites=["1"], epochs=1, settings=settings).report.flops["train"] // 3
    grown = grow(circle(), sites=["1"], gflop=8 * step / 1e9, settings=settings)
    assert [one.steps for one in grown.report.epochs] == [3, 3, 2]


@pytest.mark.real
def test_growing_works_beside_a_running_loop_and_from_another_thread() -> None:
    before = signal.getsignal(signal.SIGINT)

    async def in_a_notebook() -> Grown:
        return grow(circle(), sites=["1"], epochs=2, settings=SMALL)

    assert asyncio.run(in_a_notebook()).report.ended.kind == "finished"
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(grow, circle(), sites=["1"], epochs=2, settings=SMALL)
        assert asked.result().report.ended.kind == "finished"
    assert signal.getsignal(signal.SIGINT) == before


@pytest.mark.real
def test_what_is_refused_beside_a_running_loop_is_raised_there() -> None:
    async def in_a_notebook() -> None:
        with pytest.raises(BadSetup, match="names no module"):
            grow(circle(), sites=["relu"], epochs=2, settings=SMALL)

    asyncio.run(in_a_notebook())


@pytest.mark.real
def test_runs_of_the_same_moment_get_folders_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopped(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Stopped":
            return cls(2030, 1, 2, 3, 4, 5, 678_000, tz)

    monkeypatch.setattr("esper.session.datetime", Stopped)
    made = [grow(circle(), sites=["1"], epochs=1, settings=SMALL) for _ in range(3)]
    first = "Sequential-heuristic-s0-20300102T030405678"
    assert [one.folder.name for one in made] == [first, f"{first}-2", f"{first}-3"]
    assert [one.report.run_id for one in made] == [one.folder.name for one in made]


@pytest.mark.real
def test_a_disk_that_is_full_at_the_end_is_said_and_leaves_nothing_half_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("esper.ending.save_grown", full)
    with pytest.raises(CannotWrite, match=r"No space left on device; it holds report\.json$"):
        grow(circle(), sites=["1"], epochs=2, settings=SMALL)
    (folder,) = Path("runs").iterdir()
    left = {file.name for file in folder.iterdir()}
    assert left & {"report.json", "report.html", "model.json", "model.safetensors"} == {"report.json"}
    assert {"config.toml", "events.jsonl"} <= left


def test_data_with_nan_are_refused_before_anything_is_written() -> None:
    with pytest.raises(BadSetup, match="1 of 200 inputs of the train split hold NaN"):
        grow(circle(spoil=True), sites=["1"], epochs=2, settings=SMALL)
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.real
@pytest.mark.parametrize("once", [True, False])
def test_an_error_of_the_tasks_own_code_halts_the_run_which_returns_and_says_so(once: bool) -> None:
    calls = 0

    def loss_fn(outputs: Tensor, targets: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 9 or (calls > 9 and not once):
            raise KeyError("a table of one's own")
        return F.cross_entropy(outputs, targets)

    task = replace(circle(), loss_fn=loss_fn)
    grown = grow(task, sites=["1"], epochs=9, settings=SMALL)
    assert grown.report.ended.kind == "halted"
    assert 'KeyError: "a table of one\'s own" (esper.log' in grown.report.ended.reason
    assert "a table of one's own" in (grown.folder / "esper.log").read_text()
    assert grown.model is task.model
    assert 1 <= len(grown.report.epochs) < 9
    assert (grown.report.final.test_accuracy is not None) == once
    assert (grown.folder / "model.safetensors").exists()


@pytest.mark.real
def test_a_network_whose_judgement_hangs_is_left_unjudged_and_the_run_halts() -> None:
    over = threading.Event()

    def hang() -> Tensors:
        over.wait(60)
        return circle().test

    class Watching(Silent):
        def finish(self, report: Report) -> None:
            over.set()

    task = replace(circle(), fresh=hang)
    settings = [*SMALL, "emergency.step_stall_s=3"]
    grown = grow(task, sites=["1"], epochs=2, settings=settings, display=Watching())
    assert over.is_set()
    assert grown.report.ended.kind == "halted"
    assert "the training thread has stood still for" in grown.report.ended.reason
    assert [one.epoch for one in grown.report.epochs] == [1, 2]
    assert grown.report.final.test_accuracy is None
    assert (grown.folder / "stalls.txt").stat().st_size
    again = grow(circle(), sites=["1"], epochs=2, settings=settings, resume=grown.folder)
    assert again.report.ended.kind == "finished"
    assert again.report.final.test_accuracy is not None


@pytest.mark.real
def test_a_model_of_ones_own_is_grown_in_place() -> None:
    task = circle()
    before = sum(p.numel() for p in task.model.parameters())
    settings = ["train.batch_size=20", "run.policy=random", *DECIDES]
    grown = grow(task, sites=["1"], epochs=20, max_params=200, settings=settings)
    assert grown.model is task.model
    assert grown.report.final.params > before
    assert (grown.folder / "report.html").exists()


@pytest.mark.real
def test_a_policy_of_ones_own_decides() -> None:
    class Counting(NeverGrow):
        name = "counting / mine"

        def __init__(self) -> None:
            self.asked = 0

        def act(self, state: SystemState, view: GrowthView) -> Action:
            self.asked += 1
            return Wait()

    policy = Counting()
    grown = grow(circle(), sites=["1"], epochs=5, settings=[*SMALL, *DECIDES], policy=policy)
    assert policy.asked == 4
    assert grown.report.policy == "counting / mine"
    assert grown.folder.name.startswith("Sequential-counting-mine-s0-")
    assert grown.report.run_id == grown.folder.name


@pytest.mark.real
@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.name)
def test_every_kind_of_host_grows_in_a_whole_run(host: Host) -> None:
    parts = [Tensors(*host.batch(size, seed)) for seed, size in enumerate((160, 60, 60))]
    task = Task(host.model(), *parts, loss_fn=F.cross_entropy, accuracy_fn=class_accuracy)
    settings = [
        "run.policy=random", "train.epoch_steps=4", "train.batch_size=16", "train.learning_rate=0.003",
        "growth.path.probation_epochs=2",
        *DECIDES,
    ]  # fmt: skip
    grown = grow(task, sites=host.sites, epochs=20, settings=settings)
    assert grown.report.ended.kind == "finished"
    assert grown.report.grafts
    assert grown.report.final.params > grown.report.host.params
