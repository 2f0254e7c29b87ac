"""The script that does the bus's bookkeeping inside Redis: the files of `lua/`, joined in their order.

One script rather than many, so that a batch of operations is one atomic round trip.
"""

from importlib.resources import files
from typing import Final

FOUNDATION: Final = ("keys", "writes", "state")
REST: Final = (
    "entries",
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
    """The rest stands in a function of its own, which may use 60 names of the foundation.

    What a function takes from two levels further out, Lua need not search for when it makes the function, as
    it does for every batch.
    """
    return f"{_text(FOUNDATION)}\nreturn (function()\n{_text(REST)}\nend)()\n"


def _text(names: tuple[str, ...]) -> str:
    folder = files("actors.oona.redis") / "lua"
    return "\n".join((folder / f"{name}.lua").read_text(encoding="utf-8") for name in names)


SCRIPT: Final = _joined()
