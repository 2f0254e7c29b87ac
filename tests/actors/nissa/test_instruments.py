"""Every instrument arrives in a scrape under the name, type and labels that the table gives it."""

import logging
import math
from collections.abc import Iterator
from functools import cache

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from actors.nissa.counters import RunCounters
from actors.nissa.instruments import NUMBERS, SPREADS, exported_name, metrics_table
from actors.nissa.prometheus import Page
from actors.nissa.reading import LATENCY_BUCKETS_S, Kind, Number, Reading, Spread
from actors.oona.histogram import BOUNDS_S
from contracts.lifecycle import Gate
from tests.actors.nissa import sample


def scraped(run: RunCounters) -> dict[str, Metric]:
    """Families by exported name, a counter's with its `_total`."""
    page = Page(lambda: sample.reading(run))
    text = b"".join(page.render()).decode()
    page.close()
    families = list(text_string_to_metric_families(text))
    named = {f"{each.name}_total" if each.type == "counter" else each.name: each for each in families}
    assert len(named) == len(families)
    return named


@cache
def first_scrape() -> dict[str, Metric]:
    return scraped(sample.measured())


def value(families: dict[str, Metric], name: str, **labels: str) -> float:
    family = families[name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count")]
    found = [
        each.value for each in family.samples if each.name == name and labels.items() <= each.labels.items()
    ]
    assert len(found) == 1, found
    return float(found[0])


def test_the_table_lists_what_a_scrape_shows_and_nothing_else() -> None:
    families = scraped(sample.measured())
    listed = {row.split("`")[1]: row.split(" | ")[1] for row in metrics_table().splitlines()[2:]}
    shown = {name: family.type for name, family in families.items() if name != "target_info"}
    assert listed == shown


@pytest.mark.parametrize("instrument", [*NUMBERS, *SPREADS], ids=lambda each: each.name)
def test_an_instrument_has_its_labels_and_sentence(instrument: Number | Spread) -> None:
    family = first_scrape()[exported_name(instrument)]
    labels = {label.replace(".", "_") for label in instrument.labels}
    assert all(set(each.labels) - {"le"} == labels for each in family.samples)
    assert family.documentation == instrument.meaning
    assert instrument.meaning.endswith(".")


def test_counters_show_what_the_run_counted() -> None:
    run = sample.measured()
    run.training.flops["probe"] = 12_000_000_007
    run.growth.gate(Gate.G4_SYSTEM_IMPACT, passed=False)
    run.growth.conservative = True
    families = scraped(run)
    assert value(families, "esper_training_flops_total", account="probe") == 12_000_000_007
    assert value(families, "esper_gate_verdicts_total", gate="g4_system_impact", verdict="failed") == 1
    assert value(families, "esper_growth_conservative") == 1


def test_a_histogram_shows_our_own_buckets() -> None:
    run = sample.measured()
    for total_s in (0.004, 0.018, 0.019, 2.0):
        run.boundary.record(0.001, 0.002, 0.001, total_s)
    families = scraped(run)
    name = "esper_boundary_duration_seconds"
    assert value(families, f"{name}_bucket", le="0.018") == 2
    assert value(families, f"{name}_bucket", le="0.025") == 3
    assert value(families, f"{name}_bucket", le="+Inf") == value(families, f"{name}_count") == 4
    assert value(families, f"{name}_sum") == pytest.approx(2.041)
    assert value(families, "esper_boundary_over_budget_total") == 2
    assert value(families, "esper_boundary_part_duration_seconds_count", part="decide") == 4


def test_the_lanes_of_a_mailbox_and_the_groups_of_a_topic_are_added_up() -> None:
    families = scraped(sample.measured())
    assert value(families, "esper_actor_mailbox_depth", actor="tamiyo") == 4
    assert value(families, "esper_actor_dropped_total", actor="nissa") == 2
    assert value(families, "esper_bus_acked_total", messaging_destination_name="reports") == 6
    assert (
        value(families, "messaging_client_sent_messages_total", lane="normal", messaging_system="oona") == 5
    )


def test_a_lane_that_was_never_used_has_no_series() -> None:
    families = scraped(sample.measured())
    for name in ("esper_bus_acked_total", "messaging_client_sent_messages_total"):
        assert {each.labels["lane"] for each in families[name].samples} == {"normal"}


def test_latencies_of_all_groups_merge_without_loss() -> None:
    assert set(LATENCY_BUCKETS_S) <= set(BOUNDS_S)
    families = scraped(sample.measured())
    name = "esper_bus_delivery_latency_seconds"
    counts = [
        value(families, f"{name}_bucket", lane="normal", le=str(le)) for le in (0.0005, 0.001, 0.1, 1.0)
    ]
    assert counts == [2, 4, 4, 6]
    assert value(families, f"{name}_count", lane="normal") == 8
    assert value(families, f"{name}_sum", lane="normal") == pytest.approx(2 * 500.50074)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_figure_that_is_not_finite_is_left_out_without_a_word(
    loss: float, caplog: pytest.LogCaptureFixture
) -> None:
    run = sample.measured()
    run.training.loss = loss
    with caplog.at_level(logging.WARNING):
        families = scraped(run)
    assert "esper_training_loss" not in families
    assert "esper_validation_loss" in families
    assert caplog.records == []


def test_a_run_without_bus_and_actors_shows_the_rest() -> None:
    page = Page(lambda: Reading(sample.measured()))
    text = b"".join(page.render()).decode()
    page.close()
    assert "esper_training_steps_total 0.0" in text
    assert "esper_bus_acked" not in text


def test_names_follow_the_conventions() -> None:
    instruments: tuple[Number | Spread, ...] = (*NUMBERS, *SPREADS)
    for number in NUMBERS:
        assert number.name.startswith(("esper.", "messaging.client."))
        assert not number.name.endswith((".total", "_total", "_ms", ".seconds"))
        assert number.kind is Kind.GAUGE or number.unit not in ("s", "1")
    assert not {"epoch", "run", "run_id", "seed", "seed_id"} & {
        label for each in instruments for label in each.labels
    }


def test_rendering_comes_in_pieces_and_can_be_dropped_halfway() -> None:
    page = Page(lambda: sample.reading(sample.measured()))
    halfway: Iterator[bytes] = page.render()
    next(halfway)
    next(halfway)
    del halfway
    whole = b"".join(page.render())
    assert whole == b"".join(page.render())
    page.close()
