"""What hangs on the host where something has grown: modules and one hook, all of them plain data.

    anchor                       the host's module whose output is the site's
    └─ esper_graft: Graft        there only while the site has a seed
       └─ seeds.{key}: Slot      one a seed, in the order of insertion
          └─ body                the seed itself, f

The site's output h becomes h + alpha·f(h) for each running slot in turn, so that a seed sees what
grew before it. The hook is a function of this module and finds its graft on the module that it is
called for: copies, pickles and exports of the host carry their growth with them.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from esper.kasmina.anchor import SiteError
from esper.kasmina.compiled import notice_hooks

CHILD = "esper_graft"
M = TypeVar("M")


class Slot(nn.Module):
    """One seed in its place: h → h + alpha·f(h).

    `alpha` is a tensor, so that a compiled forward pass survives its changes, and stays out of the
    state dict: what is connected how is a matter of the description, not of the weights.
    """

    alpha: Tensor

    def __init__(self, seed_id: str, body: nn.Module) -> None:
        super().__init__()
        self.seed_id = seed_id
        self.body = body
        self.share = 0.0
        """The value of `alpha` as a number; reading it waits for no device."""
        self.full = False
        """Alpha is 1: the product with it is left out, which changes no bit."""
        self.register_buffer("alpha", torch.zeros(()), persistent=False)

    def forward(self, h: Tensor) -> Tensor:
        contribution: Tensor = self.body(h)
        return h + contribution if self.full else h + self.alpha * contribution

    def mix(self, alpha: float) -> None:
        """Let the seed's contribution count `alpha` times."""
        self.alpha.fill_(alpha)
        self.share = alpha
        self.full = alpha == 1.0


class Graft(nn.Module):
    """All seeds at one anchor, and which of them run."""

    def __init__(self) -> None:
        super().__init__()
        self.seeds = nn.ModuleDict()
        self.running: tuple[Slot, ...] = ()
        self._hook: RemovableHandle | None = None

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The slots in the order of insertion."""
        return tuple(slot for slot in self.seeds.values() if isinstance(slot, Slot))

    def grow(self, h: Tensor) -> Tensor:
        """The site's output with everything that runs added."""
        for slot in self.running:
            h = slot(h)
        return h

    def run(self, anchor: nn.Module, slots: tuple[Slot, ...]) -> None:
        """Let exactly `slots` run, and see to it that the hook is there if there are any."""
        self.running = slots
        if slots and self._hook is None:
            notice_hooks()
            self._hook = anchor.register_forward_hook(grow)

    def rest(self) -> None:
        """Take the hook off if nothing runs: the site costs nothing again."""
        if not self.running and self._hook is not None:
            notice_hooks()
            self._hook.remove()
            self._hook = None

    @contextmanager
    def uprooted(self, anchor: nn.Module, keys: Sequence[str]) -> Iterator[None]:
        """The seeds of `keys`, which do not run, are out of the tree; a graft left empty is too."""
        seeds, children = dict(self.seeds._modules), dict(anchor._modules)
        for key in keys:
            del self.seeds[key]
        if not self.seeds:
            delattr(anchor, CHILD)
        try:
            yield
        finally:
            _refill(self.seeds._modules, seeds)
            _refill(anchor._modules, children)

    def forward(self, *inputs: Tensor) -> Tensor:
        raise SiteError(
            "the host called what grows on it as if it were a layer: its forward runs over its own children; "
            "make one of those children the site"
        )

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Tensor],
        prefix: str,
        local_metadata: dict[str, object],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """A checkpoint that says nothing of a seed leaves the seed as it is."""
        for key, slot in self.seeds.items():
            start = f"{prefix}seeds.{key}."
            if not any(name.startswith(start) for name in state_dict):
                state_dict.update(slot.state_dict(prefix=start, keep_vars=True))
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )


def grow(anchor: nn.Module, inputs: tuple[object, ...], h: Tensor) -> Tensor:
    """The forward hook of every anchor at which a seed runs."""
    graft = anchor.esper_graft
    assert isinstance(graft, Graft)
    return graft.grow(h)


def graft_of(anchor: nn.Module) -> Graft | None:
    """What has grown at `anchor`, if anything."""
    graft = getattr(anchor, CHILD, None)
    return graft if isinstance(graft, Graft) else None


def is_grown(name: str) -> bool:
    """Whether `name` (of a module, parameter or buffer) belongs to something grown."""
    return CHILD in name.split(".")


@lru_cache(maxsize=1_000)
def key_of(seed_id: str) -> str:
    """`seed_id` as a name that a module can have: letters, digits and _ only; each has its own."""
    return "at_" + "".join(_escape(character) for character in seed_id)


def _escape(character: str) -> str:
    if character == "_":
        return "__"
    return character if character.isascii() and character.isalnum() else f"_x{ord(character):x}_"


def _refill(modules: dict[str, M], before: dict[str, M]) -> None:
    """Put `before` back in its order."""
    modules.clear()
    modules.update(before)
