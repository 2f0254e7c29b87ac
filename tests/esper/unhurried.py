"""`python -m esper.run`, which gives nothing up because the machine is slow: for tests in which all is well.

python -m tests.esper.unhurried words of esper.run…
"""

import importlib
import sys
from typing import Final

from esper.run import main
from tests.actors.oona.patience import PATIENCE_S, PATIENT

TIMES: Final = (
    ("actors.oona.redis.bus", "RedisOptions", lambda: PATIENT),
    ("actors.oona.redis.server", "RedisOptions", lambda: PATIENT),
    ("actors.oona.redis.registry", "DEADLINE_S", PATIENCE_S),
    ("actors.company", "DRAIN_S", PATIENCE_S),
)
"""What stands in place of a time that a run or an observer has: module, name and value."""


def take_time() -> None:
    """Let this process have them."""
    for module, name, value in TIMES:
        setattr(importlib.import_module(module), name, value)


if __name__ == "__main__":
    take_time()
    sys.exit(main(sys.argv[1:]))
