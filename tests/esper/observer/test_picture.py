"""The picture of a run: whatever the order, however often, and from whenever on, the same is seen."""

import random

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from contracts.growth import Layout, SeedFigures, SeedRecord, SeedView, SiteInfo
from contracts.lifecycle import Stage
from contracts.messages import (
    EmergencyLevel,
    EmergencySignal,
    SystemState,
    TelemetryEvent,
    TelemetryLevel,
    TelemetryPacket,
)
from contracts.registry import ControlFacts, Pulse, RunEntry
from contracts.report import Ending, EpochFacts
from contracts.view import BoundaryView, Event, RunFacts
from esper.observer.picture import EPOCHS_MAX, EVENTS_MAX, Picture
from esper.observer.standing import Standing, points

SITE = SiteInfo("relu1", Layout.VECTOR, (4,), 4, 0)
ENTRY = RunEntry("run", RunFacts("mnist1d", "heuristic", 0, "runs", epochs=50), 7, (SITE,))
Said = tuple[str, msgspec.Struct]


def facts(epoch: int) -> EpochFacts:
    return EpochFacts(epoch, 1 / epoch, 2 / epoch, 0.5, 0.01, params=300 + epoch, train_flops=epoch * 1_000)


def state(epoch: int) -> Said:
    """Published when the epoch is over."""
    metrics = {"learning_rate": 0.01, "params": 300.0 + epoch, "spent_gflop": epoch * 1e-6}
    return f"run-{epoch}", SystemState(
        epoch, 0.5, 2 / epoch, epoch * 10, f"run-{epoch}", epoch, 1 / epoch, "run", training_metrics=metrics
    )


def event(number: int, kind: str = "germinated", epoch: int = 1) -> TelemetryEvent:
    notes = {"kind": kind, "epoch": str(epoch)}
    return TelemetryEvent(f"run-e{number}", f"event {number}", TelemetryLevel.INFO, notes)


def packet(epoch: int, *events: TelemetryEvent) -> Said:
    """Published when the boundary behind the epoch is over."""
    seed = SeedView(SeedRecord("s", "relu1", Stage.TRAINING, params=epoch), SeedFigures("s"), 0.1)
    boundary = BoundaryView(1.0, 2.0, epoch)
    standing = Standing(facts(epoch), 300, 1_000, boundary, seeds=(seed,))
    packet_id = f"run-s{epoch}"
    return packet_id, TelemetryPacket(
        packet_id, epoch * 10 + 5, "tolaria", metrics=points(standing), events=events
    )


def a_life(epochs: int) -> list[Said]:
    """Everything that a run of so many epochs publishes."""
    said: list[Said] = []
    for epoch in range(1, epochs + 1):
        said += [state(epoch), packet(epoch, *[event(epoch, epoch=epoch)] * (epoch % 3 == 0))]
    return said


def picture_of(said: list[Said], entry: RunEntry = ENTRY) -> Picture:
    picture = Picture(entry)
    for event_id, message in said:
        picture.take(event_id, message)
    return picture


@given(st.integers(1, 12), st.randoms(use_true_random=False))
def test_order_and_repeats_change_nothing(epochs: int, dice: random.Random) -> None:
    said = a_life(epochs)
    again = said + dice.choices(said, k=len(said))
    dice.shuffle(again)
    first, second = picture_of(said), picture_of(again)
    assert first.view() == second.view()
    assert first.news() == second.news()


@given(st.integers(1, 12), st.integers(0, 24), st.randoms(use_true_random=False))
def test_nothing_is_news_twice(epochs: int, cut: int, dice: random.Random) -> None:
    said = a_life(epochs)
    picture = picture_of(said[:cut])
    told = picture.news()
    for event_id, message in dice.sample(said, len(said)):
        picture.take(event_id, message)
    told += picture.news()
    for event_id, message in said:
        picture.take(event_id, message)
    assert picture.news() == []
    events = [news for news in told if isinstance(news, Event)]
    assert sorted(events, key=lambda each: each.text) == sorted(
        (Event(n, "germinated", f"event {n}") for n in range(3, epochs + 1, 3)), key=lambda each: each.text
    )


@given(st.integers(1, 12), st.integers(0, 10))
def test_who_comes_late_sees_the_same_as_far_as_the_history_reaches(epochs: int, lost: int) -> None:
    said = a_life(epochs)
    kept = said[2 * min(lost, epochs - 1) :]  # whole epochs are gone, the newest never
    early, late = picture_of(said).view(), picture_of(kept).view()
    reach = len(kept) // 2
    assert late == replace(early, epochs=early.epochs[-reach:])


def test_an_epoch_is_seen_before_its_boundary_is_over_and_exactly_once_it_is() -> None:
    picture = picture_of([state(1), packet(1), state(2)])
    view = picture.view()
    assert (view.epoch, view.params, view.epochs[-1].boundary_ms) == (2, 302, None)
    assert [news.epoch for news in picture.news()] == [1]
    picture.take(*packet(2))
    assert picture.view().epochs[-1] == facts(2)
    assert [news for news in picture.news() if isinstance(news, EpochFacts)] == [facts(2)]


def test_an_epoch_whose_packet_was_lost_is_told_once_it_is_overtaken() -> None:
    picture = picture_of([state(1), state(2), packet(2)])
    first, second = picture.news()
    assert (first.epoch, second) == (1, facts(2))
    picture.take(*packet(1))
    assert picture.news() == []
    assert picture.view().epochs == (facts(1), facts(2)), "the picture takes it all the same"


def test_how_far_the_run_has_come_is_known_from_its_figures_or_from_what_happened() -> None:
    picture = Picture(ENTRY)
    assert picture.reached == 0
    picture.take(*state(3))
    assert picture.reached == 3
    picture.take("p", TelemetryPacket("p", 10, "tolaria", events=(event(1, epoch=5),)))
    assert picture.reached == 5
    assert picture.view().epoch == 3


def test_sites_stand_as_the_newest_packet_says() -> None:
    (site,) = picture_of([]).view().sites
    assert (site.site, site.free) == (SITE, True)
    (site,) = picture_of([packet(2), packet(3), packet(1)]).view().sites
    assert site.seed is not None
    assert (site.seed.record.stage, site.seed.record.params, site.seed.gain) == (Stage.TRAINING, 3, 0.1)


def test_what_is_kept_is_bounded_and_the_newest() -> None:
    many = EVENTS_MAX + 20
    said = [packet(1, *(event(n) for n in range(many)))]
    said += [state(epoch) for epoch in range(1, EPOCHS_MAX + 10)]
    picture = picture_of(said)
    assert [each.epoch for each in picture.view().epochs] == list(range(10, EPOCHS_MAX + 10))
    assert len([news for news in picture.news() if isinstance(news, Event)]) == EVENTS_MAX
    picture.take(*said[0])
    assert picture.news() == []


def test_alerts_are_shown_the_newest_last() -> None:
    said = [packet(n, event(n, "alert", n)) for n in range(1, 6)]
    assert picture_of(said).view().alerts == ("event 3", "event 4", "event 5")


def test_an_emergency_is_an_alert_unless_the_trainer_tells_of_it_anyway() -> None:
    def signal(origin: str) -> Said:
        return origin, EmergencySignal(EmergencyLevel.HALT, "smoke", origin, 5, attributes={"epoch": "4"})

    picture = picture_of([signal("tolaria"), signal("operator")])
    assert picture.view().alerts == ("operator: smoke",)
    assert picture.news() == [Event(4, "alert", "operator: smoke")]


def test_a_kind_or_an_epoch_that_nobody_knows_does_no_harm() -> None:
    strange = TelemetryEvent("x", "odd", attributes={"kind": "explosion", "epoch": "٣" * 400})
    picture = picture_of([("p", TelemetryPacket("p", 1, "elsewhere", events=(strange,)))])
    assert picture.news() == [Event(0, "info", "odd")]


def test_the_registry_counts_by_its_own_number_and_an_end_stays() -> None:
    picture = Picture(ENTRY)
    picture.register(replace(ENTRY, pulse=Pulse(3, "probing", 30.0, 4)))
    picture.register(replace(ENTRY, pulse=Pulse(2, "training", 20.0, 9)))
    view = picture.view()
    assert (view.phase, view.elapsed_s, view.bus_depth) == ("probing", 30.0, 4)
    picture.register(replace(ENTRY, pulse=Pulse(4), ended=Ending("halted", "smoke")))
    picture.register(replace(ENTRY, pulse=Pulse(5, "training")))
    assert picture.view().phase == "halted"


def test_the_comparison_is_shown_while_it_lasts_and_the_run_again_when_it_is_over() -> None:
    picture = picture_of(a_life(3))
    for number in (2, 1):
        control = ControlFacts(338, 9_000, facts(number))
        picture.register(replace(ENTRY, pulse=Pulse(number, "comparing", control=control)))
    view = picture.view()
    assert (view.phase, view.epoch, view.params, view.sites) == ("comparing", 2, 338, ())
    assert (view.facts.epochs, view.facts.budget_flops) == (None, 9_000)
    assert view.epochs == (facts(1), facts(2))
    picture.register(replace(ENTRY, pulse=Pulse(3), ended=Ending()))
    assert (picture.view().phase, picture.view().epoch) == ("finished", 3)
