"""The mailbox benchmark runs, and shows the figures it promises."""

from bench import mailbox
from bench.__main__ import figures
from bench.measure import Size


def test_the_mailbox_benchmark_gives_its_figures() -> None:
    found = dict(figures(mailbox.run(Size.SMALL)))
    assert {
        "tell.p50_us",
        "tell.p99_us",
        "tell.round_p50_us",
        "tell.round_p99_us",
        "tell.ratio_to_floor",
        "tell.ratio_to_floor_max",
        "tell.ratio_to_asyncio_queue",
        "tell.ratio_to_anyio",
        "ask.p50_us",
        "ask.p99_us",
        "urgent_under_flood.p50_ms",
        "slice.handler_50_us.p99_ms",
        "slice.mixed_500_us.p99_ms",
    } <= set(found)
    assert all(value > 0 for value in found.values() if isinstance(value, int | float))
    assert {budget.figure for budget in mailbox.BUDGETS} <= set(found)
    assert (found["tell.processes"], found["tell.messages"]) == (1, 100_000)
    assert (found["tell.round_n"], found["tell.n"]) == (5, 20_000), "rounds and single tells are told apart"
    assert found["tell.digest"] == sum(range(20_000))
