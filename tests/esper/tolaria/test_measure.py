import pytest
import torch
from torch.nn import functional as F

from esper.tolaria import measure as measuring
from esper.tolaria.measure import judge, measure
from esper.tolaria.task import class_accuracy
from tests.esper.tolaria.world import Host, split, task


def test_every_example_weighs_the_same_whatever_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = Host(), split(1, 50)
    whole = measure(model, data, F.cross_entropy, class_accuracy)
    monkeypatch.setattr(measuring, "CHUNK_EXAMPLES", 17)
    pieces = measure(model, data, F.cross_entropy, class_accuracy)
    assert pieces.loss == pytest.approx(whole.loss, rel=1e-6)
    assert pieces.accuracy == pytest.approx(whole.accuracy)
    model.eval()
    assert whole.loss == pytest.approx(F.cross_entropy(model(data.inputs), data.targets).item())


def test_measuring_restores_each_modules_own_mode_and_moves_no_buffer() -> None:
    model, data = Host(dropout=0.5), split(1, 50)
    model.norm.eval()
    mean = model.norm.running_mean
    assert mean is not None
    before, stream = mean.clone(), torch.get_rng_state()
    measure(model, data, F.cross_entropy, None)
    assert model.training
    assert model.drop.training
    assert not model.norm.training
    assert torch.equal(mean, before)
    assert torch.equal(stream, torch.get_rng_state())


def test_the_mode_comes_back_after_an_error_too() -> None:
    model = Host()
    with pytest.raises(RuntimeError):
        measure(model, split(1, 5), lambda outputs, targets: outputs @ outputs, None)
    assert model.training


def test_without_a_definition_of_right_there_is_no_accuracy() -> None:
    assert measure(Host(), split(1, 5), F.cross_entropy, None).accuracy is None


def test_judging_makes_fresh_data_only_where_it_can_be_made() -> None:
    judged = judge(Host(), task())
    assert judged.fresh is not None
    assert (judged.validation.examples, judged.test.examples, judged.fresh.examples) == (50, 30, 40)
