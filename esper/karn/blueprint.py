"""What every blueprint is: a module design with declared layouts, settings and exact costs.

A blueprint builds the f of h + alpha · f(h). Its contribution is exactly zero at the start, so that a
graft changes nothing until something has been learned (the zero-initialised residual of ReZero,
Bachlechner et al. 2020, and Fixup, Zhang et al. 2019). Every initial value comes from the generator
that is passed in.
"""

import math
import reprlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import nn

from contracts.blueprint import BlueprintDescriptor, BlueprintTier
from contracts.growth import Layout, SiteInfo
from esper.karn.permission import DrillPermission

EVERY_LAYOUT = frozenset(Layout)
_SIZES = {
    Layout.VECTOR: ("channels",),
    Layout.SEQUENCE: ("channels", "length"),
    Layout.IMAGE: ("channels", "height", "width"),
    Layout.TOKENS: ("tokens", "channels"),
}
"""The shape of one example, without the batch."""


class BlueprintError(ValueError):
    """A blueprint can't be built as asked: wrong layout, or a setting missing, unknown or out of range."""


class Blueprint(ABC):
    """One module design.

    A subclass states its descriptor and layouts as class attributes. `tags` are plain words to find it by.
    `knob` names the setting that makes it larger (more of it never means fewer parameters or FLOPs);
    `fixed` holds the values that `fit` gives to the other settings.
    """

    descriptor: ClassVar[BlueprintDescriptor]
    layouts: ClassVar[frozenset[Layout]]
    tags: ClassVar[tuple[str, ...]] = ()
    knob: ClassVar[str | None] = "width"
    fixed: ClassVar[Mapping[str, float]] = {}

    @property
    def blueprint_id(self) -> str:
        return self.descriptor.blueprint_id

    @abstractmethod
    def _build(self, site: SiteInfo, size: Mapping[str, int], generator: torch.Generator) -> nn.Module: ...

    @abstractmethod
    def _params(self, site: SiteInfo, size: Mapping[str, int]) -> int: ...

    @abstractmethod
    def _forward_flops(self, site: SiteInfo, size: Mapping[str, int]) -> int: ...

    def build(
        self,
        site: SiteInfo,
        parameters: Mapping[str, float],
        generator: torch.Generator,
        permission: DrillPermission | None = None,
    ) -> nn.Module:
        """The module f for `site`: takes and gives (B, *site.shape), gives exactly 0 at the start.

        Raises:
            BlueprintError: it is for drills alone and there is no permission, or the layout or the settings
                are not this blueprint's. The generator and the global random stream are unchanged then; the
                global stream is never drawn from.
        """
        if is_dangerous(self.descriptor) and permission is None:
            raise BlueprintError(f"{self._label} is grown in drills alone: to build it takes a permission")
        return self._build(site, self.check(site, parameters), generator)

    def params(self, site: SiteInfo, parameters: Mapping[str, float]) -> int:
        """Trainable parameters of `build(site, parameters)`, exactly."""
        return self._params(site, self.check(site, parameters))

    def costs(self, site: SiteInfo, parameters: Mapping[str, float]) -> tuple[int, int]:
        """Its `params` and `forward_flops`, in one go."""
        size = self.check(site, parameters)
        return self._params(site, size), self._forward_flops(site, size)

    def forward_flops(self, site: SiteInfo, parameters: Mapping[str, float]) -> int:
        """FLOPs of one example's forward pass as torch.utils.flop_counter counts them.

        Matrix products and convolutions, 2 per multiply-add, padding included; elementwise work is 0.
        """
        return self._forward_flops(site, self.check(site, parameters))

    def refusal(self, site: SiteInfo) -> str:
        """Why it can't grow at a site of this size, with what would do; empty if it can.

        It completes the sentence "BP013 (group norm) …".
        """
        return ""

    def smallest(self) -> dict[str, float]:
        """The smallest settings that `fit` gives."""
        if self.knob is None:
            return dict(self.fixed)
        return {**self.fixed, self.knob: self.descriptor.allowed_parameters[self.knob].min_value}

    def largest(self, site: SiteInfo) -> int:
        """The knob's largest useful value at `site`."""
        return int(self.descriptor.allowed_parameters[self.knob].max_value) if self.knob else 0

    def fit(self, site: SiteInfo, max_params: int, max_flops: int | None = None) -> dict[str, float] | None:
        """The largest settings with at most `max_params` parameters and `max_flops` FLOPs a forward pass.

        None if the smallest have more, or if it can't grow at a site of this size at all.

        Raises:
            BlueprintError: the site's layout is not one of this blueprint's.
        """
        self._check_layout(site)
        if self.refusal(site):
            return None
        smallest = self.smallest()
        if not self._within(site, smallest, max_params, max_flops):
            return None
        if self.knob is None:
            return smallest
        low, high = int(smallest[self.knob]), self.largest(site)
        while low < high:  # invariant: `low` fits; above `high` nothing fits
            middle = (low + high + 1) // 2
            if self._within(site, {**smallest, self.knob: middle}, max_params, max_flops):
                low = middle
            else:
                high = middle - 1
        return {**smallest, self.knob: float(low)}

    def _within(
        self, site: SiteInfo, parameters: Mapping[str, float], max_params: int, max_flops: int | None
    ) -> bool:
        if self.params(site, parameters) > max_params:
            return False
        return max_flops is None or self.forward_flops(site, parameters) <= max_flops

    def check(self, site: SiteInfo, parameters: Mapping[str, float]) -> dict[str, int]:
        """The settings as whole numbers.

        Raises:
            BlueprintError: see `build`; the message says what would work.
        """
        self._check_layout(site)
        if refusal := self.refusal(site):
            raise BlueprintError(f"{self._label} {refusal}")
        allowed = self.descriptor.allowed_parameters
        if parameters.keys() != allowed.keys():
            raise BlueprintError(
                f"{self._label} takes the settings {_listed(allowed)}; it was given {_listed(parameters)}"
            )
        for name, value in parameters.items():
            bounds = allowed[name]
            number = whole(value)
            if number is None or not bounds.min_value <= number <= bounds.max_value:
                raise BlueprintError(
                    f"{self._label} takes a whole {name} from {bounds.min_value:g} to {bounds.max_value:g}, "
                    f"not {reprlib.repr(value)}"
                )
        return {name: int(value) for name, value in parameters.items()}

    def _check_layout(self, site: SiteInfo) -> None:
        if site.layout not in self.layouts:
            raise BlueprintError(
                f"{self._label} does not grow on {_named(site)}, a {site.layout}; "
                f"it grows on {_listed(self.layouts)}"
            )
        check_shape(site)

    @property
    def _label(self) -> str:
        return f"{self.descriptor.blueprint_id} ({self.descriptor.name})"


def is_dangerous(about: BlueprintDescriptor) -> bool:
    """For drills alone, whoever asks."""
    return about.tier is BlueprintTier.HIGH_RISK or about.quarantine_only


def check_shape(site: SiteInfo) -> None:
    """See that a site's shape is one of its layout.

    Raises:
        BlueprintError: it is not; the message says what such a shape is.
    """
    sizes = _SIZES[site.layout]
    known = len(site.shape) == len(sizes) and min(site.shape) >= 1
    if not known or (1, *site.shape)[channel_dim(site.layout)] != site.channels:
        raise BlueprintError(
            f"{_named(site)} is no {site.layout}: its shape is {site.shape} with {site.channels} channels; "
            f"that of a {site.layout} is ({', '.join(sizes)})"
        )


def whole(value: object) -> int | None:
    """The whole number that `value` is; None if it is none, or no number at all."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if isinstance(value, int) or value.is_integer() else None


def channel_dim(layout: Layout) -> int:
    """The dimension of a batch that holds the channels: last for tokens, else 1."""
    return -1 if layout is Layout.TOKENS else 1


def positions(site: SiteInfo) -> int:
    """How many places of one example share the weights: 1, L, H · W or T."""
    return math.prod(site.shape) // site.channels


def _named(site: SiteInfo) -> str:
    """A site as messages have it; the cores ask about some that have no name."""
    return f"site {site.name}" if site.name else "this site"


def _listed(names: Mapping[str, object] | frozenset[Layout]) -> str:
    return ", ".join(sorted(names)) or "none"
