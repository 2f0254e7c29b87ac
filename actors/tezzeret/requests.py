"""Takes kernel requests off the bus to Tezzeret, and what Tezzeret announces onto it."""

from contextlib import suppress
from itertools import count

from actors.hearing import Ear, Heard
from actors.karn import Permit
from actors.oona.bus import Bus
from actors.oona.telling import tell
from actors.runtime import Actor, ActorError, ActorRef, handles
from actors.tezzeret.actor import Prefetch
from actors.tezzeret.shop import Announcement, error
from actors.urza import WantedSpec
from contracts import topics
from contracts.kernels import (
    KernelArtifactError,
    KernelArtifactReady,
    KernelCatalogUpdate,
    KernelPrefetchRequest,
    KernelSpec,
)

PATIENCE_S = 30.0
"""Deadline of a question: nobody but this actor waits, and what answers it may come from a cold disk."""


class Crier:
    """Publishes what Tezzeret announces; on the event loop."""

    def __init__(self, bus: Bus, run_id: str) -> None:
        self._bus = bus
        self._run_id = run_id
        self._numbers = count(1)

    def announce(self, announcement: Announcement) -> None:
        """Onto the topic of its kind; who listens decides what it is worth."""
        match announcement:
            case KernelArtifactReady():
                topic = topics.KERNEL_READY
            case KernelArtifactError():
                topic = topics.KERNEL_ERROR
            case KernelCatalogUpdate():
                topic = topics.KERNEL_CATALOG
        tell(self._bus, topic, announcement, f"{self._run_id}/{topic}/{next(self._numbers)}")


class Requests(Actor[Heard]):
    """A request names a specification by its key; the specification itself stands in Urza's catalogue.

    Whatever may not be made, whoever asks, is refused here: Karn says what that is.
    """

    critical = False
    mailbox_size = 256
    asks = ("urza", "karn", "tezzeret")

    def __init__(
        self,
        bus: Bus,
        crier: Crier,
        urza: ActorRef[WantedSpec],
        karn: ActorRef[Permit],
        tezzeret: ActorRef[Prefetch],
    ) -> None:
        self._bus = bus
        self._crier = crier
        self._urza = urza
        self._karn = karn
        self._tezzeret = tezzeret

    async def on_start(self) -> None:
        self._ear = Ear(
            self._bus, (topics.KERNEL_REQUEST,), "tezzeret", self.context.me.tell, self.context.clock
        )
        self._ear.open()

    async def on_stop(self) -> None:
        await self._ear.close()

    @handles
    async def on_heard(self, heard: Heard) -> None:
        with suppress(ActorError), heard.delivery:  # one of them is away: the bus brings it again
            request = heard.delivery.message
            assert isinstance(request, KernelPrefetchRequest), "the topic's only message"
            await self._pass_on(request.request_id)

    async def _pass_on(self, key: str) -> None:
        """Nothing if it is not wanted any more: it was made meanwhile, and announced, or given up."""
        spec = await self._urza.ask(WantedSpec(key), deadline_s=PATIENCE_S)
        if not isinstance(spec, KernelSpec):
            return
        refusal = await self._karn.ask(Permit(spec.design), deadline_s=PATIENCE_S)
        if refusal:
            self._crier.announce(error(spec, refusal))
        else:
            await self._tezzeret.tell(Prefetch((spec,)))
