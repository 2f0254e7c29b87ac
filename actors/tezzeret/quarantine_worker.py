"""The sandbox's end of a trial: takes the parent's pickled host, answers a report in JSON.

The bytes come from the parent through a pipe, never from a file: they are as safe as the parent is.
"""

import pickle

import msgspec
import torch

from actors.tezzeret.confinement import refusals
from actors.tezzeret.worker_side import Handle, Tell, serve
from esper.drill.benign import DRILL_CATALOGUE
from esper.drill.report import Trial
from esper.drill.trial import Subject, Watchman, undergo
from esper.karn.catalogue import Catalogue

UNPORTABLE = "the host can't be rebuilt in another process"


class Unportable(ValueError):
    """What was sent as a host is none here: its classes can't be imported, say."""


def handler(catalogue: Catalogue) -> Handle:
    """Answers trials of the blueprints of `catalogue`."""

    def handle(header: bytes, body: bytes, tell: Tell) -> tuple[bytes, bytes]:
        trial = msgspec.json.decode(header, type=Trial)
        report = undergo(
            trial,
            _subject(body),
            catalogue,
            Watchman(refused=refusals.total),
            lambda step: tell(msgspec.json.encode(step)),
        )
        return msgspec.json.encode(report), b""

    return handle


def _subject(body: bytes) -> Subject:
    try:
        subject = pickle.loads(body)
    except Exception as error:
        raise Unportable(f"{UNPORTABLE}: {type(error).__name__}: {error}") from error
    if not isinstance(subject, Subject):
        raise Unportable(f"{UNPORTABLE}: it came as {type(subject).__name__}")
    return subject


if __name__ == "__main__":
    torch.set_num_threads(1)
    serve(handler(DRILL_CATALOGUE))
