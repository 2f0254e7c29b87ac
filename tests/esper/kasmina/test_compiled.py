"""Hosts that were compiled before anything grew."""

import warnings

import pytest
import torch
from torch import Tensor, nn

from tests.hosts import HOSTS, Host, seed_module


@pytest.mark.parametrize("host", [HOSTS[1]], ids=lambda h: h.name)
def test_a_host_compiled_before_the_graft_runs_what_has_grown(host: Host) -> None:
    grafts, inputs = host.grafts(), host.batch(8)[0]
    model = grafts.model.eval()
    compiled = torch.compile(model, backend="eager")

    def agree() -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own
            out: Tensor = compiled(inputs)
        assert torch.equal(out, model(inputs))
        return out

    with torch.no_grad():
        alone = agree()
        grafts.insert("s#0", "act1", seed_module(grafts.sites[0], zero=False))
        assert torch.equal(agree(), alone)
        for alpha in (0.3, 0.6, 1.0):
            grafts.set_alpha("s#0", alpha)
            assert not torch.equal(agree(), alone)
        grafts.isolate("s#0")
        assert torch.equal(agree(), alone)
        grafts.set_alpha("s#0", 0.5)
        assert not torch.equal(agree(), alone)
        grafts.remove("s#0")
        assert torch.equal(agree(), alone)


def test_alpha_changes_without_compiling_again() -> None:
    host = HOSTS[0]
    grafts, inputs = host.grafts(), host.batch(8)[0]
    grafts.insert("s#0", "first", seed_module(grafts.sites[0], zero=False))
    grafts.set_alpha("s#0", 0.1)
    graphs: list[object] = []

    def counting(graph: torch.fx.GraphModule, example: list[Tensor]) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    compiled: nn.Module = torch.compile(grafts.model.eval(), backend=counting)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for alpha in (0.1, 0.2, 0.7):
            grafts.set_alpha("s#0", alpha)
            assert torch.equal(compiled(inputs), grafts.model(inputs))
    assert len(graphs) == 1
