"""Secrets come from the environment, whole or not at all, and never come out again."""

import copy
import dataclasses
import json
import logging
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

import contracts.signing
from contracts.signing.keyring import KEYS_MAX, SECRET, SECRETS, Keyring, KeyringError
from contracts.signing.refusal import Refusal, SignatureRefused
from tests.contracts.signing.rig import ACTS, NEW, OLD, Clock, Reader, keyring, signer

PACKAGE = str(Path(contracts.signing.__file__).parent)


def test_without_secrets_there_is_no_keyring() -> None:
    assert Keyring.from_environment({}) is None
    assert Keyring.from_environment({"ESPER_LEYLINE_SECRETLY": "x" * 20}) is None


def test_one_secret_is_the_key_named_default() -> None:
    ring = Keyring.from_environment({SECRET: OLD.decode()})
    assert ring is not None
    assert (ring.signing_id, ring.ids) == ("default", ("default",))
    assert ring.verify(b"body", signer(Clock(), keyring(("default", OLD))).sign(b"body")).sender == "tamiyo"


def test_of_several_secrets_the_first_signs_and_all_verify() -> None:
    ring = Keyring.from_environment({SECRETS: f"a:{OLD.decode()},b:{NEW.decode()}"})
    assert ring is not None
    assert (ring.signing_id, ring.ids) == ("a", ("a", "b"))
    for alone in (keyring(("a", OLD)), keyring(("b", NEW))):
        assert ring.verify(b"body", signer(Clock(), alone).sign(b"body")).key_id == alone.signing_id
    assert keyring(("a", OLD)).verify(b"body", signer(Clock(), ring).sign(b"body")).key_id == "a"


def test_the_default_key_may_be_listed_so_that_one_secret_can_be_rotated() -> None:
    one = Keyring.from_environment({SECRET: OLD.decode()})
    two = Keyring.from_environment({SECRETS: f"default:{OLD.decode()},next:{NEW.decode()}"})
    assert one is not None
    assert two is not None
    one.verify(b"body", signer(Clock(), two).sign(b"body"))
    two.verify(b"body", signer(Clock(), one).sign(b"body"))


def test_a_secret_may_hold_colons_and_bytes_that_are_not_utf_8() -> None:
    ring = Keyring.from_environment({SECRETS: "a:with:colons:in:the:secret"})
    assert ring is not None
    signature = signer(Clock(), keyring(("a", b"with:colons:in:the:secret"))).sign(b"body")
    assert ring.verify(b"body", signature).key_id == "a"
    raw = b"\xff\xfe" * 10
    odd = Keyring.from_environment({SECRET: raw.decode("utf-8", "surrogateescape")})
    assert odd is not None
    assert odd.verify(b"body", signer(Clock(), keyring(("default", raw))).sign(b"body"))


FAULTS = [
    ({SECRET: OLD.decode(), SECRETS: f"a:{NEW.decode()}"}, "set only one"),
    ({SECRET: ""}, "unset it"),
    ({SECRETS: ""}, "unset it"),
    ({SECRET: "pa55word-of-15b"}, "15 bytes; it needs 16"),
    ({SECRET: "pa55word" * 200}, "1600 bytes; it needs 16"),
    ({SECRET: "pa55word-and-more\n"}, "white space"),
    ({SECRET: " pa55word-and-more"}, "white space"),
    ({SECRET: "pa55word-and-\ud800more"}, "0 bytes"),
    (
        {SECRETS: "pa55word-without-an-id"},
        "entry 1 of 1 has no key id",
    ),
    ({SECRETS: ":pa55word-without-an-id"}, "entry 1 of 1 has no key id"),
    ({SECRETS: "two words:pa55word-and-more"}, "entry 1 of 1 has no key id"),
    ({SECRETS: "a:pa55word-and-more, b:pa55word-and-more"}, "entry 2 of 2 has no key id"),
    ({SECRETS: "a:pa55word-and-more,"}, "entry 2 of 2 has no key id"),
    ({SECRETS: "a:pa55word-and-more,b:pa55"}, "secret of entry 2 of 2 has 4 bytes"),
    (
        {SECRETS: "a:pa55word-and-more,b:pa55word-and-less,a:pa55word-and-more"},
        "entry 3 of 3 has the key id of entry 1",
    ),
    ({SECRETS: ",".join(f"k{n}:pa55word-and-more" for n in range(KEYS_MAX + 1))}, "there are 17 entries"),
]


@pytest.mark.parametrize(("environ", "told"), FAULTS)
def test_secrets_that_cannot_be_used_are_one_error_that_says_what_would_be_right(
    environ: dict[str, str], told: str
) -> None:
    with pytest.raises(KeyringError, match=told) as error:
        Keyring.from_environment(environ)
    text = str(error.value)
    assert any(name in text for name in environ)
    assert not any(secret in text for secret in ("pa55", OLD.decode(), NEW.decode()))
    assert error.value.__context__ is None, "no other error, with its text, stands behind it"


def local_variables(error: BaseException) -> str:
    """What a traceback shows of the variables in the frames of this package."""
    trace = traceback.TracebackException.from_exception(error, capture_locals=True)
    ours = [frame for frame in trace.stack if frame.filename.startswith(PACKAGE)]
    assert ours
    return "".join(f"{frame.locals}" for frame in ours)


@pytest.mark.parametrize("environ", [environ for environ, _ in FAULTS])
def test_a_traceback_with_local_variables_shows_no_secret(environ: dict[str, str]) -> None:
    with pytest.raises(KeyringError) as error:
        Keyring.from_environment(environ)
    told = local_variables(error.value)
    assert not any(secret in told for secret in ("pa55", OLD.decode(), NEW.decode()))


def test_nor_does_one_of_a_keyring_that_was_given_its_secrets() -> None:
    with pytest.raises(KeyringError) as error:
        Keyring((("a", OLD), ("a", NEW)))
    assert not leaks(local_variables(error.value))


def test_a_keyring_needs_a_key() -> None:
    with pytest.raises(KeyringError, match="there are 0 entries"):
        Keyring(())


def outcome_of(environ: dict[str, str]) -> str:
    """Empty if that makes a keyring, else the error's text."""
    try:
        assert Keyring.from_environment(environ) is not None
    except KeyringError as error:
        return str(error)
    return ""


@given(st.text())
def test_any_text_is_a_keyring_or_one_error_without_it(text: str) -> None:
    for name in (SECRET, SECRETS):
        for value in (text, f"{text}pa55{text}", f"a:pa55{text}"):
            assert "pa55" not in outcome_of({name: value})


@dataclasses.dataclass
class Holder:
    """A dataclass around what holds secrets."""

    inner: object


class Frame(msgspec.Struct):
    """A struct around what holds secrets."""

    inner: object


def holders() -> list[object]:
    """Every object that holds a secret, bare and nested."""
    ring = keyring(("old", OLD), ("new", NEW))
    clock = Clock()
    made, reader = signer(clock, ring), Reader(clock, ring)
    body = b"body"
    reader.admit("a", ACTS, body, made.sign(body))
    bare: list[object] = [ring, made, reader.admission]
    return [*bare, *map(Holder, bare), *map(Frame, bare), bare]


def leaks(shown: str | bytes) -> bool:
    data = shown if isinstance(shown, bytes) else shown.encode(errors="backslashreplace")
    return any(form in data for secret in (OLD, NEW) for form in (secret, secret.hex().encode()))


def test_what_would_leak_is_seen_to_leak() -> None:
    assert leaks(repr(Holder(OLD)))
    assert leaks(pickle.dumps(Frame(NEW)))
    assert not leaks("old new")


@pytest.mark.parametrize("show", [repr, str, "{}".format, "{!r}".format, "{!a}".format])
def test_no_secret_is_in_any_text_of_what_holds_it(show: Callable[[object], str]) -> None:
    for holder in holders():
        assert not leaks(show(holder))


def test_a_keyring_shows_the_ids_of_its_keys_only() -> None:
    assert repr(keyring(("old", OLD), ("new", NEW))) == "<Keyring signs 'old' verifies 'old', 'new'>"


@pytest.mark.parametrize(
    "dump",
    [
        pickle.dumps,
        copy.copy,
        copy.deepcopy,
        msgspec.json.encode,
        msgspec.msgpack.encode,
        msgspec.to_builtins,
        json.dumps,
    ],
)
def test_a_keyring_cannot_be_dumped(dump: Callable[[object], object]) -> None:
    with pytest.raises(TypeError) as error:
        dump(keyring())
    assert not leaks(str(error.value))


@pytest.mark.parametrize(
    "dump", [pickle.dumps, copy.deepcopy, msgspec.json.encode, msgspec.msgpack.encode, msgspec.to_builtins]
)
def test_nothing_that_holds_a_keyring_can_be_dumped(dump: Callable[[object], object]) -> None:
    for holder in holders():
        with pytest.raises(TypeError) as error:
            dump(holder)
        assert not leaks(str(error.value))


def test_a_keyring_keeps_no_secret_among_its_attributes() -> None:
    ring = keyring(("old", OLD), ("new", NEW))
    assert not hasattr(ring, "__dict__")
    for name in Keyring.__slots__:
        assert not leaks(repr(getattr(ring, name)))
        assert OLD not in vars(Keyring).values()


def test_no_refusal_shows_a_secret_or_the_mac_that_would_be_right(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    ring = keyring(("old", OLD))
    reader, made = Reader(clock, ring), signer(clock, ring)
    body = b"body"
    right = made.sign(body)
    wrong = right[:-64] + b"0" * 64
    for reason, signature in (
        (Refusal.UNSIGNED, b""),
        (Refusal.MALFORMED, right[:-1]),
        (Refusal.BAD_MAC, wrong),
        (Refusal.UNKNOWN_KEY, signer(clock, keyring(("new", NEW))).sign(body)),
    ):
        with pytest.raises(SignatureRefused) as refused:
            reader.admit("a", ACTS, body, signature)
        logging.getLogger("tests").warning("refused", exc_info=refused.value)
        assert refused.value.reason is reason
        ours = local_variables(refused.value)
        kept = pickle.loads(pickle.dumps(refused.value))
        assert (kept.reason, str(kept)) == (reason, str(refused.value))
        for shown in (str(refused.value), repr(refused.value), caplog.text):
            assert not leaks(shown)
            assert right[-64:].decode() not in shown
        assert not leaks(ours)
        if reason is Refusal.BAD_MAC:
            assert right[-64:].decode() not in ours
