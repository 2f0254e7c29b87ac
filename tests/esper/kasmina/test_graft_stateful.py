"""Any sequence of operations keeps the stated forward formula and the host's bits."""

import copy

import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from torch import Tensor, nn

from esper.kasmina.gauge import gauge
from esper.kasmina.graft import ungrown_state_dict
from esper.kasmina.shadow import shadow_backward
from esper.kasmina.stream import RandomStream
from tests.examples import examples
from tests.hosts import HOSTS, Host, loss_fn, seed_module


class Surgery(RuleBasedStateMachine):
    """Grafts beside a perfect little model: a plain host and, for each site, a list of (id, alpha, f)."""

    @initialize(host=st.sampled_from(HOSTS))
    def begin(self, host: Host) -> None:
        self.host = host
        self.grafts = host.grafts()
        self.grafts.model.eval()
        self.plain = copy.deepcopy(self.grafts.model)
        self.state = {name: value.clone() for name, value in self.plain.state_dict().items()}
        self.grown: dict[str, list[tuple[str, float, nn.Module]]] = {s.name: [] for s in self.grafts.sites}
        self.born = 0
        self.removed: list[str] = []
        self.random_state = torch.get_rng_state()
        self.inputs, self.targets = host.batch(4)
        for name, site in self.grown.items():
            self.plain.get_submodule(name).register_forward_hook(self._by_hand(site))

    @staticmethod
    def _by_hand(site: list[tuple[str, float, nn.Module]]):  # type: ignore[no-untyped-def]
        def hook(module: nn.Module, args: object, h: Tensor) -> Tensor:
            for _, alpha, f in site:
                h = h if alpha == 0.0 else h + alpha * f(h)
            return h

        return hook

    def _entry(self, data: st.DataObject) -> tuple[list[tuple[str, float, nn.Module]], int]:
        place = data.draw(
            st.sampled_from([(s, n) for s, seeds in self.grown.items() for n in range(len(seeds))])
        )
        return self.grown[place[0]], place[1]

    @rule(which=st.integers(0, 1), zero=st.booleans())
    def insert(self, which: int, zero: bool) -> None:
        site = self.grafts.sites[which]
        seed_id, f = f"{site.name}#{self.born}", seed_module(site, width=2, zero=zero, seed=self.born)
        self.born += 1
        self.grafts.insert(seed_id, site.name, f)
        self.grown[site.name].append((seed_id, 0.0, f))

    @precondition(lambda self: any(self.grown.values()))
    @rule(data=st.data(), alpha=st.floats(0.0, 1.0))
    def mix(self, data: st.DataObject, alpha: float) -> None:
        alpha = round(alpha, 3)
        site, n = self._entry(data)
        self.grafts.set_alpha(site[n][0], alpha)
        site[n] = (site[n][0], alpha, site[n][2])

    @precondition(lambda self: any(self.grown.values()))
    @rule(data=st.data())
    def isolate(self, data: st.DataObject) -> None:
        site, n = self._entry(data)
        self.grafts.isolate(site[n][0])
        site[n] = (site[n][0], 0.0, site[n][2])

    @precondition(lambda self: any(self.grown.values()))
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        site, n = self._entry(data)
        assert self.grafts.remove(site[n][0]) is site[n][2]
        self.removed.append(site.pop(n)[0])

    @precondition(lambda self: any(self.grown.values()))
    @rule(data=st.data())
    def look_aside(self, data: st.DataObject) -> None:
        """Passes that may leave nothing: a gauge, a shadow step, a counterfactual."""
        site, n = self._entry(data)
        seed_id, alpha, _ = site[n]
        stream = RandomStream(self.born)
        gauge(self.grafts, seed_id, self.inputs, self.targets, loss_fn, stream)
        if alpha == 0.0:
            shadow_backward(self.grafts, seed_id, self.inputs, self.targets, loss_fn, stream)
        with self.grafts.with_(seed_id), self.grafts.without(seed_id), self.grafts.host_only():
            pass

    @rule()
    def copy_all(self) -> None:
        """Go on with a deep copy; the seeds' modules are the copy's from now on."""
        self.grafts = copy.deepcopy(self.grafts)
        for site in self.grown.values():
            site[:] = [(seed_id, alpha, self.grafts.module(seed_id)) for seed_id, alpha, _ in site]

    @invariant()
    def the_forward_pass_is_as_stated(self) -> None:
        with torch.no_grad():
            assert torch.equal(self.grafts.model(self.inputs), self.plain(self.inputs))

    @invariant()
    def the_host_is_bit_for_bit_what_it_was(self) -> None:
        now = ungrown_state_dict(self.grafts.model)
        assert list(now) == list(self.state)
        assert all(torch.equal(self.state[name], value) for name, value in now.items())
        assert all(p.grad is None and p.requires_grad for _, p in self.grafts.host_named_parameters())
        assert torch.equal(torch.get_rng_state(), self.random_state)

    @invariant()
    def hooks_are_where_seeds_run_and_nothing_is_left_of_the_removed(self) -> None:
        running = sum(any(alpha > 0.0 for _, alpha, _ in site) for site in self.grown.values())
        assert sum(len(module._forward_hooks) for module in self.grafts.model.modules()) == running
        assert all(self.grafts.cleared(seed_id) for seed_id in self.removed)
        alive = {seed_id: alpha for site in self.grown.values() for seed_id, alpha, _ in site}
        assert {seed_id: self.grafts.alpha(seed_id) for seed_id in self.grafts.seed_ids()} == alive


Surgery.TestCase.settings = settings(max_examples=examples(10, 250), stateful_step_count=12)
test_any_sequence_of_operations_keeps_the_formula_and_the_host = Surgery.TestCase
