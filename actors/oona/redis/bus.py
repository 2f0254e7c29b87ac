"""The Redis back end: the bus across processes, made of its parts."""

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import count
from typing import Final, Self, TypeVar

import msgspec

from actors.oona import texts
from actors.oona.bus import Past, Receipt
from actors.oona.conservative import Conservative
from actors.oona.errors import BusError, ClosedError, RefusedError
from actors.oona.metrics import BusMetrics, LinkRow
from actors.oona.policy import BusConfig, TopicPolicy
from actors.oona.priority import Priority
from actors.oona.redis.address import Address
from actors.oona.redis.bell import ANEW, MESSAGE, Bell
from actors.oona.redis.call import Ask, Call, Order
from actors.oona.redis.clock import ServerClock
from actors.oona.redis.figures import NEVER, metrics
from actors.oona.redis.frames import FrameCodec
from actors.oona.redis.house import House
from actors.oona.redis.inbox import Inbox, Unreadable, frame_at
from actors.oona.redis.letters import RedisDeadLetters
from actors.oona.redis.link import Link
from actors.oona.redis.options import RedisOptions
from actors.oona.redis.outgoing import AWAITED, Outgoing, outgoing
from actors.oona.redis.post import Post
from actors.oona.redis.server import Facts
from actors.oona.redis.subscription import RedisSubscription
from actors.oona.redis.topics import KnownTopic
from actors.oona.redis.wire import Head, Op, PastEntry, decoder, policy_of, settings_of
from actors.runtime.clock import Clock
from contracts.signing.admission import EVENT_ID_CHARS_MAX

T = TypeVar("T")

RETIRE_S: Final = 86_400.0
"""Seconds that the keys of a namespace stay after it was retired, unless said otherwise."""
_PAST: Final = decoder(list[PastEntry])
_ANYTHING: Final = decoder(msgspec.Raw)


class RedisBus:
    """Implements `Bus`; `open` makes one. Every call to a server that hangs comes back within its deadline.

    `prefix` is the namespace's; buses of the same namespace and server are one bus.
    """

    @classmethod
    async def open(
        cls,
        address: str,
        namespace: str,
        topics: Mapping[str, TopicPolicy],
        clock: Clock,
        frames: FrameCodec,
        config: BusConfig | None = None,
        options: RedisOptions | None = None,
    ) -> Self:
        """Connect and declare the topics. Raises UnreachableError, BusUnfitError."""
        bus = cls(
            Address(address),
            namespace,
            topics,
            clock,
            frames,
            BusConfig() if config is None else config,
            RedisOptions() if options is None else options,
        )
        await bus._open()
        return bus

    def __init__(
        self,
        address: Address,
        namespace: str,
        topics: Mapping[str, TopicPolicy],
        clock: Clock,
        frames: FrameCodec,
        config: BusConfig,
        options: RedisOptions,
    ) -> None:
        if not namespace or any(each in namespace for each in "{}\n"):
            raise ValueError(f"{namespace!r} can't be a namespace: it must not be empty or hold braces")
        prefix = f"esper:{{{namespace}}}:"
        client = secrets.token_hex(8)
        self.clock: Clock = clock if options.own_clock else ServerClock(clock)
        self._config = config
        self._options = options
        self._frames = frames
        self._topics = {name: KnownTopic(name, policy, config) for name, policy in topics.items()}
        self._conservative = Conservative(config.conservative)
        self.link = Link(address, prefix, client, settings_of(config, options), options, self)
        self.bell = Bell(address, f"{prefix}bell", options, self._ring, self._ring_all)
        self.inbox = Inbox(topics, self.link, self.clock, frames, options)
        self.post = Post(
            self._topics, self.link, self._conservative, options, frames.sign, self.clock.monotonic
        )
        self.dead_letters = RedisDeadLetters(topics, self._ask, self.inbox, self._conservative, self.clock)
        self._numbers = count(1)
        self._client = client
        self._head = NEVER
        self._house = House(
            self.link, self.clock, self.post, list(topics), config, options, self.inbox.turned_out
        )
        self._closed = False

    async def _open(self) -> None:
        try:
            await self.link.open()
            await self.bell.open()
            await self.refresh()
        except BaseException:
            await self._end()
            raise

    @property
    def _over(self) -> bool:
        """It was closed, or its link failed."""
        return self._closed or self.link.closed

    # Publishing

    async def publish(
        self,
        topic: str,
        message: msgspec.Struct,
        *,
        priority: Priority = Priority.NORMAL,
        event_id: str | None = None,
        ttl_s: float | None = None,
    ) -> Receipt:
        """Raises WireError too, for a message that can't be put into bytes."""
        post, item = self.post, self._outgoing(topic, message, priority, event_id, ttl_s)
        call = post.offer(item) or await post.offer_with_room(item)
        try:
            return await call.answer
        finally:
            if item.stage is AWAITED:  # nobody awaits the answer, and the server has not taken it
                post.outbox.done(item)

    def publish_nowait(
        self,
        topic: str,
        message: msgspec.Struct,
        *,
        priority: Priority = Priority.NORMAL,
        event_id: str | None = None,
        ttl_s: float | None = None,
    ) -> Receipt:
        """Raises WireError too, for a message that can't be put into bytes."""
        return self.post.publish_nowait(self._outgoing(topic, message, priority, event_id, ttl_s))

    def _outgoing(
        self,
        topic: str,
        message: msgspec.Struct,
        priority: Priority,
        event_id: str | None,
        ttl_s: float | None,
    ) -> Outgoing:
        if self._closed or self.link.closed:
            raise ClosedError(self.link.ending)
        known = self._known(topic)
        now_s = self.clock.monotonic()
        expires_s = texts.expiry_s(ttl_s, known.policy, now_s)
        number = next(self._numbers)
        if event_id is None:
            event_id = f"{self._client}-{number}"
        else:
            _check_text("event id", event_id)
        envelope = self._frames.encode(topic, event_id, priority, message)
        return outgoing(number, topic, message, priority, event_id, now_s, expires_s, envelope)

    def _known(self, topic: str) -> KnownTopic:
        known = self._topics.get(topic)
        if known is None:
            raise texts.unknown_topic(topic, self._topics)
        return known

    async def flush(self) -> None:
        loop = asyncio.get_running_loop()
        until_s = loop.time() + self._options.deadline_s
        if await self.link.risen(self._options.deadline_s):
            with suppress(BusError, TimeoutError):
                async with asyncio.timeout_at(until_s):
                    await self._ask(("settled", next(iter(self._topics), ""), []), _ANYTHING)

    # Consuming

    def subscribe(
        self, topics: str | Sequence[str], group: str, consumer: str, lossy: bool = False
    ) -> RedisSubscription:
        if self._over:
            raise ClosedError(self.link.ending)
        names = [topics] if isinstance(topics, str) else list(topics)
        if not names or len(set(names)) != len(names):
            raise texts.no_topics(consumer, names)
        for name in names:
            self._known(name)
        _check_text("group", group)
        _check_text("consumer", consumer)
        self._house.subscriptions = [each for each in self._house.subscriptions if not each.closed]
        for each in self._house.subscriptions:
            shared = [name for name in names if name in each.topics]
            if shared and (each.group, each.consumer) == (group, consumer):
                raise texts.name_taken(consumer, group, shared[0])
        subscription = RedisSubscription(self.inbox, names, group, consumer, lossy, self._config)
        self._house.subscriptions.append(subscription)
        return subscription

    async def history(self, topic: str) -> list[Past]:
        """A message whose frame is refused is left out, and counted."""
        self._known(topic)
        entries, blobs = await self._ask(("history", topic), _PAST)
        past: list[Past] = []
        for entry in entries:
            priority = Priority(entry.priority)
            frame = frame_at(entry.envelope_ix, entry.signature_ix, blobs)
            message = self.inbox.look_back(topic, entry.event_id, priority, frame)
            if not isinstance(message, Unreadable):
                past.append(Past(entry.event_id, priority, message, entry.published_s))
        return past

    # Figures

    def metrics(self) -> BusMetrics:
        open_ = [each for each in self._house.subscriptions if not each.closed and not each.breaker.closed]
        now_s = self.clock.monotonic()
        return metrics(
            self._head,
            self._house.stats,
            self._topics,
            {
                name: tuple(f"{each.group}/{each.consumer}" for each in open_ if name in each.topics)
                for name in self._topics
            },
            self.inbox,
            self._link_row(),
            now_s,
        )

    def _link_row(self) -> LinkRow:
        return LinkRow(
            connected=self.link.up,
            since_s=self.link.since_s,
            reconnects=max(0, self.link.reconnects),
            outbox=self.post.outbox.queued,
            outbox_lost=self.post.lost,
            retained=self.post.outbox.retained,
            uncertain=self.post.turned.uncertain,
            refused=dict(self.inbox.refused),
            full=self.post.server_full,
            given_up=self.link.given_up,
        )

    async def refresh(self) -> BusMetrics:
        """As last known, if the server can't be asked."""
        if not self._over:
            self._house.send_counts()
            with suppress(RefusedError):
                await self._house.ask_stats()
        return self.metrics()

    # Housekeeping

    @property
    def tick_s(self) -> float:
        return self._config.tick_s

    async def keep_house(self) -> None:
        await self._house.keep()
        if self.link.up:
            self._ring_all()

    async def run_housekeeping(self) -> None:
        while not self._closed:
            await self.keep_house()
            await self.clock.sleep(self.tick_s)

    # The end

    async def retire(self, seconds: float = RETIRE_S) -> None:
        """Let all that the server keeps of this namespace expire; what is used again keeps going."""
        with suppress(RefusedError):
            await self._ask(("retire", seconds), _ANYTHING)

    async def succeed(self, groups: Sequence[str]) -> None:
        """Go on in place of a process that is dead: who else consumes for `groups` is put out of them.

        What it held is to be had at once. Raises RefusedError, ClosedError: the server can't be asked."""
        for group in groups:
            await self._ask(("succeed", list(self._topics), group), _ANYTHING)

    async def close(self) -> None:
        """Refuse publishers, end subscriptions, and leave; what is on its way has a moment to arrive."""
        if self._closed:
            return
        self._closed = True
        self.post.close()
        try:
            with suppress(RefusedError, ClosedError, TimeoutError):
                async with asyncio.timeout(self._options.drain_s):
                    if self.post.outbox.queued:  # it may be that the server is there again in a moment
                        await self.link.risen(self._options.drain_s)
                    await self._drain()
        finally:
            await self._end()

    async def _drain(self) -> None:
        """What the outbox holds, the last figures, and the leaves."""
        for _ in range(2):
            self._house.send_counts()
            await self._house.ask_stats()
            if not self.post.outbox.queued:
                break
        self._end_subscriptions(ClosedError(texts.BUS_CLOSED))
        await self._ask(("settled", next(iter(self._topics), ""), []), _ANYTHING)

    def _end_subscriptions(self, error: ClosedError) -> None:
        for subscription in self._house.subscriptions:
            subscription.end(error)

    async def _end(self) -> None:
        self._closed = True
        self._end_subscriptions(ClosedError(texts.BUS_CLOSED))
        await self.bell.close()
        await self.link.close()
        self.post.give_up_queued()

    # What the link and the bell say

    def now_s(self) -> float:
        return self.clock.monotonic()

    def on_facts(self, facts: Facts) -> None:
        if isinstance(self.clock, ServerClock):
            self.clock.set(facts.now_s)

    def on_head(self, head: Head) -> None:
        self._head = head
        mode = self._conservative
        began = head.conservative and not mode.active
        mode.active, mode.cause, mode.entered = head.conservative, head.cause, head.entered
        if began:
            self.post.on_conservative()

    def on_new_server(self) -> list[Call]:
        self.inbox.new_server()
        declares: list[Call] = [
            Order(("declare", name, policy_of(topic.policy))) for name, topic in self._topics.items()
        ]
        joins = [call for each in self._house.subscriptions if not each.closed for call in each.joins()]
        return [*declares, *joins, *self.post.again()]

    def on_up(self) -> None:
        self.post.on_up()
        self._ring_all()

    def on_down(self) -> None:
        self.bell.renew()
        if not self._closed:
            self.post.on_down()

    def on_broken(self, error: ClosedError) -> None:
        self._end_subscriptions(error)

    def _ring(self, kind: str, topic: str) -> None:
        if kind == MESSAGE:
            for subscription in self._house.subscriptions:
                if topic in subscription.topics:
                    subscription.ring()
        elif kind == ANEW:
            self.post.wanted_anew(topic)
        else:
            self.post.room(topic)

    def _ring_all(self) -> None:
        for subscription in self._house.subscriptions:
            subscription.ring()

    # Asking

    async def _ask(
        self, op: Op, decoder: msgspec.msgpack.Decoder[T], blob: bytes = b""
    ) -> tuple[T, list[bytes]]:
        ask = Ask(op, decoder, blob)
        self.link.submit(ask)
        return await ask.answer


def _check_text(what: str, text: str) -> None:
    """Raises ValueError for what the server, or a reader of signed frames, would not take."""
    if not 0 < len(text) <= EVENT_ID_CHARS_MAX:
        raise ValueError(f"{what} of {len(text)} characters; it takes 1 to {EVENT_ID_CHARS_MAX}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{what} {text!r} is no Unicode text") from None
