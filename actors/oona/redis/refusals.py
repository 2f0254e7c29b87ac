"""Why the server did not take a message, as the publisher hears it."""

from actors.oona import texts
from actors.oona.conservative import Conservative
from actors.oona.errors import BusError, ClosedError, ServerFullError
from actors.oona.redis.outgoing import Outgoing
from actors.oona.redis.topics import KnownTopic, descriptions
from actors.oona.redis.wire import Published


def refusal(topic: KnownTopic, item: Outgoing, published: Published, mode: Conservative) -> BusError:
    """The error for a message that was not taken."""
    what = f"{topic.name} can't take {item.event_id}"
    match published.what:
        case "full":
            full = descriptions(published.full)
            if item.urgent:
                return texts.urgent_full(topic.name, item.event_id, full)
            return texts.normal_full(topic.name, item.event_id, full, topic.policy.overflow)
        case "shed":
            return mode.refusal(what)
        case "no_memory":
            return ServerFullError(
                f"{what}: the server's memory is used up (maxmemory); try again when messages have been "
                "acknowledged, or give it more"
            )
        case _:
            return ClosedError(f"{what}: the server forgot this bus ({published.what}); make a new one")
