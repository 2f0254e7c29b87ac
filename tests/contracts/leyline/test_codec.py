"""Messages go to the wire and back with nothing lost, and what can't travel is refused by name."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.leyline.codec import decode, encode
from contracts.leyline.table import MESSAGES
from tests.contracts.leyline.frames import canonical, check_frame, plain
from tests.contracts.leyline.strategies import messages
from tests.examples import examples


@pytest.mark.parametrize("name", MESSAGES)
@settings(max_examples=examples(15, 250))
@given(data=st.data())
def test_any_message_comes_back_as_it_was(name: str, data: st.DataObject) -> None:
    message = data.draw(messages(name))
    wire = encode(message)
    assert canonical(decode(MESSAGES[name], wire)) == canonical(message)
    assert check_frame(name, wire) is not None


@pytest.mark.parametrize("name", MESSAGES)
@settings(max_examples=examples(15, 250))
@given(data=st.data())
def test_what_protobuf_writes_without_us_is_read_and_what_we_write_it_reads(
    name: str, data: st.DataObject
) -> None:
    message = data.draw(messages(name))
    theirs = plain(message)
    assert canonical(decode(MESSAGES[name], theirs.SerializeToString())) == canonical(message)
    ours = type(theirs).FromString(encode(message))
    assert ours.SerializeToString(deterministic=True) == theirs.SerializeToString(deterministic=True)
