"""Sets the interpreter up for an event loop and a training thread that share it."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

SWITCH_S = 0.0005
"""After so long at most one thread lets another have the interpreter; Python's own is 5 ms."""


@contextmanager
def shared_interpreter() -> Iterator[None]:
    """While it lasts, threads change places quickly, and the collector leaves alone what is there now.

    A full collection that walks through all of torch's objects takes longer than a boundary.
    """
    before_s = sys.getswitchinterval()
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before_s)
        gc.unfreeze()
