"""The core of the memory back end: all topics, the load they make together, and what time does to them.

Synchronous bookkeeping: the time is passed in, in seconds, and nothing here waits.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import Final

import msgspec

from actors.oona import texts
from actors.oona.bus import DeadLetter, Outcome
from actors.oona.conservative import Conservative
from actors.oona.consumer import Consumer
from actors.oona.entry import Publication
from actors.oona.errors import BusError
from actors.oona.load import Load
from actors.oona.membership import Membership
from actors.oona.metrics import BusMetrics
from actors.oona.policy import BusConfig, TopicPolicy
from actors.oona.priority import LOWEST_URGENT, Priority
from actors.oona.snapshot import snapshot
from actors.oona.topic import Topic

_REROUTED: Final = Outcome.REROUTED


class Exchange:
    """Publishers offer, members take and settle, whoever holds the clock ticks."""

    def __init__(
        self, topics: Mapping[str, TopicPolicy], config: BusConfig, new_id: Callable[[], str]
    ) -> None:
        self.config = config
        self.load = Load()
        self.conservative = Conservative(config.conservative)
        self.topics = {
            name: Topic(name, policy, config, self.load, self.conservative) for name, policy in topics.items()
        }
        self._high_mark = config.conservative.high_mark
        self._new_id = new_id
        self._numbers = count(1)
        self._next_topic = 0  # whose turn it is to be first in the next tick

    def topic(self, name: str) -> Topic:
        """Raises UnknownTopicError."""
        topic = self.topics.get(name)
        if topic is None:
            raise texts.unknown_topic(name, self.topics)
        return topic

    def publication(
        self,
        topic_name: str,
        message: msgspec.Struct,
        priority: Priority,
        event_id: str | None,
        ttl_s: float | None,
        now_s: float,
    ) -> Publication:
        """A message to be offered now; raises UnknownTopicError, or ValueError if it would expire at once."""
        topic = self.topics.get(topic_name) or self.topic(topic_name)
        expires_s = texts.expiry_s(ttl_s, topic.policy, now_s)
        event_id = self._new_id() if event_id is None else event_id
        return Publication(next(self._numbers), topic_name, message, priority, event_id, now_s, expires_s)

    def offer(self, publication: Publication, now_s: float) -> Outcome | None:
        """Take a message or raise RefusedError; None if its publisher would have to wait for room."""
        topic = self.topics[publication.topic]
        outcome = None
        try:
            outcome = topic.offer(publication)
        finally:
            urgent = publication.priority >= LOWEST_URGENT or outcome is _REROUTED
            if urgent or self.load.depth > self._high_mark:
                self._look_at(topic, now_s)
        return outcome

    def subscribe(
        self, topics: list[str], group: str, consumer_name: str, lossy: bool, now_s: float
    ) -> Membership:
        """Join a group of each topic; raises ValueError, with nothing changed."""
        if not topics or len(set(topics)) != len(topics):
            raise texts.no_topics(consumer_name, topics)
        joined = Membership(Consumer(consumer_name, self.config.breaker))
        try:
            for topic in [self.topic(name) for name in topics]:
                joined.join(topic, group, lossy, now_s)
        except ValueError:
            joined.leave(0.0)
            raise
        return joined

    def tick(self, now_s: float) -> bool:
        """Redeliver, expire, refuse the overdue and review conservative mode; True if work was left over."""
        left = self.config.tick_work_max
        for topic in self._in_turn():
            left -= topic.tick(now_s, left)
            for group in topic.groups.values():
                left -= group.tick(now_s, left)
        self._next_topic += 1
        for topic in self.topics.values():
            self._look_at(topic, now_s)
        self.conservative.review(now_s, self.load.depth)
        return left == 0

    def letters(self, topic: str | None, group: str | None) -> list[DeadLetter]:
        """Those of one topic and group, or of all."""
        topics = self.topics.values() if topic is None else [self.topic(topic)]
        letters = [letter for each in topics for letter in each.letters.all()]
        return [letter for letter in letters if group is None or letter.group == group]

    def letter(self, letter_id: str) -> DeadLetter:
        """Raises UnknownLetterError."""
        for topic in self.topics.values():
            if (letter := topic.letters.get(letter_id)) is not None:
                return letter
        raise texts.unknown_letter(letter_id)

    def replay(self, letter_id: str, now_s: float) -> None:
        """Queue it again; raises UnknownLetterError or RefusedError, with nothing changed."""
        letter = self.letter(letter_id)
        topic = self.topics[letter.topic]
        if letter.group not in topic.groups:
            raise texts.letter_without_group(letter_id)
        publication = self.publication(
            letter.topic, letter.message, letter.priority, letter.event_id, None, now_s
        )
        topic.replay(letter, publication)

    def drop(self, letter_id: str) -> None:
        """Raises UnknownLetterError."""
        self.topics[self.letter(letter_id).topic].letters.remove(letter_id)

    def metrics(self, now_s: float) -> BusMetrics:
        return snapshot(self.topics.values(), self.load, self.conservative, now_s)

    def close(self, error: BusError) -> None:
        """Refuse those who wait for room."""
        for topic in self.topics.values():
            topic.close(error)

    def _look_at(self, topic: Topic, now_s: float) -> None:
        """Enter conservative mode, or stay in it, if this topic or the depth is a cause."""
        depth = self.load.depth
        cause = (
            self.conservative.depth_cause(depth) if self.conservative.too_deep(depth) else topic.cause(now_s)
        )
        if cause and self.conservative.enter(now_s, cause):
            for each in self.topics.values():
                each.send_away()

    def _in_turn(self) -> Iterator[Topic]:
        topics = list(self.topics.values())
        first = self._next_topic % max(1, len(topics))
        yield from topics[first:]
        yield from topics[:first]
