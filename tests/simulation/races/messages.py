"""Races of single messages: in a mailbox, on the bus, on their way to the journal."""

import asyncio
import random
from functools import partial

import msgspec

from actors.nissa.journal import Journal, Line
from actors.oona.bus import Receipt, Subscription
from actors.oona.entry import Entry, Publication
from actors.oona.group import Group
from actors.oona.memory import MemoryBus
from actors.oona.policy import Overflow as Full
from actors.oona.policy import TopicPolicy
from actors.oona.subscription import MemoryDelivery, MemorySubscription
from actors.runtime import Actor, ActorSystem, InlineThreads, LoopClock, handles
from actors.runtime.lanes import Lane, Overflow
from actors.runtime.mailbox import Mailbox
from contracts import topics
from contracts.messages import FieldReport, FieldReportOutcome
from tests.simulation.races.race import Delays, Race, scene
from tests.simulation.scribe import SimulatedScribe
from tests.simulation.trace import ensure

TOPIC = "notes"
ACK_S = 1.0
SOON_S = 2.0
"""Within which whoever waits has to hear of a message."""


class Note(msgspec.Struct, frozen=True):
    n: int


def _bus(capacity: int = 100) -> MemoryBus:
    policy = TopicPolicy(capacity=capacity, ack_deadline_s=ACK_S, overflow=Full.WAIT, groups=("readers",))
    return MemoryBus({TOPIC: policy}, LoopClock(asyncio.get_running_loop(), wall_ns=0))


# A subscription goes to sleep ------------------------------------------------------------------------


async def _sleeps_after_a_look(
    self: MemorySubscription, max_messages: int, timer: asyncio.Task[None] | None
) -> list[MemoryDelivery]:
    deliveries: list[MemoryDelivery] = []
    while not (deliveries or (timer is not None and timer.done())):
        self._since_wait = 0
        await asyncio.sleep(0)
        await self._wait()
        deliveries = self._take(max_messages)
    return deliveries


async def _heard_soon(delays: Delays) -> None:
    loop, bus = asyncio.get_running_loop(), _bus()
    late: list[float] = []

    async def read(subscription: Subscription) -> None:
        for _ in range(4):
            for delivery in await subscription.receive(1, wait_s=10.0):
                assert isinstance(delivery.message, Note)
                late.append(loop.time() - published[delivery.message.n])
                await asyncio.sleep(delays.of(0.0, 0.1, 0.2))
                delivery.ack()

    published: dict[int, float] = {}
    async with bus.subscribe(TOPIC, "readers", "reader") as subscription:
        reader = loop.create_task(read(subscription))
        for n in range(4):
            await asyncio.sleep(delays.of(0.3, 0.0, 0.1))
            published[n] = loop.time()
            await bus.publish(TOPIC, Note(n))
        await reader
    ensure(len(late) == 4 and max(late) < SOON_S, f"four were published and heard of after {late} s")


# Two consumers, one message --------------------------------------------------------------------------


def _settles_again(self: Group, entry: Entry, attempt: int) -> None:
    ledger = entry.queue.ledger
    if not self._holds(entry, attempt):
        ledger.late += 1
    self._hands.release(entry)
    ledger.acked += 1
    self._settle(entry)


def _takes_back_from_anybody(
    self: Group, entry: Entry, attempt: int, now_s: float, delay_s: float | None, error: str | None
) -> None:
    self._return(entry, now_s, delay_s)


async def _handed_on(delays: Delays, *, gives_back: bool) -> None:
    """One consumer is slow, so that another gets its message; both say what became of it."""
    loop, bus = asyncio.get_running_loop(), _bus()
    house = loop.create_task(bus.run_housekeeping())
    until_s: dict[str, float] = {}
    clashes: list[str] = []

    async def read(name: str, takes_s: float) -> None:
        async with bus.subscribe(TOPIC, "readers", name) as subscription:
            for delivery in await subscription.receive(1, wait_s=6.0):
                now_s = loop.time()
                clashes.extend(f"{name} has got what {one} holds" for one in until_s if until_s[one] > now_s)
                until_s[name] = now_s + ACK_S
                await asyncio.sleep(takes_s)
                del until_s[name]
                if gives_back and delivery.attempt == 1:
                    delivery.nack(delay_s=0.0)
                else:
                    delivery.ack()
            await asyncio.sleep(6.0)

    names = ("one", "another", "a third")
    readers = [loop.create_task(read(name, delays.of(0.1, 0.9, 1.5, 3.0))) for name in names]
    await asyncio.sleep(0.1)
    await bus.publish(TOPIC, Note(1))
    await asyncio.gather(*readers)
    house.cancel()
    ensure(not clashes, "; ".join(clashes))
    depth = bus.metrics().depth
    ensure(depth == 0, f"one message was published and settled, and {depth} are on the bus")


# A publisher gives up --------------------------------------------------------------------------------


async def _leaves_its_place_behind(self: MemoryBus, publication: Publication, now_s: float) -> Receipt:
    topic = self._exchange.topic(publication.topic)
    room: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
    topic.park(publication, now_s, lambda answer: None if room.done() else room.set_result(answer))  # type: ignore[arg-type]
    return await room


async def _given_up(delays: Delays) -> None:
    bus, patience_s = _bus(capacity=1), 1.0
    taken: list[int] = []
    withdrawn: list[int] = []

    async def publish(n: int) -> None:
        try:
            async with asyncio.timeout(patience_s):
                await bus.publish(TOPIC, Note(n))
        except TimeoutError:
            withdrawn.append(n)

    async with bus.subscribe(TOPIC, "readers", "reader") as subscription:
        publishers = [asyncio.create_task(publish(n)) for n in range(3)]
        for _ in range(3):
            await asyncio.sleep(delays.of(0.2, 0.9, 1.4))
            for delivery in await subscription.receive(1, wait_s=0.1):
                assert isinstance(delivery.message, Note)
                taken.append(delivery.message.n)
                delivery.ack()
        await asyncio.gather(*publishers)
    both = sorted(set(taken) & set(withdrawn))
    ensure(not both, f"withdrawn by who published it, and delivered: {both}")


# A full mailbox --------------------------------------------------------------------------------------


def _lets_overtake(self: Mailbox, item: object, lane: Lane) -> bool:
    if self.closed:
        self.refuse(item, "the actor is stopped")
        return True
    if self.depth(lane) >= lane.capacity:
        return False
    self._place(item, lane)
    self._wake()
    return True


class Counter(Actor[Note]):
    """Notes what it was told, in its own time."""

    mailbox_size = 2
    overflow = Overflow.WAIT

    def __init__(self, told: list[int], delays: Delays) -> None:
        self._told, self._delays = told, delays

    @handles
    async def on_note(self, note: Note) -> None:
        self._told.append(note.n)
        await self.context.clock.sleep(self._delays.of(0.0, 0.02, 0.05))


async def _told_in_order(delays: Delays) -> None:
    told: list[int] = []
    clock = LoopClock(asyncio.get_running_loop(), wall_ns=0)
    system = ActorSystem(clock, random.Random(0), threads=InlineThreads())
    counter = system.spawn("counter", lambda: Counter(told, delays))
    async with system:
        for n in range(8):
            counter.tell(Note(n))  # it is on its way now, waited for or not
            await asyncio.sleep(delays.of(0.1, 0.0, 0.01))
        await asyncio.sleep(2.0)
    ensure(told == list(range(8)), f"sent one after the other, and heard as {told}")


# A report comes twice --------------------------------------------------------------------------------


_put = Journal._put


def _knows_what_landed(self: Journal, line: Line, report_id: str) -> None:
    _put(self, line, report_id)
    if self._reports.get(report_id) is False:
        del self._reports[report_id]


async def _taken_once(delays: Delays) -> None:
    journal = Journal(scribe=SimulatedScribe(lambda: delays.of(0.01, 0.1, 0.3)))
    report = FieldReport("r1", "c1", "run", "", "", FieldReportOutcome.NEUTRAL, {}, 3, 0, "none")
    new = 0
    for n in range(2):
        new += journal.write(Line(n, topics.FIELD_REPORT, f"r1~{n}", report))
        await asyncio.sleep(delays.of(0.5, 0.0, 0.1, 0.25))
    await asyncio.sleep(1.0)
    ensure(new == 1, f"one report was taken for a new one {new} times")


RACES = (
    Race(
        "wake-up of a subscription",
        "the queue is not looked at again before its consumer goes to sleep",
        MemorySubscription,
        "_first",
        _sleeps_after_a_look,
        scene(_heard_soon),
        "heard of after",
        9,
    ),
    Race(
        "acknowledged by two",
        "an acknowledgement is taken without a look whether there was one already",
        Group,
        "ack",
        _settles_again,
        scene(partial(_handed_on, gives_back=False)),
        "-1 are on the bus",
        0,
    ),
    Race(
        "given back by who lost it",
        "a message is taken back from a consumer that does not hold it any more",
        Group,
        "nack",
        _takes_back_from_anybody,
        scene(partial(_handed_on, gives_back=True)),
        "holds",
        1,
    ),
    Race(
        "publisher that gave up",
        "who stops waiting for room leaves his place in the line",
        MemoryBus,
        "_wait_for_room",
        _leaves_its_place_behind,
        scene(_given_up),
        "withdrawn by who published it, and delivered",
        0,
    ),
    Race(
        "overtaken in a full mailbox",
        "a free slot is taken without a look whether somebody waits for it",
        Mailbox,
        "_placed",
        _lets_overtake,
        scene(_told_in_order),
        "sent one after the other, and heard as",
        5,
    ),
    Race(
        "report that comes again",
        "a report is known only once it is on the disk",
        Journal,
        "_put",
        _knows_what_landed,
        scene(_taken_once),
        "was taken for a new one 2 times",
        3,
    ),
)
