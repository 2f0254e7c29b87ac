"""The mailbox against a perfect little model: lanes, policies, waiting senders, order, capacity."""

import asyncio
from collections import deque

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from actors.runtime.errors import MailboxFull
from actors.runtime.lanes import DONE, Overflow, Urgent, unwrapped
from actors.runtime.mailbox import Mailbox
from tests.actors.runtime.sample import in_virtual_time
from tests.examples import examples


def make_mailbox(
    overflow: Overflow = Overflow.WAIT, capacity: int = 3, urgent_capacity: int = 2
) -> tuple[Mailbox, list[object]]:
    dead: list[object] = []
    mailbox = Mailbox(
        "inbox",
        capacity=capacity,
        urgent_capacity=urgent_capacity,
        overflow=overflow,
        bury=lambda item, cause: dead.append(item),
    )
    return mailbox, dead


def take(mailbox: Mailbox) -> object:
    """Pop the next item, as the runner does it."""
    item = mailbox.queue.popleft()
    if isinstance(item, Urgent):
        mailbox.urgent_taken()
    mailbox.settle()
    return unwrapped(item)


def test_a_tell_with_room_costs_no_future() -> None:
    mailbox, _ = make_mailbox()
    assert mailbox.offer(1, urgent=False) is DONE


@in_virtual_time
async def test_what_a_tell_returns_can_be_awaited_again_and_again() -> None:
    for _ in range(3):
        await DONE
    await asyncio.gather(DONE)


@in_virtual_time
async def test_a_full_mailbox_makes_the_sender_wait() -> None:
    mailbox, _ = make_mailbox()
    sender = asyncio.create_task(send_each(mailbox, range(4)))
    await asyncio.sleep(1)
    assert not sender.done()
    assert take(mailbox) == 0
    await asyncio.sleep(1)
    assert sender.done()
    assert [take(mailbox) for _ in range(3)] == [1, 2, 3]


async def send_each(mailbox: Mailbox, items: range) -> None:
    for item in items:
        await mailbox.offer(item, urgent=False)


def test_a_full_mailbox_refuses_and_keeps_what_it_had() -> None:
    mailbox, _ = make_mailbox(Overflow.REFUSE)
    for n in range(3):
        mailbox.offer(n, urgent=False)
    with pytest.raises(MailboxFull, match="inbox takes no more: its normal lane holds 3 messages"):
        mailbox.offer(3, urgent=False)
    assert [take(mailbox) for _ in range(3)] == [0, 1, 2]
    assert mailbox.normal.refused == 1


def test_a_full_mailbox_drops_the_oldest_and_counts_it() -> None:
    mailbox, dead = make_mailbox(Overflow.DROP_OLDEST)
    mailbox.offer("urgent", urgent=True)
    for n in range(5):
        mailbox.offer(n, urgent=False)
    assert [take(mailbox) for _ in range(4)] == ["urgent", 2, 3, 4]
    assert mailbox.normal.dropped == 2
    assert dead == []


def test_a_full_urgent_lane_refuses_rather_than_drops() -> None:
    mailbox, _ = make_mailbox(Overflow.DROP_OLDEST)
    mailbox.offer(1, urgent=True)
    mailbox.offer(2, urgent=True)
    with pytest.raises(MailboxFull, match="urgent lane"):
        mailbox.offer(3, urgent=True)
    assert [take(mailbox), take(mailbox)] == [1, 2]


def test_an_urgent_message_overtakes_a_full_normal_lane() -> None:
    mailbox, _ = make_mailbox()
    for n in range(3):
        mailbox.offer(n, urgent=False)
    mailbox.offer("urgent", urgent=True)
    assert take(mailbox) == "urgent"


@in_virtual_time
async def test_a_tight_sender_cannot_overtake_one_that_waits() -> None:
    mailbox, _ = make_mailbox(capacity=1)
    mailbox.offer("first", urgent=False)
    waiting = [asyncio.create_task(send_one(mailbox, n)) for n in range(3)]
    await asyncio.sleep(1)
    for _ in waiting:
        take(mailbox)
        with pytest.raises(MailboxFull):
            mailbox.offer_nowait("pushy", urgent=False)
    await asyncio.gather(*waiting)


async def send_one(mailbox: Mailbox, item: object) -> None:
    await mailbox.offer(item, urgent=False)


@in_virtual_time
async def test_a_sender_cancelled_while_it_waits_has_sent_nothing() -> None:
    mailbox, _ = make_mailbox(capacity=1)
    mailbox.offer("first", urgent=False)
    sender = asyncio.create_task(send_one(mailbox, "second"))
    await asyncio.sleep(1)
    sender.cancel()
    await asyncio.sleep(1)
    assert take(mailbox) == "first"
    assert not mailbox.queue
    mailbox.offer_nowait("third", urgent=False)
    assert take(mailbox) == "third"


@in_virtual_time
async def test_waiting_senders_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.runtime.mailbox.PARKED_MAX", 2)

    mailbox, _ = make_mailbox(capacity=1)
    waits = [mailbox.offer(n, urgent=False) for n in range(3)]
    with pytest.raises(MailboxFull):
        mailbox.offer(3, urgent=False)
    assert [take(mailbox) for _ in range(3)] == [0, 1, 2]
    for wait in waits:
        await wait


@in_virtual_time
async def test_a_closed_mailbox_makes_messages_dead_letters_and_lets_waiting_senders_go() -> None:
    mailbox, dead = make_mailbox(capacity=1)
    mailbox.offer(1, urgent=False)
    sender = asyncio.create_task(send_one(mailbox, 2))
    await asyncio.sleep(1)
    mailbox.refuse_all("over")
    await sender
    await mailbox.offer(3, urgent=False)
    assert dead == [1, 2, 3]
    assert mailbox.drained()


class Model(RuleBasedStateMachine):
    """Sends and takes at random; the model keeps each lane as a list and waiting senders as another."""

    @initialize(
        overflow=st.sampled_from(Overflow), capacity=st.integers(1, 4), urgent_capacity=st.integers(1, 3)
    )
    def begin(self, overflow: Overflow, capacity: int, urgent_capacity: int) -> None:
        self.loop = asyncio.new_event_loop()
        self.overflow = overflow
        self.capacity = {False: capacity, True: urgent_capacity}
        self.mailbox, self.dead = make_mailbox(overflow, capacity, urgent_capacity)
        self.queued: dict[bool, deque[int]] = {False: deque(), True: deque()}
        self.waiting: dict[bool, deque[int]] = {False: deque(), True: deque()}
        self.futures: dict[int, asyncio.Future[None]] = {}
        self.next = 0
        self.dropped = 0

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.loop.close()

    def waits(self, urgent: bool) -> bool:
        return self.overflow is Overflow.WAIT

    def full(self, urgent: bool) -> bool:
        return len(self.queued[urgent]) >= self.capacity[urgent]

    def send(self, item: int, urgent: bool) -> object:
        """As `ActorRef.tell`: append if the gate is open, else go through `offer`."""

        async def offer() -> object:
            if len(self.mailbox.queue) < self.mailbox.open_below and not urgent:
                self.mailbox.queue.append(item)
                return DONE
            return self.mailbox.offer(item, urgent=urgent)

        return self.loop.run_until_complete(offer())

    @rule(urgent=st.booleans())
    def tell(self, urgent: bool) -> None:
        item, self.next = self.next, self.next + 1
        if not self.full(urgent) and not self.waiting[urgent]:
            assert self.send(item, urgent) is DONE
            self.queued[urgent].append(item)
        elif self.waits(urgent):
            future = self.send(item, urgent)
            assert isinstance(future, asyncio.Future)
            self.futures[item] = future
            self.waiting[urgent].append(item)
        elif self.overflow is Overflow.DROP_OLDEST and not urgent:
            assert self.send(item, urgent) is DONE
            self.queued[urgent].popleft()
            self.queued[urgent].append(item)
            self.dropped += 1
        else:
            with pytest.raises(MailboxFull):
                self.send(item, urgent)

    @rule(urgent=st.booleans())
    def tell_nowait(self, urgent: bool) -> None:
        item, self.next = self.next, self.next + 1
        drops = self.overflow is Overflow.DROP_OLDEST and not urgent
        if (self.full(urgent) or self.waiting[urgent]) and not drops:
            with pytest.raises(MailboxFull):
                self.mailbox.offer_nowait(item, urgent=urgent)
            return
        if self.full(urgent):
            self.queued[urgent].popleft()
            self.dropped += 1
        self.mailbox.offer_nowait(item, urgent=urgent)
        self.queued[urgent].append(item)

    @precondition(lambda self: self.waiting[False] or self.waiting[True])
    @rule(data=st.data())
    def cancel_a_sender(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from([*self.waiting[False], *self.waiting[True]]))
        self.futures[item].cancel()
        for lane in self.waiting.values():
            if item in lane:
                lane.remove(item)
        self.admit()

    @precondition(lambda self: self.queued[False] or self.queued[True])
    @rule()
    def take(self) -> None:
        lane = self.queued[True] or self.queued[False]
        assert take(self.mailbox) == lane.popleft()
        self.admit()

    def admit(self) -> None:
        for urgent, waiting in self.waiting.items():
            while waiting and not self.full(urgent):
                item = waiting.popleft()
                self.queued[urgent].append(item)
                assert self.futures[item].done()

    @invariant()
    def queue_is_the_model(self) -> None:
        if not hasattr(self, "mailbox"):
            return
        found = [unwrapped(item) for item in self.mailbox.queue]
        assert found == [*self.queued[True], *self.queued[False]]
        assert self.mailbox.urgent_waiting == len(self.queued[True])
        assert self.mailbox.normal.dropped == self.dropped
        assert self.dead == []


TestMailboxModel = Model.TestCase
TestMailboxModel.settings = settings(max_examples=examples(25, 600), stateful_step_count=40, deadline=None)
