"""What the wire costs: struct to bytes and back, against protobuf as one writes it by hand.

There are two usual ways to build a message by hand (`bench/by_hand.py`); both are measured in the same run,
and `ratio_to_plain` is to the quicker one. Back, the plain side parses the bytes and reads every field into
tuples and dicts. It checks nothing and refuses nothing. Both sides of a round run one after the other, and
ratios are taken within rounds; `digest` is of what all sides gave.

The state has four seeds, and all that have metrics have ten. `usual_size_bytes` is of those whose frames stay
under 280 bytes with the metrics that are usual for them.
"""

import time
import zlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from actors.runtime.interpreter import frozen_heap
from bench import by_hand
from bench.measure import Budget, Size, in_turn, percentiles
from bench.messages import COMMAND, REPORT, STATE, TELEMETRY, USUAL_REPORT, USUAL_TELEMETRY
from contracts.leyline.codec import decode, encode

LOOP = ("system_state", "command", "telemetry", "field_report")
BUDGETS = (
    *(Budget(f"{name}.{way}.p99_us", 80.0, "at_most") for name in LOOP for way in ("encode", "decode")),
    *(Budget(f"{name}.encode.ratio_to_plain", 1.5, "at_most") for name in LOOP),
    *(Budget(f"{name}.usual_size_bytes", 279, "at_most") for name in LOOP[1:]),
)
SINGLES = {Size.SMALL: 300, Size.FULL: 20_000}
"""Messages timed one by one."""
ROUNDS = {Size.SMALL: 3, Size.FULL: 101}
PER_ROUND = {Size.SMALL: 20, Size.FULL: 200}
"""Messages of each side in a round."""


class Contest(NamedTuple):
    """One message, and how it is written and read by hand."""

    message: msgspec.Struct
    construct: Callable[[], bytes]
    fill: Callable[[], bytes]
    read: Callable[[bytes], tuple[object, ...]]
    usual: msgspec.Struct | None
    """The same with fewer metrics, if its size is bounded."""


CONTESTS = {
    "system_state": Contest(
        STATE,
        lambda: by_hand.construct_state(STATE),
        lambda: by_hand.fill_state(STATE),
        by_hand.read_state,
        None,
    ),
    "command": Contest(
        COMMAND,
        lambda: by_hand.construct_command(COMMAND),
        lambda: by_hand.fill_command(COMMAND),
        by_hand.read_command,
        COMMAND,
    ),
    "telemetry": Contest(
        TELEMETRY,
        lambda: by_hand.construct_telemetry(TELEMETRY),
        lambda: by_hand.fill_telemetry(TELEMETRY),
        by_hand.read_telemetry,
        USUAL_TELEMETRY,
    ),
    "field_report": Contest(
        REPORT,
        lambda: by_hand.construct_report(REPORT),
        lambda: by_hand.fill_report(REPORT),
        by_hand.read_report,
        USUAL_REPORT,
    ),
}


def run(size: Size) -> dict[str, object]:
    """Latencies, ratios and sizes of the four messages of the loop."""
    return {name: _figures(CONTESTS[name], size) for name in LOOP}


def _figures(contest: Contest, size: Size) -> dict[str, object]:
    message, construct, fill, read, usual = contest
    kind, frame = type(message), encode(message)
    values = read(frame)
    for plain in (construct(), fill()):
        assert sorted(frame) == sorted(plain), "the same bytes, but for the order of maps"
        assert values == read(plain) == flat(decode(kind, frame)), "the same values"
    return {
        "size_bytes": len(frame),
        **({} if usual is None else {"usual_size_bytes": len(encode(usual))}),
        "encode": _one_way(lambda: encode(message), {"constructors": construct, "attributes": fill}, size),
        "decode": _one_way(lambda: decode(kind, frame), {"reading": lambda: read(frame)}, size),
        "digest": f"{zlib.crc32(msgspec.json.encode(values, order='deterministic')):08x}",
    }


def _one_way(
    ours: Callable[[], object], plain: Mapping[str, Callable[[], object]], size: Size
) -> dict[str, object]:
    """Ours against each usual way; `plain` figures are of that which is the quickest beside ours."""
    per_round = PER_ROUND[size]
    ratios = {
        name: in_turn(_times(ours, per_round), _times(way, per_round), ROUNDS[size])
        for name, way in plain.items()
    }
    quickest = max(ratios, key=lambda name: ratios[name].median)
    return {
        **percentiles(_singles(ours, SINGLES[size])).figures("us"),
        "plain": quickest,
        "plain_p50_us": percentiles(_singles(plain[quickest], SINGLES[size])).p50 * 1e6,
        "ratio_to_plain": ratios[quickest].median,
        "ratio_to_plain_spread": ratios[quickest].spread,
        **{f"ratio_to_{name}": ratio.median for name, ratio in ratios.items() if len(ratios) > 1},
        "rounds": ratios[quickest].n,
    }


def _times(work: Callable[[], object], count: int) -> Callable[[], None]:
    def all_of_them() -> None:
        for _ in range(count):
            work()

    return all_of_them


def _singles(work: Callable[[], object], count: int) -> list[float]:
    """Seconds of each of `count` calls; what was allocated before is not looked through meanwhile."""
    took_s = []
    with frozen_heap():
        for _ in range(count):
            start = time.perf_counter()
            work()
            took_s.append(time.perf_counter() - start)
    return took_s


def flat(value: object) -> object:
    """A struct as the tuple of its fields, and all inside it too."""
    if isinstance(value, msgspec.Struct):
        return tuple(flat(getattr(value, name)) for name in value.__struct_fields__)
    return tuple(map(flat, value)) if isinstance(value, tuple) else value
