"""PCGrad on Gram matrices, against the algorithm as the paper states it on vectors, and its closed form."""

import math
import random

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from esper.tolaria.surgery import combined, cosine, gram, pcgrad, random_orders
from tests.examples import examples

Vectors = list[list[float]]
entries = st.floats(-8, 8, width=32).filter(lambda x: x == 0.0 or abs(x) > 1e-3)
weights_of = st.floats(0.125, 8)


@st.composite
def tasks(draw: st.DrawFn, most: int = 4) -> tuple[Vectors, list[float]]:
    """Gradients (K, n) and their weights."""
    k, n = draw(st.integers(2, most)), draw(st.integers(1, 5))
    vectors = draw(st.lists(st.lists(entries, min_size=n, max_size=n), min_size=k, max_size=k))
    return vectors, draw(st.lists(weights_of, min_size=k, max_size=k))


def split(vectors: Vectors) -> list[list[Tensor | None]]:
    """Each vector as the gradients of two parameters, the first of them one entry long."""
    return [[torch.tensor(v[:1]), torch.tensor(v[1:])] for v in vectors]


def whole(gradient: list[Tensor | None]) -> Tensor:
    return torch.cat([part for part in gradient if part is not None])


def algorithm_1(vectors: Vectors, orders: list[list[int]]) -> list[np.ndarray]:
    """Yu et al. 2020, algorithm 1, literally: the projected gradient of each task."""
    g = [np.array(v, dtype=np.float64) for v in vectors]
    projected = [v.copy() for v in g]
    for i, order in enumerate(orders):
        for j in order:
            inner = projected[i] @ g[j]
            if inner < 0:
                projected[i] -= inner / (g[j] @ g[j]) * g[j]
    return projected


def size(vectors: Vectors) -> float:
    return max(1.0, *(math.hypot(*v) for v in vectors))


@settings(max_examples=examples(20, 400))
@given(tasks(), st.integers(0, 99))
def test_the_sum_is_that_of_the_papers_algorithm(given_: tuple[Vectors, list[float]], step: int) -> None:
    vectors, weights = given_
    orders = random_orders(0, step, len(vectors))
    gradients = split(vectors)
    ours = whole(combined(gradients, pcgrad(gram(gradients), weights, orders)))
    weighted = [[w * x for x in v] for w, v in zip(weights, vectors, strict=True)]
    theirs = sum(algorithm_1(weighted, orders))
    assert np.allclose(ours.double().numpy(), theirs, atol=1e-4 * size(weighted))


@settings(max_examples=examples(20, 400))
@given(tasks(most=2))
def test_two_tasks_have_a_closed_form(given_: tuple[Vectors, list[float]]) -> None:
    (one, other), _ = given_
    g1, g2 = (torch.tensor(v, dtype=torch.float64) for v in (one, other))
    inner = float(g1 @ g2)
    assume(inner < -1e-2)
    ours = whole(combined(split([one, other]), pcgrad(gram(split([one, other])), [1, 1], [[1], [0]])))
    # g1 + g2 - (g1.g2) (g1 / |g1|^2 + g2 / |g2|^2): each loses its part along the other
    expected = g1 + g2 - inner * (g1 / (g1 @ g1) + g2 / (g2 @ g2))
    assert torch.allclose(ours.double(), expected, atol=1e-4 * size([one, other]))
    # neither loss rises along it, to first order: g_i . sum = |g_i|^2 sin^2 of the angle between them
    assert float(ours.double() @ g1) >= -1e-4 * size([one]) ** 2
    assert float(ours.double() @ g2) >= -1e-4 * size([other]) ** 2


@settings(max_examples=examples(20, 400))
@given(tasks(), st.integers(0, 99))
def test_no_task_conflicts_any_more_with_the_one_it_has_met_last(
    given_: tuple[Vectors, list[float]], step: int
) -> None:
    """With two tasks that is: with no other at all."""
    vectors, _ = given_
    orders = random_orders(3, step, len(vectors))
    products = gram(split(vectors))
    k = len(vectors)
    for i in range(k):
        only_i = [1.0 if j == i else 0.0 for j in range(k)]
        alone = [orders[j] if j == i else [] for j in range(k)]
        coefficients = pcgrad(products, only_i, alone)
        inner = sum(coefficients[m] * products[m][orders[i][-1]] for m in range(k))
        assert inner >= -1e-9 * size(vectors) ** 2


@settings(max_examples=examples(20, 400))
@given(tasks())
def test_without_a_conflict_the_result_is_the_weighted_sum_bit_for_bit(
    given_: tuple[Vectors, list[float]],
) -> None:
    vectors, weights = given_
    gradients = split([[abs(x) for x in v] for v in vectors])
    coefficients = pcgrad(gram(gradients), weights, random_orders(0, 1, len(vectors)))
    assert coefficients == weights
    total = [part * weights[0] for part in gradients[0] if part is not None]
    for weight, gradient in zip(weights[1:], gradients[1:], strict=True):
        for sum_, part in zip(total, gradient, strict=True):
            assert part is not None
            sum_.add_(part, alpha=weight)
    assert torch.equal(whole(combined(gradients, coefficients)), torch.cat(total))


@settings(max_examples=examples(20, 400))
@given(tasks(), st.integers(-6, 6), st.data())
def test_how_long_a_gradient_is_does_not_change_what_it_takes_from_another(
    given_: tuple[Vectors, list[float]], exponent: int, data: st.DataObject
) -> None:
    """Only its own share of the sum is scaled: a power of two changes no bit of the others' parts."""
    vectors, _ = given_
    k, scale = len(vectors), 2.0**exponent
    longer = data.draw(st.integers(0, k - 1))
    orders = random_orders(1, 2, k)
    before = gram(split(vectors))
    after = gram(split([[scale * x for x in v] if j == longer else v for j, v in enumerate(vectors)]))
    for i in range(k):
        only_i, met = (
            [1.0 if j == i else 0.0 for j in range(k)],
            [orders[j] if j == i else [] for j in range(k)],
        )
        was, now = pcgrad(before, only_i, met), pcgrad(after, only_i, met)
        rescaled = [c * (scale if j == longer else 1.0) for j, c in enumerate(now)]
        assert rescaled == [c * scale if i == longer else c for c in was]


@settings(max_examples=examples(20, 400))
@given(tasks())
def test_inner_products_and_cosines_are_those_of_the_whole_vectors(
    given_: tuple[Vectors, list[float]],
) -> None:
    vectors, _ = given_
    matrix = np.array(vectors, dtype=np.float64)
    products = gram(split(vectors))
    assert np.allclose(products, matrix @ matrix.T, atol=1e-9)
    for i, one in enumerate(matrix):
        for j, other in enumerate(matrix):
            lengths = np.linalg.norm(one) * np.linalg.norm(other)
            expected = 0.0 if lengths == 0 else one @ other / lengths
            assert cosine(products, i, j) == pytest.approx(expected, abs=1e-9)


def test_a_parameter_without_a_gradient_counts_as_zero_and_disjoint_gradients_never_conflict() -> None:
    one, other = [torch.tensor([1.0, 2.0]), None, None], [None, torch.tensor([-3.0]), None]
    products = gram([one, other])
    assert products == [[5.0, 0.0], [0.0, 9.0]]
    assert cosine(products, 0, 1) == 0.0
    first, second, third = combined([one, other], pcgrad(products, [0.5, 0.5], [[1], [0]]))
    assert first is not None
    assert second is not None
    assert first.tolist() == [0.5, 1.0]
    assert second.tolist() == [-1.5]
    assert third is None


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_shows_in_its_product_with_itself(bad: float) -> None:
    products = gram([[torch.tensor([1.0, bad])], [torch.tensor([3e38, 3e38])]])
    assert not math.isfinite(products[0][0])
    assert math.isfinite(products[1][1])


def test_opposite_gradients_leave_nothing() -> None:
    """The paper's theorem 1: the only place but an optimum at which it can come to rest."""
    gradients: list[list[Tensor | None]] = [[torch.tensor([3.0, -4.0])], [torch.tensor([-6.0, 8.0])]]
    (left,) = combined(gradients, pcgrad(gram(gradients), [1.0, 1.0], [[1], [0]]))
    assert left is not None
    assert left.tolist() == [0.0, 0.0]


def test_the_order_is_that_of_the_seed_and_the_step_and_of_nothing_else() -> None:
    streams = random.getstate(), torch.get_rng_state()
    orders = [random_orders(seed, step, 4) for seed in range(3) for step in range(40)]
    assert (random.getstate(), torch.get_rng_state().tolist()) == (streams[0], streams[1].tolist())
    assert orders == [random_orders(seed, step, 4) for seed in range(3) for step in range(40)]
    for of_step in orders:
        assert [sorted([i, *others]) for i, others in enumerate(of_step)] == [[0, 1, 2, 3]] * 4
    first = {tuple(of_step[0]) for of_step in orders}
    assert len(first) == 6, "every order of three comes up"


def quadratics(weights: tuple[float, float], steps: int, *, project: bool) -> tuple[list[float], list[float]]:
    """Two losses w_i |x - a_i|^2 / 2 by gradient descent from a place off their line; before and after."""
    ends = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    x = torch.tensor([0.75, 0.75], requires_grad=True)

    def losses() -> list[Tensor]:
        return [w * ((x - a) ** 2).sum() / 2 for w, a in zip(weights, ends, strict=True)]

    before = [loss.item() for loss in losses()]
    for _ in range(steps):
        gradients: list[list[Tensor | None]] = [list(torch.autograd.grad(loss, [x])) for loss in losses()]
        coefficients = pcgrad(gram(gradients), [1, 1], [[1], [0]]) if project else [1.0, 1.0]
        (total,) = combined(gradients, coefficients)
        assert total is not None
        with torch.no_grad():
            x -= 0.02 * total
    return before, [loss.item() for loss in losses()]


def test_on_losses_that_conflict_projection_lowers_both_where_the_plain_sum_lowers_one() -> None:
    """The first gradient is ten times as large: the sum gives the second loss up."""
    before, summed = quadratics((10.0, 1.0), 400, project=False)
    assert summed[0] < before[0]
    assert summed[1] > 1.2 * before[1]
    before, projected = quadratics((10.0, 1.0), 400, project=True)
    assert projected[0] < 0.8 * before[0]
    assert projected[1] < 0.8 * before[1]
