"""A comparison on hosts of every layout: it leaves nothing behind but what it is for."""

import copy
import random

import numpy as np
import pytest
import torch
from torch import Tensor

from contracts.conflict import JOINT
from esper.kasmina.graft import Grafts
from esper.tolaria.comparison import OBJECTIVE, Comparison, Terms
from esper.tolaria.costs import CostBook
from esper.tolaria.flops import FlopLedger
from esper.tolaria.surgery import cosine, gram
from tests.hosts import HOSTS, Host, loss_fn, seed_module

SIZE = 16


def grown(host: Host) -> Grafts:
    """A live seed at each site, which has left zero."""
    grafts = host.grafts()
    for number, site in enumerate(grafts.sites):
        grafts.insert(f"{site.name}#0", site.name, seed_module(site, zero=False, seed=number))
        grafts.set_alpha(f"{site.name}#0", 1.0 if number else 0.5)
    return grafts


def comparison(grafts: Grafts, host: Host, projects: bool) -> tuple[Comparison, FlopLedger, CostBook]:
    ledger = FlopLedger(counts_validation=True)
    costs = CostBook(grafts.model, host.batch(SIZE), loss_fn, ledger)
    weights = dict.fromkeys(grafts.seed_ids(), 1.0)
    parameters = [parameter for _, parameter in grafts.host_named_parameters()]
    terms = Terms(weights, every=1, projects=projects, run_seed=7)
    return Comparison(grafts, parameters, terms, loss_fn, costs, ledger), ledger, costs


def everything(grafts: Grafts, gradients_of: str) -> dict[str, Tensor]:
    """Weights, buffers, and the gradients of those parameters whose names have `gradients_of` in them."""
    model = grafts.model
    named = {name: tensor.detach().clone() for name, tensor in model.named_parameters()}
    named |= {f"{name} (buffer)": tensor.clone() for name, tensor in model.named_buffers()}
    for name, parameter in model.named_parameters():
        if gradients_of in name and parameter.grad is not None:
            named[f"{name} (gradient)"] = parameter.grad.clone()
    return named


def streams() -> tuple[object, ...]:
    return random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()


@pytest.mark.parametrize("projects", [False, True], ids=["measuring", "projecting"])
@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.name)
def test_nothing_is_left_behind_but_the_hosts_projected_gradient(host: Host, projects: bool) -> None:
    grafts = grown(host)
    inputs, targets = host.batch(SIZE)
    loss = loss_fn(grafts.model(inputs), targets)
    torch.autograd.backward(loss)
    one, _, _ = comparison(grafts, host, projects)
    kept = "esper_graft" if projects else ""
    before, drawn = everything(grafts, kept), streams()
    joint = [parameter.grad for _, parameter in grafts.host_named_parameters()]
    live, modes = grafts.live_ids(), [module.training for module in grafts.model.modules()]
    one.compare(3, loss.item(), inputs, targets)
    after = everything(grafts, kept)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert streams() == drawn
    assert (grafts.live_ids(), [module.training for module in grafts.model.modules()]) == (live, modes)
    assert one.facts().projected == projects
    replaced = [
        parameter.grad is not gradient
        for (_, parameter), gradient in zip(grafts.host_named_parameters(), joint, strict=True)
    ]
    assert set(replaced) == {projects}


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.name)
def test_a_seed_alone_is_the_network_from_which_the_others_were_really_taken(host: Host) -> None:
    """In eval mode, in which nothing is drawn: losses and cosines of copies without the other seed."""
    grafts = grown(host)
    grafts.model.eval()
    inputs, targets = host.batch(SIZE)
    joint = loss_fn(grafts.model(inputs), targets)
    torch.autograd.backward(joint)
    one, ledger, costs = comparison(grafts, host, projects=False)
    one.compare(0, joint.item(), inputs, targets)
    losses = [joint.item()]
    gradients = [[parameter.grad for _, parameter in grafts.host_named_parameters()]]
    first, second = grafts.seed_ids()
    for absent in (second, first):
        alone = copy.deepcopy(grafts)
        alone.remove(absent)
        loss = loss_fn(alone.model(inputs), targets)
        parameters = [parameter for _, parameter in alone.host_named_parameters()]
        losses.append(loss.item())
        gradients.append(list(torch.autograd.grad(loss, parameters, allow_unused=True)))
    products, facts = gram(gradients), one.facts()
    assert [(pair.one, pair.other) for pair in facts.pairs] == [
        (JOINT, first),
        (JOINT, second),
        (first, second),
    ]
    expected = [cosine(products, 0, 1), cosine(products, 0, 2), cosine(products, 1, 2)]
    assert [pair.cosine_mean for pair in facts.pairs] == pytest.approx(expected, abs=1e-5)
    assert facts.excess == pytest.approx(losses[0] / min(losses[1:]) - 1, abs=1e-5)
    assert facts.conflicts == any(value < 0 for value in expected)
    known = [costs.known(OBJECTIVE, seed_id) for seed_id in (first, second)]
    assert facts.flops == sum(flops for flops in known if flops is not None) == ledger.accounts()["conflict"]


def test_a_steps_passes_draw_the_same_numbers_and_another_steps_others() -> None:
    """The masks of two objectives are alike as far as their networks are."""
    host = HOSTS[0]
    grafts = grown(host)
    inputs, targets = host.batch(SIZE)
    found = []
    for step in (4, 4, 5):
        one, _, _ = comparison(grafts, host, projects=False)
        torch.manual_seed(1)
        joint = loss_fn(grafts.model(inputs), targets)
        grafts.model.zero_grad()
        torch.autograd.backward(joint)
        one.compare(step, joint.item(), inputs, targets)
        found.append(one.facts())
    assert found[0] == found[1]
    assert found[0] != found[2]
