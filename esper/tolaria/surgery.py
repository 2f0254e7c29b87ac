"""Gradient surgery: what of several objectives' gradients is left once none works against another.

PCGrad (Yu et al., "Gradient Surgery for Multi-Task Learning", NeurIPS 2020, arXiv 2001.06782, algorithm 1):
each gradient in turn loses its component along every other that it conflicts with (their inner product is
negative), the others taken in a random order; the results are added up. A projection needs inner products
alone, so the algorithm runs on the Gram matrix of K gradients: K (K + 1) / 2 products over the parameters,
whatever K is, then K coefficients. Removing the component along g does not depend on how long g is.
"""

import math
import random
from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from esper.tolaria.randomness import derived_seed

Gradient: TypeAlias = Sequence[Tensor | None]
"""One objective's gradient: an entry for each parameter, None where the objective does not depend on it."""
Gram: TypeAlias = Sequence[Sequence[float]]
"""Inner products of K gradients, (K, K), symmetric."""


def gram(gradients: Sequence[Gradient]) -> list[list[float]]:
    """The gradients' inner products, over all parameters together, in double precision.

    One tensor at a time is converted, so that the memory it takes is that of the largest. Of parameters of
    at most 32 bits, a gradient's product with itself is finite exactly if the gradient is.
    """
    pairs = [(i, j) for i in range(len(gradients)) for j in range(i + 1)]
    products: dict[tuple[int, int], list[Tensor]] = {pair: [] for pair in pairs}
    for entries in zip(*gradients, strict=True):
        rows = [None if entry is None else entry.detach().double().flatten() for entry in entries]
        for i, j in pairs:
            one, other = rows[i], rows[j]
            if one is not None and other is not None:
                products[i, j].append(torch.dot(one, other))
    found = [[0.0] * len(gradients) for _ in gradients]
    for (i, j), parts in products.items():
        found[i][j] = found[j][i] = sum(torch.stack(parts).tolist()) if parts else 0.0
    return found


def cosine(products: Gram, i: int, j: int) -> float:
    """The cosine of the angle between two gradients, -1 to 1; 0 if one of them is zero."""
    lengths = math.sqrt(products[i][i]) * math.sqrt(products[j][j])
    return max(-1.0, min(1.0, products[i][j] / lengths)) if lengths > 0.0 else 0.0


def pcgrad(products: Gram, weights: Sequence[float], orders: Sequence[Sequence[int]]) -> list[float]:
    """The coefficients c of the projected gradient sum_j c_j g_j of the tasks weights_i g_i, weights above 0.

    `orders[i]` is the order in which task i meets the others. Where nothing conflicts, c is `weights`.
    """
    tasks = range(len(weights))
    total = [0.0] * len(weights)
    for i in tasks:
        projected = [weights[i] if j == i else 0.0 for j in tasks]  # of g_i^PC, in terms of the g_j
        for j in orders[i]:
            inner = sum(projected[m] * products[m][j] for m in tasks)
            if inner < 0.0 < products[j][j]:
                projected[j] -= inner / products[j][j]
        total = [whole + part for whole, part in zip(total, projected, strict=True)]
    return total


def random_orders(seed: int, step: int, tasks: int) -> list[list[int]]:
    """For each task the others in a random order, which the run's seed and the step's number alone decide."""
    draw = random.Random(derived_seed(seed, f"conflict/{step}"))
    orders = []
    for task in range(tasks):
        others = [other for other in range(tasks) if other != task]
        draw.shuffle(others)
        orders.append(others)
    return orders


def combined(gradients: Sequence[Gradient], coefficients: Sequence[float]) -> list[Tensor | None]:
    """sum_j c_j g_j, parameter by parameter, in new tensors; None where no objective has a gradient."""
    return [_sum(entries, coefficients) for entries in zip(*gradients, strict=True)]


def _sum(entries: Gradient, coefficients: Sequence[float]) -> Tensor | None:
    total: Tensor | None = None
    for entry, coefficient in zip(entries, coefficients, strict=True):
        if entry is not None:
            total = entry * coefficient if total is None else total.add_(entry, alpha=coefficient)
    return total
