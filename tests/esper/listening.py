"""Runs whose training waits for what is said: no epoch is spent on waiting, and no boundary gives up."""

import threading
from dataclasses import replace
from typing import Protocol

from torch import Tensor

from actors.display import Silent
from contracts.view import EventKind
from esper.karn.catalogue import CATALOGUE, Catalogue
from esper.session import Grown, grow
from esper.tamiyo.policy import Policy
from tests.esper.test_session import SMALL, circle

PATIENCE_S = 120.0
PATIENT = (
    "budgets.tamiyo_inference_ms=60000",
    "budgets.epoch_boundary_ms=60000",
    "budgets.adaptation_processing_ms=60000",
)
"""No decision comes too late, however busy the machine."""
STANDS_STILL = "emergency.step_stall_s=300"
"""Training may stand still for longer than anybody waits."""


class Signal(Silent):
    """A display that hears whether the kernels are ready, or something was said of the store."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self._spoken = threading.Condition()

    def event(self, text: str, kind: EventKind, epoch: int | None = None) -> None:
        with self._spoken:
            self.events.append(text)
            self._spoken.notify_all()

    def heard(self, beginning: str) -> bool:
        return any(text.startswith(beginning) for text in self.events)

    def wait_for(self, beginning: str) -> None:
        """In another thread than the loop's."""
        with self._spoken:
            heard = self._spoken.wait_for(lambda: self.heard(beginning), PATIENCE_S)
        assert heard, f"nobody said {beginning!r} in {PATIENCE_S:g} s, but {self.events}"


class Listener(Policy, Protocol):
    """A policy for which training waits, too."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor: ...


def grown_circle(
    policy: Listener, signal: Signal, epochs: int, *settings: str, catalogue: Catalogue = CATALOGUE
) -> Grown:
    """The circle's network, grown at its site by a policy that listens to `signal`."""
    return grow(
        replace(circle(), loss_fn=policy.loss),
        sites=["1"],
        epochs=epochs,
        max_params=200,
        policy=policy,
        settings=(*SMALL, *PATIENT, STANDS_STILL, *settings),
        display=signal,
        catalogue=catalogue,
    )
