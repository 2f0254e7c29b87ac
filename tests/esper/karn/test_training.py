"""Every trusted blueprint learns: its loss falls on a task that it can solve."""

import pytest
import torch

from contracts.growth import SiteInfo
from esper.karn.blueprint import Blueprint
from tests.esper.karn.pairs import batch, built, pairs, taught

STEPS = 120
ONE_OF_EACH_FAMILY = (
    "BP002-vector",
    "BP003-sequence",
    "BP012-tokens",
    "BP014-vector",
    "BP016-sequence",
    "BP020-sequence",
    "BP022-image",
    "BP023-tokens",
    "BP036-vector",
)


@pytest.mark.parametrize(("blueprint", "site"), pairs(*ONE_OF_EACH_FAMILY))
def test_the_loss_falls_on_a_task_that_it_can_solve(blueprint: Blueprint, site: SiteInfo) -> None:
    """Learn f*, another module of the same blueprint: better than no seed, and than any fixed output."""
    h = batch(site, 32)
    with torch.no_grad():
        wanted = taught(built(blueprint, site, 5))(h)
    student = built(blueprint, site)
    optimizer = torch.optim.Adam(student.parameters(), lr=3e-2)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = (student(h) - wanted).square().mean()
        loss.backward()
        optimizer.step()
    nothing = wanted.square().mean().item()
    fixed = (wanted - wanted.mean(0)).square().mean().item()
    assert loss.item() < 0.5 * nothing
    assert loss.item() < max(0.8 * fixed, 0.01 * nothing)
