"""A short training run whose every bit is kept, to be compared with another."""

from collections.abc import Callable

import torch
from torch import Tensor

from esper.kasmina.graft import Grafts
from tests.hosts import Host, loss_fn

Bits = list[tuple[str, Tensor]]


def train(grafts: Grafts, host: Host, steps: int, between: Callable[[int], None] = lambda step: None) -> Bits:
    """Train the host alone for `steps` steps; `between` runs after each backward pass and before the update.

    Returns:
        Each step's outputs, the host's gradients and buffers, and torch's random state, by name.
    """
    torch.manual_seed(11)
    parameters = [parameter for _, parameter in grafts.host_named_parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-2)
    seen: Bits = []
    for step in range(steps):
        inputs, targets = host.batch(8, seed=step)
        optimizer.zero_grad()
        outputs = grafts.model(inputs)
        loss_fn(outputs, targets).backward()
        between(step)
        seen.append((f"{step} outputs", outputs.detach().clone()))
        seen += [(f"{step} {name}.grad", bits_of(p.grad)) for name, p in grafts.host_named_parameters()]
        seen += [(f"{step} {name}", b.clone()) for name, b in host_buffers(grafts)]
        seen.append((f"{step} random state", torch.get_rng_state()))
        optimizer.step()
    return seen


def bits_of(gradient: Tensor | None) -> Tensor:
    """A gradient's copy; a missing one is empty."""
    return torch.empty(0) if gradient is None else gradient.clone()


def host_buffers(grafts: Grafts) -> list[tuple[str, Tensor]]:
    """The host's own buffers."""
    return [(name, b) for name, b in grafts.model.named_buffers() if "esper_graft" not in name]


def different(a: Bits, b: Bits) -> list[str]:
    """The names whose bits differ."""
    assert [name for name, _ in a] == [name for name, _ in b]
    return [name for (name, x), (_, y) in zip(a, b, strict=True) if not torch.equal(x, y)]
