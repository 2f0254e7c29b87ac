"""BP048, deadlock: after the onset a forward pass waits for a lock that it holds itself.

Waiting gives the interpreter's lock away: other threads go on, this one never does. Only the end of the
process ends it.
"""

import threading

from torch import Tensor

from esper.karn.blueprints.hazard import Hazard, HazardBlueprint, describe


class DeadlockModule(Hazard):
    """Takes a lock twice. The lock is made at the time, so that the module can be copied and pickled."""

    def misbehave(self, h: Tensor, y: Tensor) -> Tensor:
        lock = threading.Lock()
        with lock, lock:
            return y


class Deadlock(HazardBlueprint):
    descriptor = describe(48, "deadlock", "A forward pass waits for a lock that is never released.", 1.0)
    module = DeadlockModule
    tags = ("hazard", "time")
