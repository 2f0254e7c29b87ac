import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from esper.tolaria.flops import Account, FlopLedger, count_forward, count_step, counted
from esper.workloads.mnist1d import ConvBase
from tests.esper.tolaria.world import Host, split

BATCH = 100


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.zeros(BATCH, 1, 40), torch.zeros(BATCH, dtype=torch.int64)


def test_the_published_host_costs_111_gflop_in_6000_steps() -> None:
    total = 6_000 * count_step(ConvBase(25), *batch(), F.cross_entropy)
    assert round(total / 1e9) == 111


def test_the_small_host_costs_7040_flops_per_example_and_step() -> None:
    assert count_step(ConvBase(4), *batch(), F.cross_entropy) == 7_040 * BATCH


def test_the_count_is_that_of_torchs_own_counter() -> None:
    model, (inputs, targets) = ConvBase(6), batch()
    with FlopCounterMode(display=False) as theirs:
        F.cross_entropy(model(inputs), targets).backward()
    assert count_step(model, inputs, targets, F.cross_entropy) == theirs.get_total_flops()


def test_attention_and_recurrent_layers_are_counted_like_torchs_counter_does() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, dropout=0.0, batch_first=True)
    inputs = torch.zeros(3, 5, 8)
    with FlopCounterMode(display=False) as theirs:
        layer(inputs).sum().backward()
    assert counted(lambda: layer(inputs).sum().backward()) == theirs.get_total_flops()


def test_a_forward_pass_is_counted_without_its_backward() -> None:
    assert count_forward(ConvBase(4), batch()[0]) == 2_600 * BATCH


@pytest.mark.parametrize("mode", ["step", "forward"])
def test_counting_leaves_weights_buffers_gradients_modes_and_randomness_alone(mode: str) -> None:
    model, data = Host(dropout=0.5), split(1, 10)
    F.cross_entropy(model(data.inputs), data.targets).backward()
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    before = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    stream = torch.get_rng_state()
    if mode == "step":
        count_step(model, data.inputs, data.targets, F.cross_entropy)
    else:
        count_forward(model, data.inputs)
    assert all(torch.equal(before[name], tensor) for name, tensor in tensors.items())
    after = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(torch.equal(old, new) for old, new in zip(gradients, after, strict=True))
    assert torch.equal(stream, torch.get_rng_state())
    assert all(module.training for module in model.modules())


def test_the_ledger_sums_its_accounts() -> None:
    ledger = FlopLedger(counts_validation=True)
    ledger.add(Account.TRAIN, 5)
    ledger.add(Account.TRAIN, 2)
    ledger.add(Account.PROBE, 10)
    ledger.add(Account.VALIDATION, 100)
    assert ledger.of(Account.TRAIN) == 7
    assert ledger.spent == 117


def test_validation_that_no_policy_reads_is_kept_but_not_spent() -> None:
    ledger = FlopLedger(counts_validation=False)
    ledger.add(Account.TRAIN, 5)
    ledger.add(Account.VALIDATION, 100)
    assert ledger.spent == 5
    assert ledger.accounts()["validation"] == 100
