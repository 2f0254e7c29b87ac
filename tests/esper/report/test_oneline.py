"""A run in single lines."""

import math

import msgspec

from contracts.growth import Candidate, Contender, ProbeScore
from contracts.view import Event, RunFacts, RunView
from esper.report.oneline import event_line, opening, probed, progress_line
from tests.esper.report.made_up import a_view


def test_one_line_says_where_a_run_is() -> None:
    line = progress_line(a_view())
    assert line.startswith("epoch 120  probing  45 %  train loss ")
    assert "\n" not in line


def test_the_first_line_says_what_is_run_and_for_how_long() -> None:
    facts = RunFacts("mnist1d", "random", 3, "runs", epochs=40)
    assert opening(facts) == "mnist1d · policy random · seed 3 · 40 epochs · runs"
    named = msgspec.structs.replace(facts, folder="runs/mnist1d-random-s3")
    assert opening(named) == "mnist1d · policy random · seed 3 · 40 epochs · runs/mnist1d-random-s3"


def test_one_line_does_without_what_is_not_known_yet() -> None:
    line = progress_line(RunView(RunFacts("mnist1d", "random", 3, "runs")))
    assert line == "epoch 0  starting"


def test_an_event_is_one_line() -> None:
    assert event_line(Event(1200, "culled", "b77c: it hurt")) == "epoch 1,200  culled  b77c: it hurt"


def a_score(gain: float, *sites: str) -> ProbeScore:
    return ProbeScore(Contender(tuple(Candidate(site, "BP003") for site in sites)), 1.0 - gain, 1.0, 50, 1000)


def test_a_probe_of_several_says_who_leads() -> None:
    scores = [a_score(0.25, "relu1", "relu2"), a_score(0.125, "relu3")]
    assert probed(scores, {"BP003": "gated"}) == (
        "probed 2 contenders: gated at relu1, relu2 leads, gain 0.2500"
    )


def test_a_probe_of_one_says_nothing_of_a_race() -> None:
    told = probed([a_score(0.25, "relu1")], {})
    assert told == "probed BP003 at relu1 beside the ungrown network: gain 0.2500"


def test_nobody_leads_where_the_ungrown_network_is_better() -> None:
    scores = [a_score(-0.25, "relu1"), a_score(-math.inf, "relu3")]
    assert probed(scores, {}) == (
        "probed 2 contenders: BP003 at relu1 comes closest, but no better than the ungrown network, "
        "gain −0.2500"
    )
    assert probed([a_score(math.nan, "relu1")], {}).endswith("gain —")
