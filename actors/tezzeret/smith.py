"""Makes what is wanted, kernel by kernel, and publishes it: Tezzeret's acting half.

    prefetch ──▶ inbox ──▶ foreman's thread: store, agenda ──tasks──▶ benches (at most two) ──▶ sandboxes
                   ▲              │                                      │
                   └──────────────┼──────────── finished ◀───────────────┘
                                  └──▶ announce: ready, error, catalogue update, standing

The store and the agenda are used by the foreman's thread alone. What is wanted and what is made lies in the
store, durably; the agenda only orders it. So a smith may be killed at any moment: the next one goes on with
what is still wanted. Whatever a blueprint does to its process is a failure of that one kernel; that there is
no process is none of any kernel's, and nothing is written down about it. While the store can't be used, what
was to be done to it is kept and done again.

The list of what is wanted is believed no more than a request is: all that is begun passes `_refusal` first.
"""

import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from typing import Final, TypeAlias

import msgspec

from actors.tezzeret.bench import Finished
from actors.tezzeret.benches import Benches
from actors.tezzeret.failures import Closed, JobRaised, NotStarted, SandboxFailed, Unconfined
from actors.tezzeret.frames import BadFrame
from actors.tezzeret.orders import BadDelivery
from actors.tezzeret.shop import Announce, Shop, Standing, Store, error, ready, update
from contracts.kernels import Certificate, KernelSpec, Strategy
from esper.breaker import Breaker
from esper.karn.blueprint import BlueprintError
from esper.karn.catalogue import UnknownBlueprint
from esper.tezzeret import admission
from esper.tezzeret.agenda import Agenda, Task
from esper.tezzeret.forge import RANK, Forged, draw, unexamined
from esper.urza.errors import Unavailable, Unfit

log = logging.getLogger(__name__)

STORE_REST_S: Final = 2.0
"""Seconds until a store that couldn't be used is tried again."""
WAIT_S_MIN: Final = 0.05
"""Shortest wait for something to become due."""
_JUDGED: Final = (JobRaised, BadDelivery, BadFrame, UnknownBlueprint, BlueprintError, Unfit)
"""Failures that another attempt would only repeat."""
_NO_PROCESS: Final = (NotStarted, Unconfined, OSError)
"""Failures to have a process at all; an OSError is one of the pipes and folders on this side."""
_Note: TypeAlias = Callable[[Store], None]


class Smith:
    """Runs from `start` to `stop`, once; its methods may be called from any thread, and only `stop` waits.

    `announce` is called from the foreman's thread.
    """

    def __init__(
        self,
        open_store: Callable[[], Store],
        shop: Shop,
        stream: random.Random,
        announce: Announce,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.standing = Standing()
        self._open_store = open_store
        self._shop = shop
        self._announce = announce
        self._now = now
        self._agenda = Agenda(
            shop.policy, stream, lambda: Breaker(shop.breaker.failures_max, shop.breaker.open_s)
        )
        self._benches = Benches(shop)
        self._inbox: queue.SimpleQueue[_Note] = queue.SimpleQueue()
        self._undone: _Note | None = None  # taken from the inbox, and the store was not to be had
        self._remembers = False
        self._no_store = ""  # why it took nothing since
        self._no_process = ""  # why there was none when one was needed last
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._live, name="tezzeret smith", daemon=True)

    def start(self) -> None:
        """Take up what the store says is wanted."""
        self._thread.start()

    def prefetch(self, specs: Sequence[KernelSpec]) -> None:
        """These are wanted, in order of likely use, ahead of all that waits.

        Each is announced as ready, now or later, or as an error.
        """
        self._inbox.put(partial(self._take_orders, tuple(specs)))

    def conserve(self, on: bool) -> None:
        """Begin only one thing at a time, and do least for it; or no longer."""
        self._inbox.put(partial(self._set_conservative, on))

    def stop(self, timeout_s: float) -> bool:
        """Kill what runs and end; False if the thread had not ended by then. The unfinished stays wanted."""
        self._stopping.set()
        self._inbox.put(lambda store: None)
        self._benches.close()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # The foreman's thread ---------------------------------------------------------------------------

    def _live(self) -> None:
        try:
            self._work()
        except Exception as broken:
            log.exception("the smith broke")
            self._benches.close()
            self.standing = msgspec.structs.replace(
                self.standing, broken=f"{type(broken).__name__}: {broken}"
            )
            self._announce(self.standing)

    def _work(self) -> None:
        self._benches.tidy()
        while not self._stopping.is_set():
            opened = False
            try:
                with closing(self._open_store()) as store:
                    opened = True
                    self._agenda.want(self._forgotten(store))
                    while not self._stopping.is_set():
                        self._turn(store)
            except Unavailable as unavailable:
                log.warning("the kernel store can't be used: %s", unavailable)
                self._no_store = str(unavailable) if opened else self._no_store
                self._tell_standing()
                self._stopping.wait(STORE_REST_S)

    def _forgotten(self, store: Store) -> tuple[KernelSpec, ...]:
        """What the store wants when it is opened first; later the agenda knows, and in which order."""
        if self._remembers:
            return ()
        wanted = store.wanted()
        self._remembers = True
        return wanted

    def _turn(self, store: Store) -> None:
        task = self._agenda.begin(self._now())
        if task is not None:
            self._set_about(store, task)
        self._tell_standing()
        self._undone = self._undone or self._next_note(wait=task is None)
        if self._undone is not None:
            self._undone(store)
            self._undone = None

    def _next_note(self, *, wait: bool) -> _Note | None:
        try:
            return self._inbox.get(timeout=self._wait_s()) if wait else self._inbox.get_nowait()
        except queue.Empty:
            if wait and self._agenda.rest_s(self._now()) is None and not self._benches.busy:
                self._benches.let_go()
            return None

    def _wait_s(self) -> float | None:
        """Seconds after which something is due; None if only a note brings anything."""
        rest_s = self._agenda.rest_s(self._now())
        if rest_s is not None:
            return max(rest_s, WAIT_S_MIN)
        return self._shop.idle_s if self._benches.hired and not self._benches.busy else None

    # What is done -----------------------------------------------------------------------------------

    def _set_about(self, store: Store, task: Task) -> None:
        try:
            refusal = self._refusal(task.spec)
            if refusal:
                self._turn_away(store, task, refusal)
            else:
                self._make(store, task)
        except Unavailable:
            self._agenda.withdrawn(task.spec)
            raise
        except _JUDGED as judged:
            self._fail(task, judged)

    def _refusal(self, spec: KernelSpec) -> str:
        """Why this is not made here; empty if it is."""
        return admission.refusal(self._shop.catalogue, spec.design, self._shop.approved)

    def _turn_away(self, store: Store, task: Task, refusal: str) -> None:
        """No verdict: what only lacks approval stays wanted, as another run may have it."""
        if admission.is_refused_everywhere(self._shop.catalogue, task.spec.design):
            store.withdraw((task.spec,))
        self._agenda.refused(task.spec)
        self._announce(error(task.spec, refusal))

    def _make(self, store: Store, task: Task) -> None:
        certificate = self._known(store, task)
        if certificate is not None:
            forged = draw(task.spec, certificate, self._shop.catalogue)
            self._publish(store, task, forged, drawn=True)
        elif not self._benches.begin(task, lambda made: self._inbox.put(partial(self._finish, made))):
            self._agenda.withdrawn(task.spec)

    def _known(self, store: Store, task: Task) -> Certificate | None:
        """What makes an export needless: the design's certificate, or that none is to be had."""
        design = task.spec.design
        if task.strategy is Strategy.EMERGENCY:
            return unexamined(design, task.strategy, self._shop.catalogue)
        known = store.certificate(design)
        return known if known is not None and RANK[known.strategy] >= RANK[task.strategy] else None

    def _finish(self, finished: Finished, store: Store) -> None:
        task, outcome = finished.task, finished.outcome
        self._benches.free(finished)
        if isinstance(outcome, Closed):
            self._agenda.withdrawn(task.spec)
            return
        if isinstance(outcome, _NO_PROCESS):
            self._do_without(task, outcome)
            return
        self._no_process = ""
        if isinstance(outcome, Forged):
            try:
                self._publish(store, task, outcome, drawn=False)
            except Unfit as unfit:
                self._fail(task, unfit)
        else:
            self._fail(task, outcome)

    def _do_without(self, task: Task, why: BaseException) -> None:
        """No process took the task. It stays wanted; nothing is told of its kernel, and nothing written."""
        for_good = isinstance(why, Unconfined)
        self._agenda.unstarted(task.spec, self._now(), for_good=for_good)
        if not self._no_process:
            follows = "plain modules stand in, marked" if for_good else "it is tried again"
            log.warning("no process makes kernels: %s; %s", why, follows)
        self._no_process = str(why)

    def _publish(self, store: Store, task: Task, forged: Forged, *, drawn: bool) -> None:
        ref = store.publish(task.spec, forged.certificate, forged.weights, forged.program)
        self._no_store = ""
        self._agenda.done(task.spec, drawn=drawn)
        self._announce(update(task.spec, ref, forged.certificate))
        self._announce(ready(task.spec, ref, forged.certificate))

    def _fail(self, task: Task, failure: BaseException) -> None:
        expected = isinstance(failure, (*_JUDGED, SandboxFailed))
        reason = (
            str(failure) if isinstance(failure, SandboxFailed) else f"{type(failure).__name__}: {failure}"
        )
        log.warning(
            "kernel %s of %s failed: %s",
            task.spec.key[:12], task.spec.design.blueprint_id, reason,
            exc_info=None if expected else failure,
        )  # fmt: skip
        lost = self._agenda.failed(task.spec, reason, self._now(), compiler_well=isinstance(failure, _JUDGED))
        if not lost:
            self._inbox.put(lambda store: store.failed(task.spec, reason, final=False))
        for spec in lost:
            self._inbox.put(partial(self._give_up, spec, reason))

    def _give_up(self, spec: KernelSpec, reason: str, store: Store) -> None:
        store.failed(spec, reason, final=True)
        self._announce(error(spec, reason))

    # What is told -----------------------------------------------------------------------------------

    def _take_orders(self, specs: tuple[KernelSpec, ...], store: Store) -> None:
        wanted = []
        for spec in specs:
            if self._stopping.is_set():
                return
            refusal = self._refusal(spec)
            if refusal:
                self._announce(error(spec, refusal))
            elif store.want(spec) or not self._answered(spec, store):
                wanted.append(spec)
        self._agenda.want(wanted)

    def _answered(self, spec: KernelSpec, store: Store) -> bool:
        """It is there, or was given up.

        Otherwise the list of what is wanted is full, which is no fault of the kernel's: it is made all the
        same, and only forgotten if this smith ends before.
        """
        ref, certificate = store.find(spec), store.certificate(spec.design)
        if ref is not None and certificate is not None:
            self._announce(ready(spec, ref, certificate))
            return True
        reason = store.given_up().get(spec.design.key)
        if reason is not None:
            self._announce(error(spec, reason))
        return reason is not None

    def _set_conservative(self, on: bool, store: Store) -> None:
        self._agenda.conservative = on

    def _tell_standing(self) -> None:
        trouble = self._no_store or self._no_process
        standing = Standing(self._agenda.progress(), self._agenda.conservative, trouble)
        if standing != self.standing:
            self.standing = standing
            self._announce(standing)
