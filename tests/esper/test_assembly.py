"""A run is put together so that nothing has to be counted while it trains."""

import pytest

from esper.assembly import assemble_parts
from esper.karn.catalogue import Catalogue
from esper.karn.query import Query
from esper.settings import load
from tests.esper.karn.counting import Counting
from tests.esper.test_session import circle


def test_no_query_about_a_site_of_the_run_counts_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Counting, "counted", 0)
    catalogue = Catalogue((Counting(),))
    config = load(None, ("growth.sites=['1']", "train.batch_size=50"), {"run.epochs": 1})
    parts = assemble_parts(config, circle(), "run", catalogue=catalogue)
    assert len(parts.sites) == 1
    before = Counting.counted
    assert before > 0
    for site in parts.sites:
        assert catalogue.query(Query(site=site, max_params=1_000, max_flops=1_000))
    assert Counting.counted == before
