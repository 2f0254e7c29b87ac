"""The bus on a real server does, step by step, what the simple model says; its ledger closes."""

import asyncio
from contextlib import AsyncExitStack
from functools import partial

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from actors.oona.bus import Delivery, Receipt, Subscription
from actors.oona.errors import ConservativeModeError, RefusedError
from actors.oona.ledger import GroupLedger
from actors.oona.metrics import BusMetrics
from actors.oona.policy import BusConfig, Overflow, TopicPolicy
from actors.oona.priority import Lane, Priority
from tests.actors.oona.model import NORMAL, URGENT, Copy, Model
from tests.actors.oona.redis_rig import redis_bus
from tests.actors.oona.redis_server import RedisServer
from tests.actors.oona.rig import HandClock, Note, Rig
from tests.actors.oona.test_model import FATES, GROUPS, configs, counts, indexes, policies


class RedisMachine(RuleBasedStateMachine):
    def __init__(self, server: RedisServer) -> None:
        super().__init__()
        self.server = server
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.parked: dict[str, asyncio.Task[Receipt]] = {}

    @initialize(policy=policies, config=configs)
    def begin(self, policy: TopicPolicy, config: BusConfig) -> None:
        self.clock = HandClock()
        self.keys = 0
        self.rig: Rig = self.runner.run(self._open(policy, config))
        self.model = Model(policy, config, by_number=True, at_once=False)
        self.members: dict[str, Subscription] = {}
        for name in GROUPS:
            self.members[name] = self.rig.bus.subscribe("t", name, "a")
        self.delivered: list[tuple[str, Delivery, Copy]] = []

    async def _open(self, policy: TopicPolicy, config: BusConfig) -> Rig:
        return await self.stack.enter_async_context(
            redis_bus(self.server, {"t": policy}, config, clock=self.clock)
        )

    def teardown(self) -> None:
        self.runner.run(self._end())
        self.runner.close()

    async def _end(self) -> None:
        await self.stack.aclose()
        await asyncio.gather(*self.parked.values(), return_exceptions=True)

    @property
    def now(self) -> float:
        return self.clock.now_s

    # Publishing

    @rule(priority=st.sampled_from(Priority), ttl=st.sampled_from([None, 2.0, 20.0]))
    def publish(self, priority: Priority, ttl: float | None) -> None:
        self.keys += 1
        self._publish(str(self.keys), priority, ttl)

    @precondition(lambda self: self.model.seen and not self.model.parked)
    @rule(index=indexes, priority=st.sampled_from(Priority))
    def publish_again(self, index: int, priority: Priority) -> None:
        seen = sorted(self.model.seen)
        self._publish(seen[index % len(seen)], priority, None)

    def _publish(self, key: str, priority: Priority, ttl: float | None) -> None:
        ttl_s = self.model.policy.ttl_s if ttl is None else ttl
        expires_s = None if ttl_s is None else self.now + ttl_s
        want = self.model.publish(key, int(priority), expires_s, self.now)
        task = self.runner.run(self._started(key, priority, ttl))
        if want is not None:
            assert fate_of(task) == want
        elif self.model.park(key, int(priority), expires_s, self.now):
            self.parked[key] = task
        else:
            assert fate_of(task) == "refused"

    async def _started(self, key: str, priority: Priority, ttl: float | None) -> asyncio.Task[Receipt]:
        publishing = self.rig.bus.publish("t", Note(0), priority=priority, event_id=key, ttl_s=ttl)
        return await self.rig.start(publishing)

    @precondition(lambda self: self.model.parked)
    @rule(index=indexes)
    def cancel_a_parked_publisher(self, index: int) -> None:
        key = self.model.parked[index % len(self.model.parked)][0]
        self.parked.pop(key).cancel()
        self.model.unpark(key)
        self._settle()

    # Consuming

    @rule(name=st.sampled_from(GROUPS), limit=st.integers(1, 4))
    def take(self, name: str, limit: int) -> None:
        want = self.model.take(name, limit, self.now)
        taken = self.runner.run(self.members[name].receive(limit, wait_s=0))
        assert [delivery.event_id for delivery in taken] == [copy.key for copy in want]
        self.delivered += [(name, *each) for each in zip(taken, want, strict=True)]
        self._settle()

    @precondition(lambda self: self.delivered)
    @rule(index=indexes)
    def ack(self, index: int) -> None:
        name, delivery, copy = self.delivered[index % len(self.delivered)]
        self._say(delivery.ack)
        self.model.ack(name, copy)

    @precondition(lambda self: self.delivered)
    @rule(index=indexes, delay=st.sampled_from([None, 0.0, 1.5]), error=st.sampled_from([None, "no"]))
    def nack(self, index: int, delay: float | None, error: str | None) -> None:
        name, delivery, copy = self.delivered[index % len(self.delivered)]
        self._say(partial(delivery.nack, delay, error))
        self.model.nack(name, copy, delivery.attempt, delay, self.now)

    @precondition(lambda self: self.delivered)
    @rule(index=indexes, deadline=st.sampled_from([1.0, 9.0]))
    def extend(self, index: int, deadline: float) -> None:
        _, delivery, copy = self.delivered[index % len(self.delivered)]
        self._say(partial(delivery.extend, deadline))
        self.model.extend(copy, delivery.attempt, self.now + deadline)

    @rule(name=st.sampled_from(GROUPS))
    def leave_and_come_back(self, name: str) -> None:
        self._say(self.members[name].close)
        self.model.leave(name, self.now)
        self._say(partial(self._subscribe, name))

    def _subscribe(self, name: str) -> None:
        self.members[name] = self.rig.bus.subscribe("t", name, "a")

    @precondition(lambda self: any(group.dead for group in self.model.groups.values()))
    @rule(index=indexes)
    def replay(self, index: int) -> None:
        letters = list(self.runner.run(self.rig.bus.dead_letters.list()))
        if not letters:
            return
        letter = letters[index % len(letters)]
        self.clock.now_s += 0.01
        ttl = self.model.policy.ttl_s
        want = self.model.replay(letter.group, letter.event_id, None if ttl is None else self.now + ttl)
        try:
            self.runner.run(self.rig.bus.dead_letters.replay(letter.letter_id))
            assert want
        except RefusedError:
            assert not want

    @rule(seconds=st.sampled_from([0.5, 1.0, 6.0]))
    def let_pass(self, seconds: float) -> None:
        self.clock.now_s += seconds
        self.runner.run(self.rig.bus.keep_house())
        self.model.tick(self.now)
        self._settle()

    def _say(self, what: "partial[None] | object") -> None:
        async def said() -> None:
            assert callable(what)
            what()
            await self.rig.settle()

        self.runner.run(said())

    def _settle(self) -> None:
        self.runner.run(self.rig.settle())

    # What always holds

    @invariant()
    def every_message_is_accounted_for(self) -> None:
        metrics: BusMetrics = self.runner.run(self.rig.metrics())
        assert metrics.closes()
        assert metrics.depth == self.model.depth()
        assert metrics.conservative == self.model.conservative
        for name in GROUPS:
            model = self.model.groups[name]
            for lane, model_lane in ((Lane.URGENT, URGENT), (Lane.NORMAL, NORMAL)):
                ledger = ledger_of(metrics, name, lane)
                assert counts(ledger) == {fate: model.fates[model_lane][fate] for fate in FATES}
                assert ledger.pending == model.pending(model_lane)
        self._check_bounds(metrics)

    def _check_bounds(self, metrics: BusMetrics) -> None:
        policy = self.model.policy
        for name in GROUPS:
            assert ledger_of(metrics, name, Lane.NORMAL).pending_max <= policy.capacity
            assert ledger_of(metrics, name, Lane.URGENT).pending_max <= policy.urgent_capacity
        assert metrics.topics[0].parked == len(self.model.parked) <= policy.parked_max

    @invariant()
    def parked_publishers_are_answered_alike(self) -> None:
        waiting = {key for key, *_ in self.model.parked}
        for key, task in self.parked.items():
            assert task.done() == (key not in waiting)
            if task.done():
                assert fate_of(task) == self.model.answers[key]


def ledger_of(metrics: BusMetrics, group: str, lane: Lane) -> GroupLedger:
    (row,) = [row for row in metrics.groups if (row.group, row.lane) == (group, lane)]
    return row.ledger


def fate_of(task: asyncio.Task[Receipt]) -> str:
    assert task.done()
    error = task.exception()
    if error is None:
        return task.result().outcome.value
    assert isinstance(error, RefusedError)
    return "shed" if isinstance(error, ConservativeModeError) else "refused"


LITTLE, MUCH = (
    settings(max_examples=12, stateful_step_count=30),
    settings(max_examples=60, stateful_step_count=40),
)


def test_who_comes_in_for_what_is_too_old_stays_until_the_next_look_however_old(
    redis_server: RedisServer,
) -> None:
    """In a group that had room all the time too."""
    made = RedisMachine(redis_server)
    policy = TopicPolicy(
        groups=GROUPS, capacity=1, overflow=Overflow.WAIT, attempts_max=1, wait_max_s=3.0, stall_after_s=None
    )
    made.begin(policy=policy, config=BusConfig())
    try:
        made.publish(priority=Priority.NORMAL, ttl=2.0)
        made.take(name="h", limit=1)
        made.leave_and_come_back(name="h")  # it was given up there, and the group has room
        made.publish(priority=Priority.NORMAL, ttl=2.0)
        for pending in ([1, 0], [1, 1], [0, 0]):
            made.let_pass(seconds=1.0)
            made.every_message_is_accounted_for()
            made.parked_publishers_are_answered_alike()
            assert [made.model.groups[name].pending(NORMAL) for name in GROUPS] == pending
    finally:
        made.teardown()


@pytest.mark.parametrize("much", [LITTLE, pytest.param(MUCH, marks=pytest.mark.slow)], ids=["little", "much"])
def test_the_bus_on_redis_does_what_the_model_says(redis_server: RedisServer, much: settings) -> None:
    run_state_machine_as_test(lambda: RedisMachine(redis_server), settings=much)
