"""How long a test waits for what comes at once on an idle machine, and a bus that waits as long."""

from typing import Final

from actors.oona.redis.options import RedisOptions

PATIENCE_S: Final = 120.0
"""What has not come by then does not come; less than pytest's own limit."""
PATIENT: Final = RedisOptions(deadline_s=PATIENCE_S, drain_s=PATIENCE_S, dead_after_s=10 * PATIENCE_S)
"""For tests in which the server is well: nothing passes a deadline because the machine is busy."""
