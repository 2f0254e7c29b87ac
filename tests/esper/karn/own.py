"""A blueprint of a user's own, as its source; the README's example in few lines."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PLACES = """
import math

import torch
from torch import nn

from contracts.blueprint import BlueprintDescriptor, BlueprintTier
from esper.karn.blueprint import EVERY_LAYOUT, Blueprint
from {helper} import Weighed


class Places(Blueprint):
    descriptor = BlueprintDescriptor(
        blueprint_id="BP051", name="place weights", tier=BlueprintTier.SAFE, description="Weights.", stage=1
    )
    layouts = EVERY_LAYOUT
    knob = None

    def _build(self, site, size, generator):
        return Weighed(site.shape)

    def _params(self, site, size):
        return math.prod(site.shape)

    def _forward_flops(self, site, size):
        return 0
"""
WEIGHED = """
import torch
from torch import nn


class Weighed(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(shape))

    def forward(self, h):
        return h * self.weight
"""


def write_places(folder: Path, name: str) -> Path:
    """Put the blueprint into `name`.py, and its module into a file beside."""
    (folder / f"{name}_layers.py").write_text(WEIGHED)
    file = folder / f"{name}.py"
    file.write_text(PLACES.format(helper=f"{name}_layers"))
    return file


def write_package(folder: Path, name: str) -> Path:
    """The same in a package, with an import from inside of it."""
    package = folder / name
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "layers.py").write_text(WEIGHED)
    file = package / "places.py"
    file.write_text(PLACES.format(helper=".layers"))
    return file


@contextmanager
def imports_forgotten() -> Iterator[None]:
    """What is imported meanwhile, and where it was looked for, is forgotten afterwards."""
    modules, path = set(sys.modules), list(sys.path)
    try:
        yield
    finally:
        sys.path[:] = path
        for name in set(sys.modules) - modules:
            file = getattr(sys.modules[name], "__file__", None) or ""
            if "site-packages" not in file and not name.startswith(("esper", "contracts", "actors", "tests")):
                del sys.modules[name]
