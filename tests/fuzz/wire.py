"""Drives the codec with bytes that a coverage-guided fuzzer makes up.

`python -m tests.fuzz.wire --runs 1000000`. The first byte chooses the message, the rest is its frame.
Whatever comes, `check_frame` must hold: a `WireError` that says where, or a message that goes to bytes and
back; the fast way and the scanner agree. Anything else ends the run, with the input in a file `crash-…` in
the current folder.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
from hypothesis import Phase, given, settings

try:
    import atheris
except ImportError:
    sys.exit("the fuzzer needs atheris: pip install 'atheris>=3.0'")

with atheris.instrument_imports(include=["contracts.leyline"]):
    from contracts.leyline.codec import encode
    from contracts.leyline.table import MESSAGES
    from tests.contracts.leyline.frames import check_frame
    from tests.contracts.leyline.strategies import messages

NAMES = tuple(MESSAGES)
SEEDS_EACH = 20
"""Valid frames of each message that the fuzzer starts from."""
FRAME_BYTES_MAX = 4096
"""Of what the fuzzer makes."""


def try_one(data: bytes) -> None:
    """One input of the fuzzer."""
    if data:
        check_frame(NAMES[data[0] % len(NAMES)], data[1:])


def plant(corpus: Path) -> None:
    """Write valid frames of every message into `corpus`."""
    for index, name in enumerate(NAMES):
        for number, frame in enumerate(sorted(frames_of(name))):
            (corpus / f"{name}-{number}").write_bytes(bytes([index]) + frame)


def frames_of(name: str) -> set[bytes]:
    """Some frames of one message, the same at every call."""
    frames: set[bytes] = set()

    @settings(
        max_examples=SEEDS_EACH, phases=[Phase.generate], database=None, derandomize=True, deadline=None
    )
    @given(messages(name))
    def keep(message: msgspec.Struct) -> None:
        frames.add(encode(message))

    keep()
    return frames


def main(argv: Sequence[str] | None = None) -> None:
    """Fuzz; the process ends with the fuzzer's own code, 0 if nothing was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.wire", description=__doc__)
    parser.add_argument("--runs", type=int, default=100_000, help="inputs to try (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the fuzzer's choices (default: %(default)s)")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        plant(Path(folder))
        options = [f"-runs={arguments.runs}", f"-seed={arguments.seed}", f"-max_len={FRAME_BYTES_MAX}"]
        atheris.Setup([sys.argv[0], *options, folder], try_one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
