"""What the experimental blueprints are for: routing, memory, flows, choice, fast weights, recursion."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from contracts.growth import Layout, SiteInfo
from esper.karn.blueprints.fast_weights import FastWeightMemory, delta_rule
from esper.karn.blueprints.memory import HOPS, MemoryReader
from esper.karn.blueprints.mixture_of_experts import CHOSEN, Experts
from esper.karn.blueprints.neural_ode import EVALUATIONS, Field, Flow
from esper.karn.blueprints.operation_choice import MixedOperation
from esper.karn.blueprints.recursive_block import Recursion
from esper.karn.catalogue import CATALOGUE
from esper.karn.transformer import TransformerLayer
from tests.esper.karn.pairs import SITES, batch, generator, taught

EXPERIMENTAL = [f"BP0{number}" for number in range(36, 43)]


@pytest.mark.parametrize("blueprint_id", EXPERIMENTAL)
def test_it_needs_approval(blueprint_id: str) -> None:
    about = CATALOGUE.get(blueprint_id).descriptor
    assert about.approval_required
    assert not about.quarantine_only


def rows(examples: int = 4, positions: int = 20, channels: int = 5, seed: int = 2) -> Tensor:
    return torch.randn(examples, positions, channels, generator=generator(seed))


def test_each_position_goes_to_two_experts_and_no_other_is_heard() -> None:
    module, x = taught(Experts(5, 6, 3, generator())), rows()
    gates = module.gates(x)
    assert ((gates > 0).sum(2) == CHOSEN).all()
    torch.testing.assert_close(gates.sum(2), torch.ones(gates.shape[:2]))
    before = module(x)
    with torch.no_grad():
        module.into.weight[:3] += 1  # the first expert's
    heard = gates[:, :, 0] > 0
    assert (module(x) != before).any(2)[heard].all()
    assert torch.equal(module(x)[~heard], before[~heard])
    assert heard.any()
    assert not heard.all()


def test_every_expert_is_reachable_and_positions_differ_in_their_choice() -> None:
    gates = Experts(5, 4, 3, generator()).gates(rows(64))
    share = (gates > 0).float().mean((0, 1))
    assert (share > 0.1).all()
    assert (share < 0.9).all()


def test_the_router_learns_from_how_much_the_chosen_count() -> None:
    module = taught(Experts(5, 4, 3, generator()))
    module(rows()).square().sum().backward()
    assert module.router.weight.grad is not None
    assert module.router.weight.grad.any(1).all()


def test_a_tie_for_the_last_place_is_shared() -> None:
    module = Experts(5, 4, 3, generator())
    with torch.no_grad():
        for parameter in module.router.parameters():
            parameter.zero_()
    assert torch.equal(module.gates(rows()), torch.full((4, 20, 4), 0.25))


def test_an_address_is_shares_of_the_slots_sharper_with_beta_and_blind_to_length() -> None:
    module = taught(MemoryReader(5, 16, 4, generator()))
    q, beta = rows(channels=4), torch.full((4, 20, 1), 2.0)
    address = module.address(q, beta)
    torch.testing.assert_close(address.sum(2), torch.ones(4, 20))
    torch.testing.assert_close(module.address(3 * q, beta), address)
    assert (module.address(q, 10 * beta).amax(2) > address.amax(2)).all()


def test_asking_for_a_slot_s_key_reads_its_value() -> None:
    module = taught(MemoryReader(5, 16, 4, generator()))
    q = module.keys_MD.detach().unsqueeze(0)  # each slot's own key, (1, M, D)
    address = module.address(q, torch.full((1, 16, 1), 1e4))
    torch.testing.assert_close(address[0], torch.eye(16))
    torch.testing.assert_close(address[0] @ module.values_MD, module.values_MD)


def test_the_second_question_depends_on_the_first_answer() -> None:
    module, x = taught(MemoryReader(5, 16, 4, generator())), rows()
    calm = x / (1 + x.square().mean(2, keepdim=True)).sqrt()
    q, beta = module.question(calm), 1 + F.softplus(module.sharpness(calm))
    first = module.address(q, beta[:, :, :1]) @ module.values_MD
    second = module.address(q + first, beta[:, :, 1:]) @ module.values_MD
    torch.testing.assert_close(module(x), module.back(second))
    assert (second - module.address(q, beta[:, :, 1:]) @ module.values_MD).abs().max() > 1e-2
    assert beta.shape[2] == HOPS
    assert (beta >= 1).all()


class LinearField(nn.Module):
    """dh/dt = h Aᵀ, whose flow is exp(A t); counts how often it is asked."""

    def __init__(self, a: Tensor) -> None:
        super().__init__()
        self.a = a
        self.asked: list[float] = []

    def forward(self, h: Tensor, t: float) -> Tensor:
        self.asked.append(t)
        return h @ self.a.T


@given(st.integers(0, 2**16), st.integers(1, 5), st.integers(1, 8))
@settings(max_examples=25)
def test_a_linear_field_flows_as_its_exponential_says(seed: int, size: int, steps: int) -> None:
    stream = generator(seed)
    a = torch.randn(size, size, generator=stream, dtype=torch.float64) / math.sqrt(size)
    h = torch.randn(3, size, generator=stream, dtype=torch.float64)
    exact = h @ torch.linalg.matrix_exp(a).T - h
    length = torch.linalg.matrix_norm(a, 2).item()
    bound = steps * (length / steps) ** 5 / 120 * math.exp(2 * length) * h.norm().item()
    assert (Flow(LinearField(a), steps)(h) - exact).norm() <= bound + 1e-12


def test_twice_the_steps_are_sixteen_times_closer() -> None:
    a = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)  # turns by one radian
    h = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    exact = h @ torch.linalg.matrix_exp(a).T - h
    errors = [(Flow(LinearField(a), steps)(h) - exact).norm().item() for steps in (2, 4, 8)]
    assert errors[0] / errors[1] == pytest.approx(16, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(16, rel=0.1)


def test_time_itself_flows() -> None:
    """dh/dt = 4 t³ goes from 0 to 1, and Simpson's weights (which these are) get cubics exactly."""

    class Clock(nn.Module):
        def forward(self, h: Tensor, t: float) -> Tensor:
            return torch.full_like(h, 4 * t**3)

    torch.testing.assert_close(Flow(Clock(), 3)(torch.zeros(2, 3)), torch.ones(2, 3))


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_the_field_is_asked_four_times_a_step(steps: int) -> None:
    field = LinearField(torch.eye(3))
    Flow(field, steps)(torch.ones(2, 3))
    assert len(field.asked) == EVALUATIONS * steps
    assert field.asked[0] == 0
    assert field.asked[-1] == pytest.approx(1)
    ode = CATALOGUE.get("BP039")
    site = SITES[Layout.VECTOR]
    once = ode.forward_flops(site, {"width": 3, "steps": 1})
    assert ode.forward_flops(site, {"width": 3, "steps": steps}) == steps * once
    assert ode.params(site, {"width": 3, "steps": steps}) == ode.params(site, {"width": 3, "steps": 1})


def test_the_field_knows_the_time_and_cannot_run_away() -> None:
    site = SITES[Layout.VECTOR]
    field, h = taught(Field(site, 4, generator())), batch(site)
    assert (field(h, 0.0) - field(h, 1.0)).abs().max() > 1e-2
    fastest = field.back.weight.abs().sum(1) + field.back.bias.abs()
    far = Flow(field, 2)(1e6 * h)
    assert (far.abs() <= fastest * 1.001 + 0.13).all()  # 0.13: a float's spacing at 1e6, twice


@pytest.mark.parametrize("layout", Layout)
def test_the_choice_starts_even_and_goes_to_the_one_that_wins(layout: Layout) -> None:
    site = SITES[layout]
    module, h = taught(MixedOperation(site, 3, generator())), batch(site)
    x = module.into(h)
    answers = [operation(x) for operation in module.operations]
    assert len(answers) == 6
    assert not answers[0].any()
    assert torch.equal(answers[1], x)
    for one in range(6):
        assert all((answers[one] - answers[other]).abs().max() > 1e-2 for other in range(one))
    with torch.no_grad():
        module.alpha_O.zero_()
    torch.testing.assert_close(module(h), module.back(sum(answers) / 6))
    for winner, answer in enumerate(answers):
        with torch.no_grad():
            module.alpha_O.copy_(1e3 * F.one_hot(torch.tensor(winner), 6))
        torch.testing.assert_close(module(h), module.back(answer))


def test_the_operations_look_as_far_as_they_say() -> None:
    module, x = taught(MixedOperation(SITES[Layout.SEQUENCE], 3, generator())), torch.zeros(1, 3, 9)
    moved = x.clone()
    moved[:, :, 4] = 100
    seen = [
        (operation(moved) != operation(x)).any(1)[0].nonzero().flatten().tolist()
        for operation in module.operations
    ]
    assert seen == [[], [4], [3, 4, 5], [3, 4, 5], [3, 4, 5], [2, 4, 6]]


def test_the_choice_is_learned() -> None:
    """What an operation's twin computes is found by the shares alone, layers held still."""
    site = SITES[Layout.SEQUENCE]
    module, h = taught(MixedOperation(site, 3, generator())), batch(site, 16)
    with torch.no_grad():
        wanted = module.back(module.operations[4](module.into(h)))
        module.alpha_O.zero_()
    optimizer = torch.optim.Adam([module.alpha_O], lr=0.3)
    for _ in range(40):
        optimizer.zero_grad()
        (module(h) - wanted).square().mean().backward()
        optimizer.step()
    assert module.alpha_O.softmax(0).argmax() == 4
    assert module.alpha_O.softmax(0)[4] > 0.9


def one_by_one(q: Tensor, k: Tensor, v: Tensor, rate: Tensor) -> Tensor:
    """The delta rule as the paper writes it: a matrix for each example, updated at each position."""
    examples, count, width = q.shape
    weights = torch.zeros(examples, width, width, dtype=q.dtype)  # (B, D of v, D of k)
    read = []
    for at in range(count):
        key, value = k[:, at].unsqueeze(2), v[:, at].unsqueeze(2)
        weights = weights + rate[:, at].unsqueeze(2) * (value - weights @ key) @ key.transpose(1, 2)
        read.append((weights @ q[:, at].unsqueeze(2)).squeeze(2))
    return torch.stack(read, 1)


@given(st.integers(0, 2**16), st.integers(1, 9), st.integers(1, 12), st.integers(1, 6))
@settings(max_examples=25)
def test_all_positions_at_once_are_the_delta_rule_one_by_one(
    seed: int, examples: int, count: int, width: int
) -> None:
    stream = generator(seed)
    q, k, v = (torch.randn(examples, count, width, generator=stream, dtype=torch.float64) for _ in range(3))
    k, rate = F.normalize(k, dim=2), torch.rand(examples, count, 1, generator=stream, dtype=torch.float64)
    torch.testing.assert_close(delta_rule(q, k, v, rate), one_by_one(q, k, v, rate))


def test_what_was_written_last_under_a_key_is_read() -> None:
    """Written fully, the same key's older value is gone; another key's is kept."""
    keys = torch.eye(3)[[0, 1, 0]].unsqueeze(0)
    values = torch.tensor([[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]])
    asked = torch.eye(3)[[0, 0, 1]].unsqueeze(0)
    read = delta_rule(asked, keys, values, torch.ones(1, 3, 1))
    torch.testing.assert_close(read[0], values[0, [0, 0, 1]])
    torch.testing.assert_close(delta_rule(keys, keys, values, torch.ones(1, 3, 1)), values)


def test_fast_weights_depend_on_what_came_before_and_never_on_another_example() -> None:
    module, x = taught(FastWeightMemory(5, 4, generator())), rows(3, 8)
    before = module(x)
    moved = x.clone()
    moved[1, 3] += 1
    after = module(moved)
    assert torch.equal(after[[0, 2]], before[[0, 2]])
    assert torch.equal(after[1, :3], before[1, :3])
    assert (after[1, 3:] != before[1, 3:]).any(1).all()
    shuffled = module(x[:, torch.tensor([1, 0, 2, 3, 4, 5, 6, 7])])
    assert (shuffled[:, 2:] - before[:, 2:]).abs().max() > 1e-3, "the order counts"


def test_each_position_decides_how_much_it_writes() -> None:
    module, x = taught(FastWeightMemory(5, 4, generator())), rows(3, 8)
    rate = module.parts(x)[3]
    assert ((rate > 0) & (rate < 1)).all()
    assert rate.std() > 1e-2
    with torch.no_grad():
        module.rate.bias.fill_(-100)
    torch.testing.assert_close(module(x), module.back.bias.expand_as(x))  # nothing written, nothing read


def test_fast_weights_stay_bounded_over_a_long_example() -> None:
    """Keys of length 1 and rates below 1 never lengthen the matrix by more than what is written."""
    module = taught(FastWeightMemory(5, 4, generator()))
    x = rows(1, 1000)
    assert module(x).abs().max() < 100 * module(x[:, :10]).abs().max()


def test_recursion_applies_one_block_to_its_own_answer() -> None:
    site = SITES[Layout.TOKENS]
    block = taught(TransformerLayer(site, 2, generator()))
    marks = nn.Parameter(torch.randn(3, 5, generator=generator()))
    module, x = Recursion(block, marks), batch(site)
    state = x
    for mark in marks:
        state = state + block(state + mark)
    torch.testing.assert_close(module(x), state - x)


def test_depth_shares_its_weights_and_costs_flops_alone() -> None:
    blueprint, site = CATALOGUE.get("BP042"), SITES[Layout.TOKENS]
    cost = {depth: blueprint.forward_flops(site, {"width": 2, "depth": depth}) for depth in (2, 3, 8)}
    size = {depth: blueprint.params(site, {"width": 2, "depth": depth}) for depth in (2, 3, 8)}
    assert 3 * cost[2] == 2 * cost[3]
    assert size[3] - size[2] == site.channels, "a mark more"
    assert size[8] - size[2] == 6 * site.channels


def test_every_time_gives_the_shared_weights_a_gradient() -> None:
    """The gradient of three times is not that of one: it is summed over all of them."""
    site = SITES[Layout.TOKENS]
    block, x = taught(TransformerLayer(site, 2, generator())), batch(site)
    found = []
    for depth in (1, 2, 3):
        block.zero_grad()
        Recursion(block, nn.Parameter(torch.zeros(depth, 5)))(x).sum().backward()
        gradient = block.perceptron.into.weight.grad
        assert gradient is not None
        found.append(gradient.clone())
    assert (found[0] - found[1]).abs().max() > 1e-2
    assert (found[1] - found[2]).abs().max() > 1e-2


def test_fast_weights_do_not_grow_where_there_is_no_order() -> None:
    assert CATALOGUE.get("BP041").layouts == {Layout.SEQUENCE, Layout.TOKENS}
    long = SiteInfo("s", Layout.SEQUENCE, (2, 1025), 2, 0)
    assert "at most 1024 positions" in CATALOGUE.get("BP041").refusal(long)
