"""What the bus says when it refuses, the same on every back end."""

import difflib
from collections.abc import Iterable, Sequence

from actors.oona.errors import (
    ClosedError,
    QueueFullError,
    UnknownLetterError,
    UnknownTopicError,
    WaitExpiredError,
)
from actors.oona.policy import Overflow, TopicPolicy

BUS_CLOSED = "the bus was closed; make a new one"


def unknown_topic(name: str, declared: Iterable[str]) -> UnknownTopicError:
    near = difflib.get_close_matches(name, list(declared), n=1, cutoff=0.0)
    hint = f"the nearest is {near[0]!r}" if near else "none is"
    return UnknownTopicError(f"topic {name!r} was not declared; {hint}")


def unknown_letter(letter_id: str) -> UnknownLetterError:
    return UnknownLetterError(f"no dead letter {letter_id!r} is kept; list names those that are")


def letter_without_group(letter_id: str) -> UnknownLetterError:
    return UnknownLetterError(f"{letter_id} can't be replayed: its group is gone; subscribe to it first")


def letter_without_room(letter_id: str, lane: str) -> QueueFullError:
    return QueueFullError(
        f"{letter_id} stays a dead letter: {lane}; try again when its consumers have caught up"
    )


def described(lane: str, group: str, pending: int, waiting: int, capacity: int) -> str:
    """The state of one lane of a group."""
    return (
        f"the {lane} lane of group {group} holds {pending} messages ({waiting} waiting) of at most {capacity}"
    )


def normal_full(topic: str, event_id: str, full: Sequence[str], overflow: Overflow) -> QueueFullError:
    waits = overflow is Overflow.WAIT
    advice = "await publish, which waits for room" if waits else "try again when its consumers caught up"
    return QueueFullError(f"{topic} can't take {event_id}: {'; '.join(full)}; {advice}")


def urgent_full(topic: str, event_id: str, full: Sequence[str]) -> QueueFullError:
    what = f"{topic} can't take {event_id}: {'; '.join(full)}"
    return QueueFullError(f"{what}; try again when urgent messages have been acknowledged")


def wait_expired(topic: str, event_id: str, wait_max_s: float) -> WaitExpiredError:
    what = f"{topic} had no room for {event_id}"
    return WaitExpiredError(f"{what} within {wait_max_s:g} s (wait_max_s); add consumers, or try again later")


def subscription_closed(consumer: str) -> ClosedError:
    return ClosedError(f"the subscription of {consumer} was closed; subscribe again")


def no_topics(consumer: str, topics: Sequence[str]) -> ValueError:
    return ValueError(f"consumer {consumer} subscribes to topics {topics}; it takes one or more, each once")


def name_taken(consumer: str, group: str, topic: str) -> ValueError:
    return ValueError(
        f"consumer {consumer} is in group {group} of {topic} already; "
        "close its subscription first, or take another name"
    )


def too_many_consumers(consumer: str, group: str, topic: str, there: int) -> ValueError:
    return ValueError(
        f"consumer {consumer} can't join group {group} of {topic}: {there} are "
        "there, as many as may (consumers_max)"
    )


def too_many_groups(group: str, topic: str, there: int) -> ValueError:
    return ValueError(f"group {group} can't be made: {topic} has {there}, as many as may (groups_max)")


def receives_nothing(max_messages: int) -> ValueError:
    return ValueError(f"max_messages {max_messages} would receive nothing; it takes 1 or more")


def check_delay(delay_s: float | None, policy: TopicPolicy) -> None:
    """Raises ValueError for a delay that no nack may have."""
    if delay_s is not None and not 0 <= delay_s <= policy.postpone_max_s:
        raise ValueError(f"delay_s {delay_s} is out of range; it takes 0 to {policy.postpone_max_s:g} s")


def check_deadline(deadline_s: float, policy: TopicPolicy) -> None:
    """Raises ValueError for a deadline that no extension may have."""
    if not 0 < deadline_s <= policy.postpone_max_s:
        raise ValueError(
            f"deadline_s {deadline_s} is out of range; it takes 0 to {policy.postpone_max_s:g} s"
        )


def expiry_s(ttl_s: float | None, policy: TopicPolicy, now_s: float) -> float | None:
    """When a message published now expires; raises ValueError if it would at once."""
    if ttl_s is None:
        ttl_s = policy.ttl_s
    elif not ttl_s > 0:
        raise ValueError(f"ttl_s {ttl_s} would expire at once; it takes seconds above 0, or None")
    return None if ttl_s is None else now_s + ttl_s
