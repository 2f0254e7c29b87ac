"""Addresses of a bus: which are taken, and that none shows its password."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.address import MASK, Address, escaping_hint, is_masked, masked
from contracts.config import RunConfig


@pytest.mark.parametrize(
    "address",
    [
        "memory",
        "redis://localhost",
        "redis://127.0.0.1:6379/0",
        "redis://[::1]:6379",
        "rediss://user:pass%2Fword@example.org:6380/1?ssl_cert_reqs=none",
        "unix:///run/redis.sock?db=1",
    ],
)
def test_an_address_is_taken(address: str) -> None:
    assert msgspec.convert({"bus": address}, RunConfig).bus == address


@pytest.mark.parametrize(
    "address",
    ["", "Memory", "redis", "redis://", "redis://:6379", "redis://host:port", "redis://host/name", "http://host",
     "unix://", "redis://a b", "redis://host\n", "redis://u:p/w@host"],
)  # fmt: skip
def test_anything_else_is_refused(address: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"bus": address}, RunConfig)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("memory", "memory"),
        ("redis://host:1/0", "redis://host:1/0"),
        ("redis://:sesame@host", f"redis://:{MASK}@host"),
        ("redis://user:sesame@host:1", f"redis://user:{MASK}@host:1"),
        ("redis://sesame@host", f"redis://{MASK}@host"),
        ("redis://user:sesa@me@host", f"redis://user:{MASK}@host"),
        ("redis://user:sesa/me@host", f"redis://user:{MASK}@host"),
        ("unix:///s?db=1&password=sesame", f"unix:///s?db=1&password={MASK}"),
    ],
)
def test_the_password_is_left_out_and_nothing_else(address: str, shown: str) -> None:
    assert masked(address) == shown
    assert masked(shown) == shown
    assert is_masked(shown) == (MASK in shown)
    assert not is_masked(address) or address == shown


def test_how_to_write_a_password_is_said_of_an_address_with_a_login_alone() -> None:
    assert "%40 %3A" in escaping_hint("redis://user:p@ss@host")
    assert escaping_hint("redis://host:port") == ""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"bus": "redis://user:p@ss@host"}, RunConfig)
    assert msgspec.convert({"bus": "redis://user:p%40ss@host"}, RunConfig).bus.endswith("p%40ss@host")


@given(st.from_regex(msgspec.inspect.type_info(Address).type.pattern, fullmatch=True))  # type: ignore[attr-defined]
def test_what_is_masked_is_still_an_address_and_masking_it_again_changes_nothing(address: str) -> None:
    shown = masked(address)
    assert masked(shown) == shown
    assert is_masked(shown) == (MASK in shown)
    msgspec.convert({"bus": shown}, RunConfig)


@given(st.text(st.characters(codec="ascii", exclude_characters=":"), min_size=1))
def test_no_password_survives_in_a_sentence(secret: str) -> None:
    said = masked(f"--bus redis://user:Q{secret}Q@host: is refused, as was redis://other")
    assert f"Q{secret}Q" not in said
    assert said == f"--bus redis://user:{MASK}@host: is refused, as was redis://other"
