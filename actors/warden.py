"""The warden acts: it hears of emergencies from the bus, and raises the alarm.

It works while everything else is full: signals come in the bus's urgent lane, and one that says HALT freezes
training in the task that listens, before it waits for its turn here. Who finds a trouble inside of the run
raises the alarm itself, which takes no queue at all.
"""

import logging

from actors.alarm import Alarm
from actors.hearing import Ear, Heard
from actors.oona.bus import Bus
from actors.oona.topics import WARDEN
from actors.runtime import Actor, handles
from contracts import topics
from contracts.messages import EmergencySignal

log = logging.getLogger(__name__)


class Warden(Actor[Heard]):
    """The shell around the alarm, which outlives a restart of the shell."""

    mailbox_size = 64

    def __init__(self, alarm: Alarm, bus: Bus) -> None:
        self._alarm = alarm
        self._bus = bus

    async def on_start(self) -> None:
        self._ear = Ear(self._bus, (topics.EMERGENCY,), WARDEN, self._overhear, self.context.clock)
        self._ear.open()

    async def on_stop(self) -> None:
        await self._ear.close()

    @handles
    async def on_heard(self, heard: Heard) -> None:
        with heard.delivery as delivery:
            if isinstance(delivery.message, EmergencySignal):
                self._alarm.hear(delivery.event_id, delivery.message)
                if trouble := await self._alarm.put_down():
                    log.warning("an order is not on disk: %s", trouble)

    async def _overhear(self, heard: Heard) -> None:
        """In the listening task: what can't wait is done here."""
        delivery = heard.delivery
        if isinstance(delivery.message, EmergencySignal):
            self._alarm.freeze_for(delivery.event_id, delivery.message)
        await self.context.me.tell(heard, urgent=True)
