"""The command connection: batches of operations go out one after the other, and one task reads the answers.

    submit ──▶ waiting ──collect──▶ batch ──EVALSHA──▶ answers ──▶ answered()
                  ▲                   │
                  └─ kept while down  └─ no answer in time: the connection is thrown away, a new one is made,
                                         and the same batch is sent again under the same number, which the
                                         script executes once

Two batches may be on their way at a time, so that the server works on one while this process works on the
answers to the other. The second names the first, and is not executed unless the first was.

A server that was started again, or whose data is not what it was, is first told what it must know: what
`on_new_server` returns is sent before anything else goes on.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, Protocol

import msgspec

from actors.oona.errors import BusError, ClosedError, UncertainError, UnreachableError
from actors.oona.redis.address import Address
from actors.oona.redis.batches import Batch, Batches
from actors.oona.redis.call import Call
from actors.oona.redis.connection import LateError, LostError, ScriptGoneError, ServerError
from actors.oona.redis.line import Line
from actors.oona.redis.options import RedisOptions
from actors.oona.redis.server import Facts, unreachable
from actors.oona.redis.wire import Head, Op, Reply, Settings, evalsha, header, reply
from actors.oona.texts import BUS_CLOSED
from contracts.address import masked

_log = logging.getLogger(__name__)

FAILURES_MAX: Final = 6
"""Times that a server may fail at a batch: it is read-only for a while, or out of reach of its replicas, or
its answer does not come in time over this line."""
UNDER_WAY_MAX: Final = 2
"""Batches on their way at a time; the script keeps the answers to so many."""


class Owner(Protocol):
    """The bus, as its link sees it."""

    def now_s(self) -> float: ...

    def on_facts(self, facts: Facts) -> None:
        """Connected; the server said this of itself."""

    def on_head(self, head: Head) -> None:
        """Came with an answer."""

    def on_new_server(self) -> Sequence[Call]:
        """What a server that knows nothing has to be told."""

    def on_up(self) -> None:
        """The server can be reached, and knows what it must."""

    def on_down(self) -> None:
        """It can't be reached any longer."""

    def on_broken(self, error: ClosedError) -> None:
        """The link failed by a mistake in a program and is closed, as the error says."""


class Link:
    """`prefix` of all keys, `client` unlike any other's."""

    def __init__(
        self,
        address: Address,
        prefix: str,
        client: str,
        settings: Settings,
        options: RedisOptions,
        owner: Owner,
    ) -> None:
        self.up = False
        self.closed = False
        self.ending = BUS_CLOSED
        """Why it is closed, once it is."""
        self.since_s = 0.0
        """When it came to be up or down, on the bus's clock."""
        self.reconnects = -1
        self.batches = 0
        """Answered so far."""
        self.given_up = 0
        """Batches that the server could not answer, however often it was asked."""
        self._address = address
        self._prefix = prefix
        self._client = client
        self._settings = settings
        self._options = options
        self._owner = owner
        self._line = Line(address, options)
        self._generation = ""
        self._run_id = ""
        self._introduce = True  # whether the server has to be told what it must know
        self._reason = "it was never reached"
        self._batches = Batches(options)
        self._unheard: deque[tuple[Call, msgspec.Raw]] = deque()  # answered, and not told so yet
        self._pumps = False  # whether what is waiting will be looked at presently
        self._wake: asyncio.Future[None] | None = None
        self._rises: list[asyncio.Future[None]] = []
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop

    # What others call

    @property
    def idle(self) -> bool:
        """Nothing is on its way or waiting for it."""
        return self._batches.idle

    def submit(self, call: Call) -> None:
        """Send it with one of the next batches, in the order of submission or as it may pass; or it fails at
        once."""
        if self.closed or not (self.up or call.keeps):
            call.failed(self._refusal(), sent=False)
            return
        self._batches.waiting.add(call)
        if not self.up:
            self._batches.forget_oldest_order()
        elif not self._pumps:
            self._pumps = True
            self._loop.call_soon(self._pump)

    async def open(self) -> None:
        """Connect for the first time and begin. Raises UnreachableError or BusUnfitError."""
        self._loop = asyncio.get_running_loop()
        try:
            self._connected(await self._line.make())
        except LostError as error:
            raise unreachable(self._address, error) from None
        self._task = asyncio.create_task(self._run(), name="the bus's link to Redis")
        wait_s = 2 * self._options.deadline_s
        if not (await self.risen(wait_s) or await self.risen(self._options.slack_s)):
            await self.close()
            raise unreachable(self._address, LostError(self._reason))

    async def risen(self, wait_s: float) -> bool:
        """Whether it is up, at the latest after `wait_s` seconds."""
        if not self.up and not self.closed:
            rise: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._rises.append(rise)
            await asyncio.wait({rise}, timeout=wait_s)
        return self.up

    async def close(self) -> None:
        """At once; what is on its way fails."""
        self.closed = True
        self._line.end()
        self._rouse()
        if self._task is not None:
            await asyncio.wait({self._task})
            self._task.result()

    # The task

    async def _run(self) -> None:
        try:
            while not self.closed:
                await self._step()
        except Exception as error:  # noqa: BLE001 - whatever it is, who waits is told
            _log.exception("the bus's link to %s failed", self._address.shown)
            why = masked(f"{type(error).__name__}: {error}")
            self.ending = (
                f"the bus is closed: its link to {self._address.shown} failed ({why}); make a new one"
            )
            self._end()
            self._owner.on_broken(ClosedError(self.ending))
        finally:
            self._end()

    def _end(self) -> None:
        """Nothing is answered any more, and nothing taken."""
        self.closed = True
        unheard, self._unheard = self._unheard, deque()
        for call, _ in unheard:
            call.failed(self._uncertain(self.ending), sent=True)
        self._fall(self.ending)
        for call in self._batches.waiting.keep(lambda _: False):
            call.failed(self._refusal(), sent=False)
        self._batches.todo.clear()

    async def _step(self) -> None:
        batches = self._batches
        try:
            if self._line.exchange is None:
                await self._reconnect()
            elif batches.under_way:
                await self._next_answer(batches.todo[0])
            elif batches.todo:
                self._begin()
            elif self._introduce:
                self._begin_introduction()
            elif not self.up:
                self._rise()
                self._pump()
            else:
                await self._something()
        except LostError as error:
            self._fall(str(error))

    async def _something(self) -> None:
        """Until there is something to send, or the end."""
        self._wake = asyncio.get_running_loop().create_future()
        await self._wake
        self._wake = None

    def _rouse(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    # Batches

    def _pump(self) -> None:
        """Send what is waiting, as long as there may be more under way."""
        self._pumps = False
        batches = self._batches
        if (
            not self.up
            or self._introduce
            or self._line.exchange is None
            or batches.under_way < len(batches.todo)
        ):
            return
        while batches.under_way < UNDER_WAY_MAX and batches.collect():
            self._begin()
        self._rouse()

    def _begin(self) -> None:
        """Put the next batch on its way."""
        assert self._line.exchange is not None
        batches = self._batches
        batch = batches.todo[batches.under_way]
        after = batches.todo[batches.under_way - 1].seq if batches.under_way else 0
        batches.under_way += 1
        blobs: list[bytes] = []
        ops: list[Op] = [call.write(blobs) for call in batch.calls]
        now_s = self._owner.now_s()
        head = header(self._client, batch.seq, after, self._generation, now_s, self._settings)
        self._line.exchange.begin(evalsha(self._line.sha, self._prefix, head, ops, blobs))

    def _begin_introduction(self) -> None:
        """What a new server must know goes before all else."""
        self._introduce = False
        self._batches.introduce(self._owner.on_new_server())

    async def _next_answer(self, batch: Batch) -> None:
        """Raises LostError; then the batch stays the first.

        A server whose data was lost executes nothing that names the old generation. So the new one is taken
        over in the same step as the introduction: if the connection breaks before, the batches are sent with
        the old one and the server says so again.
        """
        assert self._line.exchange is not None
        try:
            answer = _answer_to(batch, reply(await self._line.exchange.end()))
        except ScriptGoneError as error:
            await self._bring_script(batch, error)
            return
        except (ServerError, LateError, ValueError) as error:
            self._failed(batch, error)
            return
        if answer.head.status != "ok":
            await self._take_back()
            if answer.head.status == "generation":
                self._generation = answer.head.generation
                self._begin_introduction()
            return
        self._generation = answer.head.generation
        self._batches.answered()
        self.batches += 1
        heavy = self._receive(batch, answer)
        self._owner.on_head(answer.head)
        self._hand_on(len(self._unheard) - heavy, answer.blobs)
        self._pump()
        self._hand_on(heavy, answer.blobs)

    def _receive(self, batch: Batch, answer: Reply) -> int:
        """Put the results in the order in which they are told; returns how many come last, as they are
        heavy."""
        heavy: list[tuple[Call, msgspec.Raw]] = []
        for each in zip(batch.calls, answer.results, strict=True):
            (heavy if each[0].heavy else self._unheard).append(each)
        self._unheard.extend(heavy)
        return len(heavy)

    def _hand_on(self, count: int, blobs: list[bytes]) -> None:
        unheard = self._unheard
        for _ in range(count):
            call, result = unheard[0]
            try:
                call.answered(result, blobs)
            except ValueError as error:  # also what is no text where there should be one
                senseless = f"{self._address.shown} gave an answer without sense: {error}"
                call.failed(UncertainError(senseless), sent=True)
            unheard.popleft()

    async def _take_back(self) -> None:
        """The first was not executed, so neither was what came after it: all of it is to be sent again."""
        assert self._line.exchange is not None
        while self._batches.under_way > 1:
            self._batches.under_way -= 1
            with suppress(ServerError):
                await self._line.exchange.end()
        self._batches.under_way = 0

    async def _bring_script(self, batch: Batch, error: ScriptGoneError) -> None:
        """Raises LostError if somebody removes it all the time."""
        batch.failures += 1
        if batch.failures >= FAILURES_MAX:
            raise LostError(str(error))
        await self._take_back()
        await self._line.bring_script()

    def _failed(self, batch: Batch, error: Exception) -> None:
        """The server can't execute this batch, or does not come to an answer; whether any of it was done,
        nobody can say.

        Raises LostError, so that it is sent again after a rest, unless it has failed too often by then.
        """
        batch.failures += 1
        if batch.introduction or batch.failures < FAILURES_MAX:
            raise LostError(str(error))
        self._batches.answered()
        self.given_up += 1
        self._reason = str(error)
        for call in batch.calls:
            call.given_up(UncertainError(f"{self._address.shown} failed: {error}"))
        if isinstance(error, LateError):
            raise error

    # The connection

    def _connected(self, told: Facts) -> None:
        self._owner.on_facts(told)
        self._introduce = self._introduce or told.run_id != self._run_id
        self._run_id = told.run_id

    async def _reconnect(self) -> None:
        """Raises LostError."""
        if (told := await self._line.make_again()) is not None:
            self._connected(told)

    def _cut(self) -> None:
        self._batches.under_way = 0
        self._line.cut()

    def _rise(self) -> None:
        self.up = True
        self.since_s = self._owner.now_s()
        self.reconnects += 1
        self._line.holds()
        rises, self._rises = self._rises, []
        for rise in rises:
            if not rise.done():
                rise.set_result(None)
        self._owner.on_up()

    def _fall(self, reason: str) -> None:
        """The connection is gone. Who waits for an answer is told; what can wait is kept."""
        self._cut()
        self._reason = reason
        was_up, self.up = self.up, False
        uncertain = self._uncertain(reason)
        for call in list(self._batches.unanswered()):
            call.failed(uncertain, sent=True)
        refusal = self._refusal()
        for call in self._batches.waiting.keep(lambda call: call.keeps):
            call.failed(refusal, sent=False)
        if was_up:
            self.since_s = self._owner.now_s()
            self._owner.on_down()

    def _uncertain(self, reason: str) -> UncertainError:
        return UncertainError(
            f"{self._address.shown} can't say what became of it ({reason}): it may have been taken; publish "
            "it again with the same event id to be sure"
        )

    def _refusal(self) -> BusError:
        if self.closed:
            return ClosedError(self.ending)
        return UnreachableError(
            f"{self._address.shown} can't be reached ({self._reason}); nothing was sent, try again later"
        )


def _answer_to(batch: Batch, answer: Reply) -> Reply:
    """Raises LostError if it answers another batch, so that one on the way was lost, and ValueError if it is
    no answer to this one."""
    if answer.head.batch != batch.seq:
        raise LostError(f"the answer to batch {answer.head.batch} came in place of that to {batch.seq}")
    if answer.head.status == "ok" and len(answer.results) != len(batch.calls):
        raise ValueError(f"{len(answer.results)} results for {len(batch.calls)} operations")
    return answer
