"""The bus's quick way with its own envelopes is the codec's, byte for byte, and leaves all others to it."""

import hypothesis.strategies as st
from hypothesis import given

from actors.oona.redis.envelopes import SMALL_BYTES_MAX, Unwrapping, Wrapped, rest_of, wrap
from contracts.envelopes import BusEnvelope, BusMessageType
from contracts.leyline.codec import decode, encode
from contracts.wire import WireError

KINDS = st.sampled_from([kind for kind in BusMessageType if kind])
PAYLOADS = st.binary(min_size=1, max_size=300) | st.integers(1, 8_000).map(bytes)
NAMES = st.text(max_size=200)
PRIORITIES = st.integers(1, 5)


def envelope(
    kind: BusMessageType, payload: bytes, event_id: str, priority: int, sender: str, topic: str
) -> bytes:
    attributes = {"event_id": event_id, "priority": str(priority), "sender": sender, "topic": topic}
    return encode(BusEnvelope(kind, payload, attributes))


@given(KINDS, PAYLOADS, NAMES, PRIORITIES, NAMES, NAMES)
def test_an_envelope_is_wrapped_as_the_codec_does_it_and_unwrapped_to_the_same(
    kind: BusMessageType, payload: bytes, event_id: str, priority: int, sender: str, topic: str
) -> None:
    made = wrap(kind, payload, event_id, rest_of(priority, sender, topic))
    whole = envelope(kind, payload, event_id, priority, sender, topic)
    assert made in (whole, None)
    assert (made is None) == (len(whole) > SMALL_BYTES_MAX) or len(payload) > SMALL_BYTES_MAX - 700
    unwrapping = Unwrapping()
    assert unwrapping.unwrap(whole, event_id, priority, topic) is None, "the codec has not seen its like"
    unwrapping.learn(sender, priority, topic)
    read = unwrapping.unwrap(whole, event_id, priority, topic)
    assert read in (Wrapped(kind, payload, sender), None)
    assert (read is None) == (len(whole) > SMALL_BYTES_MAX)


@given(NAMES, PRIORITIES, NAMES, st.data())
def test_what_the_quick_way_reads_the_codec_reads_too_however_it_was_damaged(
    event_id: str, priority: int, topic: str, data: st.DataObject
) -> None:
    unwrapping = Unwrapping()
    unwrapping.learn("someone", priority, topic)
    whole = envelope(BusMessageType.TELEMETRY, b"payload" * 20, event_id, priority, "someone", topic)
    damaged = bytearray(whole)
    for place in data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=3)):
        damaged[place] = data.draw(st.integers(0, 255))
    cut = bytes(damaged)[: data.draw(st.sampled_from([len(whole), len(whole) - 1, 7, 2, 0]))]
    read = unwrapping.unwrap(cut, event_id, priority, topic)
    try:
        judged = decode(BusEnvelope, cut)
    except WireError:
        judged = None
    if read is not None:
        assert judged is not None
        assert (judged.message_type, judged.payload) == (read.kind, read.payload)
        said = {"event_id": event_id, "priority": str(priority), "sender": read.sender, "topic": topic}
        assert judged.attributes == said


def test_an_envelope_that_is_not_what_was_said_of_it_is_left_to_the_codec() -> None:
    unwrapping = Unwrapping()
    for topic, priority in (("t", 2), ("u", 2), ("t", 3)):
        unwrapping.learn("someone", priority, topic)
    whole = envelope(BusMessageType.TELEMETRY, b"payload", "e1", 2, "someone", "t")
    assert unwrapping.unwrap(whole, "e1", 2, "t") is not None
    for event_id, priority, topic in (("e2", 2, "t"), ("e1", 3, "t"), ("e1", 2, "u"), ("e1", 5, "x")):
        assert unwrapping.unwrap(whole, event_id, priority, topic) is None
