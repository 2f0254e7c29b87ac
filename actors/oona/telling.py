"""Publishing in passing: whoever tells does not wait, and what can't be told is no reason to fail."""

import logging
from contextlib import suppress

import msgspec

from actors.oona.bus import Bus
from actors.oona.errors import RefusedError
from actors.oona.priority import Priority
from contracts.wire import WireError

_log = logging.getLogger(__name__)


def tell(
    bus: Bus, topic: str, message: msgspec.Struct, event_id: str, priority: Priority = Priority.NORMAL
) -> None:
    """Publish `message` if the bus takes it now; a refusal is counted there, what has no bytes is logged."""
    with suppress(RefusedError):
        try:
            bus.publish_nowait(topic, message, priority=priority, event_id=event_id)
        except WireError as error:
            _log.warning("%s %s is not published: %s", topic, event_id, error)
