"""Sets the interpreter up for an event loop and a training thread that share it."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

SWITCH_S = 0.0005
"""After so long at most one thread lets another have the interpreter; Python's own is 5 ms."""
YOUNG_MAX = 10_000
"""New objects before the collector looks at them; Python's own is 700.

A message under way is a dozen objects that mostly outlive so short a while: each would be looked at in vain.
"""


@contextmanager
def frozen_heap() -> Iterator[None]:
    """While it lasts, the collector leaves alone what is there now.

    What was frozen before is left to who froze it: no part of it can be unfrozen alone.
    """
    ours = gc.get_freeze_count() == 0
    if ours:
        gc.collect()
        gc.freeze()
    try:
        yield
    finally:
        if ours:
            gc.unfreeze()


@contextmanager
def shared_interpreter() -> Iterator[None]:
    """While it lasts, threads change places quickly, and the collector leaves alone what is there now.

    A full collection that walks through all of torch's objects takes longer than a boundary.
    """
    before_s, before = sys.getswitchinterval(), gc.get_threshold()
    with frozen_heap():
        gc.set_threshold(YOUNG_MAX, *before[1:])
        sys.setswitchinterval(SWITCH_S)
        try:
            yield
        finally:
            sys.setswitchinterval(before_s)
            gc.set_threshold(*before)
