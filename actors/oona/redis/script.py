"""The script that does the bus's bookkeeping inside Redis: the files of `lua/`, joined in their order.

One script rather than many, so that a batch of operations is one atomic round trip.
"""

from importlib.resources import files
from typing import Final

ORDER: Final = (
    "keys",
    "writes",
    "state",
    "hands",
    "queue",
    "conservative",
    "publish",
    "consume",
    "members",
    "house",
    "letters",
    "shown",
    "batch",
)


def _joined() -> str:
    folder = files("actors.oona.redis") / "lua"
    return "\n".join((folder / f"{name}.lua").read_text(encoding="utf-8") for name in ORDER)


SCRIPT: Final = _joined()
