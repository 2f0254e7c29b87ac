"""Keeps one actor alive: restarts it when it fails, with growing pauses, and in the end gives up."""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable
from typing import Any

import anyio
import msgspec

from actors.runtime.actor import Actor, ActorContext
from actors.runtime.clock import Clock
from actors.runtime.desk import Desk
from actors.runtime.errors import ActorRestarting, ActorStopped, StrayCancellation
from actors.runtime.ref import ActorRef
from actors.runtime.runner import Runner, cancelled_from_outside
from actors.runtime.snapshot import ActorState
from actors.runtime.threads import Threads

log = logging.getLogger(__name__)

ON_STOP_S = 2.0
"""Seconds that `on_stop` may take before it is cancelled."""
CANCEL_S = ON_STOP_S + 1.0
"""Seconds that a cancelled actor may take to end before it is left behind."""


class RestartPolicy(msgspec.Struct, frozen=True):
    """`restarts_max` restarts within `window_s` seconds; one more failure is for good.

    The pause before a restart doubles with each failure in the window, from `backoff_s_min` to
    `backoff_s_max`, and is stretched by up to a tenth at random so that actors don't restart in step.
    """

    restarts_max: int = 3
    window_s: float = 60.0
    backoff_s_min: float = 0.1
    backoff_s_max: float = 5.0

    def backoff_s(self, failures: int, stream: random.Random) -> float:
        """Seconds to wait after the `failures`-th failure in the window, counted from 1."""
        pause_s = self.backoff_s_min * 2.0 ** min(failures - 1, 32) * (1 + 0.1 * stream.random())
        return min(self.backoff_s_max, pause_s)


class Escalated(msgspec.Struct, frozen=True):
    """An actor has failed for good. The run goes on without it; if it was critical, growth should freeze."""

    actor: str
    critical: bool
    restarts: int
    error: str
    at_wall_ns: int


class Surroundings(msgspec.Struct, frozen=True):
    """What supervisor and actor get from their system."""

    clock: Clock
    random: random.Random
    threads: Threads
    desk: Desk
    escalate: Callable[[Escalated], None]


class Supervisor:
    """One actor's life, from its start to its stop, across restarts."""

    def __init__(
        self,
        ref: ActorRef[Any],
        runner: Runner,
        factory: Callable[[], Actor[Any]],
        first: Actor[Any],
        policy: RestartPolicy,
        around: Surroundings,
    ) -> None:
        self.name = ref.name
        self.runner = runner
        self.critical = first.critical
        self.asks = first.asks
        self.state = ActorState.NEW
        self.restarts = 0
        self.last_error = ""
        self._ref = ref
        self._factory = factory
        self._first: Actor[Any] | None = first
        self._policy = policy
        self._around = around
        self._failures_s: deque[float] = deque(maxlen=policy.restarts_max + 1)
        self._settled = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        runner.mailbox.no_answer = self._not_answering

    # Start and stop --------------------------------------------------------------------------------

    async def start(self, within_s: float) -> bool:
        """Bring the actor up; False if it failed for good before it ever ran, or takes too long."""
        self.state = ActorState.STARTING
        self._task = self._around.desk.enter(self._run(), self.name, self.asks)
        with anyio.move_on_after(within_s):
            await self._settled.wait()
        return self._settled.is_set() and self.state is not ActorState.ESCALATED

    async def stop(self, drain_s: float) -> None:
        """Handle what is queued for at most `drain_s` seconds, then cancel; bounded in any case."""
        if self._task is None or self._task.done():
            self._end(ActorState.STOPPED)
            return
        idle = self.state in (ActorState.RESTARTING, ActorState.STARTING)
        self.state = ActorState.DRAINING
        self.runner.mailbox.no_answer = self._not_answering
        self.runner.mailbox.close()
        if not idle:
            await asyncio.wait({self._task}, timeout=max(0.0, drain_s))
        if not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=CANCEL_S)
        if not self._task.done():
            log.error("actor %s does not end when cancelled; it is left behind", self.name)
            self._end(ActorState.STOPPED)

    def _not_answering(self) -> Exception:
        if self.state is ActorState.RESTARTING:
            return ActorRestarting(self.name)
        return ActorStopped(self.name, self.state.value)

    # Life ------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            outcome = await self._keep_alive()
        except asyncio.CancelledError:
            outcome = ActorState.STOPPED
        self._end(outcome)

    async def _keep_alive(self) -> ActorState:
        while True:
            try:
                await self._live(self._next_instance())
                return ActorState.STOPPED
            except asyncio.CancelledError:
                if cancelled_from_outside():
                    raise
                error: Exception = StrayCancellation(self.name)
            except Exception as raised:  # noqa: BLE001 - this is the one place where any failure is handled
                error = raised
            if self.state is ActorState.DRAINING:
                log.error("actor %s failed while it stopped", self.name, exc_info=error)
                return ActorState.STOPPED
            if not await self._recover(error):
                return ActorState.ESCALATED

    def _next_instance(self) -> Actor[Any]:
        first, self._first = self._first, None
        return self._factory() if first is None else first

    async def _live(self, actor: Actor[Any]) -> None:
        around = self._around
        actor.context = ActorContext(self._ref, around.clock, around.random, around.threads)
        try:
            await actor.on_start()
            if self.state is not ActorState.DRAINING:
                self.state = ActorState.RUNNING
                self.runner.mailbox.no_answer = None
                self._settled.set()
            try:
                await self.runner.serve(actor)
            finally:
                await self._say_stop(actor)
        finally:
            actor.context.close()

    async def _say_stop(self, actor: Actor[Any]) -> None:
        with anyio.move_on_after(ON_STOP_S) as scope:
            await actor.on_stop()
        if scope.cancelled_caught:
            log.error("on_stop of actor %s took more than %g s and was cancelled", self.name, ON_STOP_S)

    async def _recover(self, error: Exception) -> bool:
        """Wait out the pause before a restart; False if there have been too many."""
        self.last_error = f"{type(error).__name__}: {error}"
        now = self._around.clock.monotonic()
        self._failures_s.append(now)
        failures = sum(now - at <= self._policy.window_s for at in self._failures_s)
        if failures > self._policy.restarts_max:
            log.error("actor %s failed for good after %d restarts", self.name, self.restarts, exc_info=error)
            return False
        self.state = ActorState.RESTARTING
        self.runner.mailbox.no_answer = self._not_answering
        self.runner.mailbox.fail_asks(self._not_answering)
        pause_s = self._policy.backoff_s(failures, self._around.random)
        log.warning("actor %s failed; it restarts in %.2f s", self.name, pause_s, exc_info=error)
        await self._around.clock.sleep(pause_s)
        self.restarts += 1
        return True

    def _end(self, outcome: ActorState) -> None:
        if self.state in (ActorState.STOPPED, ActorState.ESCALATED):
            return
        self.state = outcome
        self.runner.mailbox.no_answer = self._not_answering
        self.runner.mailbox.refuse_all(f"the actor is {outcome.value}")
        self._settled.set()
        if outcome is ActorState.ESCALATED:
            self._around.escalate(
                Escalated(
                    self.name, self.critical, self.restarts, self.last_error, self._around.clock.wall_ns()
                )
            )
