"""Scrapes answered between boundaries: text rendered when asked for, and kept for a moment.

```
scrape ─▶ kept text young enough? ─▶ answer
               │ no
               ▼
          boundary? ─ wait for its end, bounded ─▶ too long: the kept text if it isn't stale, else NoText
               │ no
               ▼
          render a slice of 2 ms, pause 1 ms, look for a boundary again …
```

A run that nobody scrapes renders nothing at all. Rendering holds the interpreter for some
milliseconds, in which the training thread stands still: hence the slices and the pauses. A boundary
that begins during a slice ends it: it shares the interpreter with the rest of one piece.
"""

import asyncio
from collections.abc import Callable

from actors.nissa.prometheus import Page
from actors.nissa.reading import Reading
from actors.runtime.clock import Clock

SLICE_S = 0.002
"""Work after which a rendering pauses."""
PAUSE_S = 0.001
"""Shorter pauses don't let the training thread in."""
BOUNDARY_POLL_S = 0.005
BOUNDARY_WAIT_S = 1.0
"""How long a scrape waits, in all, for boundaries to end."""
STALE_AFTER_S = 60.0
"""Older text is not given out, even in a boundary that doesn't end."""


class NoText(RuntimeError):
    """A boundary would not end, and there is no text young enough to answer with."""


class Exporter:
    """The metrics of one run as text in the format of Prometheus.

    `boundary_active` says whether the training loop stands in a boundary now; `take` reads all there
    is to show. Both are called on the event loop.
    """

    def __init__(
        self,
        take: Callable[[], Reading],
        boundary_active: Callable[[], bool],
        clock: Clock,
        render_every_s: float,
    ) -> None:
        self._page = Page(take)
        self._boundary_active = boundary_active
        self._clock = clock
        self._render_every_s = render_every_s
        self._turn = asyncio.Lock()
        self._closed = False
        self._text: bytes | None = None
        self._rendered_s = 0.0

    async def text(self) -> bytes:
        """The metrics, rendered at most `render_every_s` ago unless boundaries leave no room for it.

        Raises:
            NoText: no room was found within `BOUNDARY_WAIT_S`, and the last text is stale.
        """
        give_up_s = self._clock.monotonic() + BOUNDARY_WAIT_S
        async with self._turn:
            answer = self._kept(self._render_every_s)
            if answer is None:
                answer = await self._render(give_up_s) or self._kept(STALE_AFTER_S)
        if answer is None:
            raise NoText(
                f"no metrics: a boundary has lasted {BOUNDARY_WAIT_S:g} s; try again when it is over"
            )
        return answer

    def close(self) -> None:
        """Give up the instruments; who waits for a boundary to end is answered, nothing more is rendered."""
        self._closed = True
        self._page.close()

    def _kept(self, age_s_max: float) -> bytes | None:
        young = self._clock.monotonic() - self._rendered_s < age_s_max
        return self._text if young else None

    async def _render(self, give_up_s: float) -> bytes | None:
        """Render in slices outside boundaries; None if there was no room before `give_up_s`."""
        if not await self._boundary_over(give_up_s):
            return None
        pieces: list[bytes] = []
        work_s, since_s = 0.0, self._clock.monotonic()
        for piece in self._page.render():
            pieces.append(piece)
            spent_s = self._clock.monotonic() - since_s
            if spent_s < SLICE_S and not self._boundary_active():
                continue
            work_s += spent_s
            await self._clock.sleep(PAUSE_S)
            if not await self._boundary_over(give_up_s):
                return None
            since_s = self._clock.monotonic()
        self._page.reading.run.render.record(work_s + self._clock.monotonic() - since_s)
        self._text, self._rendered_s = b"".join(pieces), self._clock.monotonic()
        return self._text

    async def _boundary_over(self, give_up_s: float) -> bool:
        """Wait until no boundary is active; False if that lasts beyond `give_up_s`, or this is closed."""
        while self._boundary_active() and not self._closed:
            if self._clock.monotonic() >= give_up_s:
                return False
            await self._clock.sleep(BOUNDARY_POLL_S)
        return not self._closed
