"""Where a site hangs: the module of the host that can carry a child and whose output is the site's."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

_NO_OUTPUT = (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)


class SiteError(ValueError):
    """A place at which nothing can grow, or a pattern that names none; nothing has changed."""


@dataclass(frozen=True)
class Anchor:
    """The module that carries what grows at a site, and its name in the model."""

    name: str
    module: nn.Module


def find_anchor(model: nn.Module, site: str) -> Anchor:
    """The module that carries what grows at `site`.

    It is the site's own module, but an `nn.Sequential` would run a child of its own as a layer: its
    last layer, whose output is the same, stands for it.

    Raises:
        SiteError: there is no such module, or it has no output that a child could change.
    """
    modules = dict(model.named_modules())
    if not site or site not in modules:
        raise SiteError(f"the model has no module {site!r}")
    name, module = site, modules[site]
    while isinstance(module, nn.Sequential):
        if type(module).forward is not nn.Sequential.forward:
            raise SiteError(
                f"{name} is a Sequential with a forward of its own; make one of its layers the site"
            )
        if len(module) == 0:
            raise SiteError(f"{name} is an empty Sequential; make the module before it the site")
        name, module = f"{name}.{list(module._modules)[-1]}", module[-1]
    if isinstance(module, _NO_OUTPUT):
        kind = type(module).__name__
        raise SiteError(f"{name} is a {kind}, which has no forward pass; make one of its entries the site")
    return Anchor(name, module)


def find_anchors(model: nn.Module, sites: Sequence[str]) -> dict[str, Anchor]:
    """The anchor of each site.

    Raises:
        SiteError: as `find_anchor`; or two sites are the same place.
    """
    anchors: dict[str, Anchor] = {}
    taken: dict[nn.Module, str] = {}
    for site in sites:
        anchor = find_anchor(model, site)
        if anchor.module in taken:
            raise SiteError(f"{taken[anchor.module]} and {site} are the same place; name one of them")
        taken[anchor.module] = site
        anchors[site] = anchor
    return anchors
