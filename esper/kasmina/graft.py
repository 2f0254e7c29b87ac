"""The surgeon's hands: the only code that puts modules into the host and takes them out.

A seed is put in isolated: the host runs as if it were not there. `set_alpha` lets its output count
(h + alpha·f(h)), `isolate` takes it out of the forward pass again, `remove` out of the model. A
seed at alpha 0 is not called at all (0·inf would be NaN), and a site at which no seed runs has no
hook: it costs nothing. Nothing here draws random numbers or touches a host tensor.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import Parameter

from contracts.growth import SiteInfo
from esper.kasmina.anchor import Anchor, find_anchors
from esper.kasmina.bystanders import Bystanders, bystanders_of, memory_of, shared_tensors, tensors_in
from esper.kasmina.reach import unfit
from esper.kasmina.registry import Registry
from esper.kasmina.slot import CHILD, Graft, Slot, graft_of, grow, is_grown, key_of


class GraftError(ValueError):
    """A change of the module tree that can't be made; nothing has changed."""


@dataclass(frozen=True)
class _Place:
    """Where one seed is: looked up once, as reading a child off a module costs microseconds."""

    site: str
    anchor: Anchor
    graft: Graft
    slot: Slot


class Grafts:
    """The host, its sites, and what has grown there.

    A model that has grown already (a deep copy, say) keeps its seeds: they are found again. A deep
    copy of a `Grafts` holds a deep copy of the model and shares nothing with the original.
    """

    def __init__(self, model: nn.Module, sites: Sequence[SiteInfo]) -> None:
        """
        Raises:
            SiteError: a site is not in the model, is no place where a seed can hang, or is there twice.
            GraftError: something has grown outside of `sites`.
        """
        self.model = model
        self.sites = tuple(sites)
        self._anchors = find_anchors(model, [site.name for site in self.sites])
        self._host = tuple((n, p) for n, p in model.named_parameters() if not is_grown(n))
        self.registry = Registry(model)
        """Every parameter that may learn; what is not in it is foreign."""
        self._places: dict[str, _Place] = {}
        self._bystanders: dict[str, Bystanders] = {}
        self._adopt()

    def insert(self, seed_id: str, site: str, module: nn.Module) -> None:
        """Put `module` (f, which keeps the site's shape) in at `site`, isolated.

        It is moved to the host's device and floating type, and into its anchor's train or eval mode.

        Raises:
            GraftError: the id is taken, the site unknown, the module shares a tensor with the model, reaches
                into it, has parameters without a shape, or put something into the model while it was put in.
        """
        if seed_id in self._places:
            raise GraftError(
                f"{seed_id} is already at {self._places[seed_id].site}; a new seed takes a new id"
            )
        if site not in self._anchors:
            raise GraftError(f"{site!r} is not a site; the sites are {', '.join(self._anchors) or 'none'}")
        memory = memory_of(self.model)
        shared = shared_tensors(module, memory)
        if shared:
            raise GraftError(
                f"{seed_id} shares {', '.join(shared)} with the model; give it tensors of its own"
            )
        strangers = self.registry.foreign()
        if strangers:
            raise GraftError(
                f"nothing is grafted while the model has foreign parameters: {', '.join(map(str, strangers))}"
            )
        odd = unfit(module, self.model, memory)
        if odd:
            raise GraftError(f"{seed_id} {odd}")
        anchor = self._anchors[site]
        slot = Slot(seed_id, module)
        if self._host:
            _move(slot, self._host[0][1])
        slot.train(anchor.module.training)
        graft = graft_of(anchor.module)
        if graft is None:
            graft = Graft()
            graft.train(anchor.module.training)
            anchor.module.add_module(CHILD, graft)
        graft.seeds[key_of(seed_id)] = slot
        self._places[seed_id] = _Place(site, anchor, graft, slot)
        self._bystanders.clear()
        self.registry.admit(seed_id, self.named_parameters(seed_id))
        strangers = self.registry.foreign()
        if strangers:
            self.remove(seed_id)
            self.registry.mend()
            raise GraftError(f"{seed_id} brought something into the model: {', '.join(map(str, strangers))}")

    def set_alpha(self, seed_id: str, alpha: float) -> None:
        """Let the seed's output count: h + alpha·f(h), alpha from 0 (not called at all) to 1.

        Raises:
            GraftError: there is no such seed, or alpha is not from 0 to 1.
        """
        place = self._place(seed_id)
        if not 0.0 <= alpha <= 1.0:
            raise GraftError(f"{seed_id} can't have alpha {alpha}; it takes 0 to 1")
        place.slot.mix(alpha)
        _settle(place)

    def isolate(self, seed_id: str) -> None:
        """Take the seed out of the forward pass; it stays in the model.

        Raises:
            GraftError: there is no such seed.
        """
        self.set_alpha(seed_id, 0.0)

    def remove(self, seed_id: str) -> nn.Module:
        """Take the seed out of the model for good; with a site's last seed its graft goes too.

        Returns:
            The seed's module, as it was put in.

        Raises:
            GraftError: there is no such seed.
        """
        place = self._place(seed_id)
        self.release(seed_id)
        self.registry.dismiss(seed_id)
        del self._places[seed_id]
        del place.graft.seeds[key_of(seed_id)]
        _settle(place)
        if not place.graft.seeds:
            delattr(place.anchor.module, CHILD)
        self._bystanders.clear()
        return place.slot.body

    def hold(self, seed_id: str) -> None:
        """Let the seed's parameters get no gradient: an optimizer passes them, and their state, over.

        Raises:
            GraftError: there is no such seed.
        """
        self._place(seed_id)
        for parameter in self.registry.of(seed_id):
            parameter.requires_grad_(False)
            parameter.grad = None

    def release(self, seed_id: str) -> None:
        """Let them get gradients again, those that did when it was put in.

        Raises:
            GraftError: there is no such seed.
        """
        self._place(seed_id)
        for parameter, registered in self.registry.of(seed_id).items():
            parameter.requires_grad_(registered.learns)

    def seed_ids(self) -> tuple[str, ...]:
        """All seeds in the model, in the order of insertion."""
        return tuple(self._places)

    def live_ids(self) -> tuple[str, ...]:
        """The seeds whose output reaches the host's."""
        return tuple(seed_id for seed_id in self._places if self.alpha(seed_id) > 0.0)

    def isolated_ids(self) -> tuple[str, ...]:
        """The seeds that the host runs without."""
        return tuple(seed_id for seed_id in self._places if self.alpha(seed_id) == 0.0)

    def site_of(self, seed_id: str) -> str:
        """The site at which the seed is."""
        return self._place(seed_id).site

    def module(self, seed_id: str) -> nn.Module:
        """The seed's own module, f."""
        return self._place(seed_id).slot.body

    def alpha(self, seed_id: str) -> float:
        """How much the seed's output counts; 0 is isolated."""
        return self._place(seed_id).slot.share

    def named_parameters(self, seed_id: str) -> list[tuple[str, Parameter]]:
        """The seed's own parameters under their names in the model."""
        place = self._place(seed_id)
        prefix = f"{place.anchor.name}.{CHILD}.seeds.{key_of(seed_id)}.body"
        return list(place.slot.body.named_parameters(prefix=prefix))

    def host_named_parameters(self) -> list[tuple[str, Parameter]]:
        """The host's own parameters: a list taken when the grafts were attached."""
        return list(self._host)

    def bystanders(self, seed_id: str) -> Bystanders:
        """Every parameter and module of the model but the seed's own; kept until something grows."""
        if seed_id not in self._bystanders:
            self._bystanders[seed_id] = bystanders_of(self._place(seed_id).slot, self.model)
        return self._bystanders[seed_id]

    @contextmanager
    def with_(self, seed_id: str) -> Iterator[None]:
        """Forward passes with the seed at alpha 1, whatever its alpha is."""
        place = self._place(seed_id)
        slot, running = place.slot, place.graft.running
        full = slot.full
        slot.full = True
        try:
            slots = tuple(s for s in place.graft.slots if s is slot or s in running) if running else (slot,)
            with _running(place, slots):
                yield
        finally:
            slot.full = full

    @contextmanager
    def without(self, seed_id: str) -> Iterator[None]:
        """Forward passes without the seed."""
        place = self._place(seed_id)
        with _running(place, tuple(s for s in place.graft.running if s is not place.slot)):
            yield

    @contextmanager
    def host_only(self) -> Iterator[None]:
        """Forward passes of the host alone."""
        before = [(graft, graft.running) for _, graft in self._grafts()]
        for graft, _ in before:
            graft.running = ()
        try:
            yield
        finally:
            for graft, running in before:
                graft.running = running

    @contextmanager
    def uprooted(self, *seed_ids: str) -> Iterator[None]:
        """Forward passes of a model in which these isolated seeds are not even present.

        Raises:
            GraftError: a seed is live, or there is no such seed.
        """
        for seed_id in seed_ids:
            if self.alpha(seed_id) > 0.0:
                raise GraftError(f"{seed_id} is live at alpha {self.alpha(seed_id)}; isolate it first")
        with ExitStack() as stack:
            for site in dict.fromkeys(self._places[seed_id].site for seed_id in seed_ids):
                there = [seed_id for seed_id in seed_ids if self._places[seed_id].site == site]
                place = self._places[there[0]]
                stack.enter_context(place.graft.uprooted(place.anchor.module, list(map(key_of, there))))
            yield

    def cleared(self, seed_id: str) -> bool:
        """Nothing of the seed is left in the model: no module, tensor, empty graft or idle hook."""
        key = key_of(seed_id)
        if seed_id in self._places or any(key in name.split(".") for name, _ in self.model.named_modules()):
            return False
        return all(_is_tidy(anchor.module) for anchor in self._anchors.values())

    def _place(self, seed_id: str) -> _Place:
        place = self._places.get(seed_id)
        if place is None:
            raise GraftError(f"there is no seed {seed_id!r}; there are {', '.join(self._places) or 'none'}")
        return place

    def _grafts(self) -> list[tuple[str, Graft]]:
        found = ((site, graft_of(anchor.module)) for site, anchor in self._anchors.items())
        return [(site, graft) for site, graft in found if graft is not None]

    def _adopt(self) -> None:
        known = 0
        for site, graft in self._grafts():
            known += 1
            for slot in graft.slots:
                self._places[slot.seed_id] = _Place(site, self._anchors[site], graft, slot)
                self.registry.admit(slot.seed_id, self.named_parameters(slot.seed_id))
        found = [name for name, module in self.model.named_modules() if isinstance(module, Graft)]
        if len(found) > known:
            raise GraftError(f"the model has grown at {', '.join(found)}; name all of these places as sites")


def ungrown_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """The model's state without what has grown: the host's own keys, to be loaded into a plain host."""
    state = model.state_dict()
    for name in [name for name in state if is_grown(name)]:
        del state[name]
    return state


def _move(slot: Slot, like: Tensor) -> None:
    """To the device and floating type of `like`; looking takes less than moving what is there already."""
    device, dtype = like.device, like.dtype
    if any(t.device != device or (t.is_floating_point() and t.dtype != dtype) for t in tensors_in(slot)):
        slot.to(like)


def _settle(place: _Place) -> None:
    graft = place.graft
    graft.run(place.anchor.module, tuple(slot for slot in graft.slots if slot.share > 0.0))
    graft.rest()


@contextmanager
def _running(place: _Place, slots: tuple[Slot, ...]) -> Iterator[None]:
    before = place.graft.running
    place.graft.run(place.anchor.module, slots)
    try:
        yield
    finally:
        place.graft.running = before
        place.graft.rest()


def _is_tidy(anchor: nn.Module) -> bool:
    graft = graft_of(anchor)
    hooks = sum(hook is grow for hook in anchor._forward_hooks.values())
    if graft is None:
        return hooks == 0
    return len(graft.seeds) > 0 and hooks == (1 if graft.running else 0)
