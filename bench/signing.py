"""What it costs to sign a frame of 280 bytes and to believe one, against a bare HMAC of the same bytes.

`verify` is the form and the MAC, `admit` all checks of a new frame with its id and nonce remembered, `repeat`
a frame that was admitted before. A ratio (`verify_round.ratio_to_bare`) is that of a whole
round's time to the time of as many `hmac.digest` over header and body; the sides of a round run one after
the other.
"""

import hmac
import random
import time
import zlib
from collections.abc import Callable, Iterable, Sequence

from bench.measure import Budget, Size, in_turn, percentiles
from contracts import topics
from contracts.budgets import PerformanceBudgets, SystemLimits
from contracts.signing.admission import Admission
from contracts.signing.header import MAC_CHARS
from contracts.signing.keyring import Keyring
from contracts.signing.rules import topic_rules
from contracts.signing.signer import Signer

_LIMIT_US = float(PerformanceBudgets().message_validation_us)
BUDGETS = (
    Budget("sign.p50_us", _LIMIT_US, "at_most"),
    Budget("verify.p50_us", _LIMIT_US, "at_most"),
    Budget("admit.p50_us", _LIMIT_US, "at_most"),
    Budget("repeat.p50_us", _LIMIT_US, "at_most"),
)

BODY_BYTES = SystemLimits().max_message_size_bytes
FRAMES = {Size.SMALL: 200, Size.FULL: 5_000}
ROUNDS = {Size.SMALL: 2, Size.FULL: 11}
SECRET = b"a secret of thirty-two bytes, ok"
NOW_NS = 1_790_000_000 * 10**9


Frame = tuple[str, bytes, bytes]
"""Event id, body and signature."""
Work = Callable[[], object]


def run(size: Size) -> dict[str, object]:
    """Latency of each operation, and its ratio to the bare HMAC."""
    dice = random.Random(0)
    keyring = Keyring((("bench", SECRET),))
    signer = Signer(keyring, "bench", dice.randbytes, lambda: NOW_NS)
    bodies = [dice.randbytes(BODY_BYTES) for _ in range(FRAMES[size])]
    frames = [(str(number), body, signer.sign(body)) for number, body in enumerate(bodies)]
    signed = [signature[:-MAC_CHARS] + body for _, body, signature in frames]
    macs = [_digest(each).hex() for each in signed]
    assert macs == [signature[-MAC_CHARS:].decode() for *_, signature in frames], "both sides do the same"
    result: dict[str, object] = {"bare": percentiles(_each_s(_digest, zip(signed))).figures("us")}
    for name, latencies_s in _latencies_s(keyring, signer, frames).items():
        result[name] = percentiles(latencies_s).figures("us")
    for name, work in _rounds(keyring, signer, frames).items():
        ratio = in_turn(work, lambda: [_digest(each) for each in signed], ROUNDS[size])
        result[f"{name}_round"] = {"ratio_to_bare": ratio.median, "ratio_to_bare_spread": ratio.spread}
    return {
        **result,
        "body_bytes": BODY_BYTES,
        "signature_bytes": len(frames[0][2]),
        "frames": len(frames),
        "rounds": ROUNDS[size],
        "digest": f"{zlib.crc32(''.join(macs).encode()):08x}",
    }


def _latencies_s(keyring: Keyring, signer: Signer, frames: Sequence[Frame]) -> dict[str, list[float]]:
    """Seconds of each single call, by operation."""
    admission = _admission(keyring)
    took_s = {
        "sign": _each_s(signer.sign, ((body,) for _, body, _ in frames)),
        "verify": _each_s(keyring.verify, ((body, signature) for _, body, signature in frames)),
        "admit": _each_s(admission.admit, map(_arguments, frames)),
        "repeat": _each_s(admission.admit, map(_arguments, frames)),
    }
    counts = admission.counts
    assert (counts.admitted, counts.repeats, counts.refused_total) == (len(frames), len(frames), 0)
    return took_s


def _rounds(keyring: Keyring, signer: Signer, frames: Sequence[Frame]) -> dict[str, Work]:
    """What does each operation once for every frame."""
    known = _admission(keyring)
    _admit_all(known, frames)
    return {
        "sign": lambda: [signer.sign(body) for _, body, _ in frames],
        "verify": lambda: [keyring.verify(body, signature) for _, body, signature in frames],
        "admit": lambda: _admit_all(_admission(keyring), frames),
        "repeat": lambda: _admit_all(known, frames),
    }


def _admission(keyring: Keyring) -> Admission:
    return Admission(keyring, topic_rules(), birth_ns=0)


def _admit_all(admission: Admission, frames: Sequence[Frame]) -> None:
    for frame in frames:
        admission.admit(*_arguments(frame))


def _arguments(frame: Frame) -> tuple[str, str, bytes, bytes, int, int]:
    event_id, body, signature = frame
    return event_id, topics.ADAPTATION_COMMAND, body, signature, NOW_NS, NOW_NS


def _digest(data: bytes) -> bytes:
    return hmac.digest(SECRET, data, "sha256")


def _each_s(work: Callable[..., object], calls: Iterable[tuple[object, ...]]) -> list[float]:
    """Seconds of each call, the clock's own cost included."""
    took_s = []
    for arguments in list(calls):
        start_s = time.perf_counter()
        work(*arguments)
        took_s.append(time.perf_counter() - start_s)
    return took_s
