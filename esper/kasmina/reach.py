"""Whether a module that is to be grafted reaches into the network: it has to stand on its own.

A seed gets its input and gives its output; it holds nothing of the network's, neither as a child nor as an
attribute, in a container, bound in a method or closed over by a function.
"""

import functools
import types
from collections import OrderedDict
from collections.abc import Container, Iterator

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from esper.kasmina.bystanders import tensors_in

DEPTH_MAX = 6
"""How deep containers are looked into."""
_SCALARS = frozenset({type(None), bool, int, float, str, bytes, torch.dtype, torch.device})
_CONTAINERS = frozenset({dict, OrderedDict, list, tuple, set, frozenset})
_REGISTERED = frozenset({"_parameters", "_buffers", "_modules"})


def unfit(module: nn.Module, model: nn.Module, memory: Container[int]) -> str:
    """Why `module` can't be grafted into `model`, whose tensors lie in `memory`; empty if it can."""
    if any(map(is_lazy, tensors_in(module))):
        lazy = [name for name, parameter in module.named_parameters() if is_lazy(parameter)]
        return f"has no shape yet for {', '.join(lazy)}; run it once before"
    theirs = {id(part) for part in model.modules()}
    parts = list(module.named_modules())
    child = next((name for name, part in parts if id(part) in theirs), None)
    if child is not None:
        return f"has the model's own module as {child or 'its root'}; give it one of its own"
    for name, part in parts:
        for key, value in vars(part).items():
            if not _is_plain(value) and key not in _REGISTERED and _touches(value, theirs, memory):
                return f"holds something of the model's in {'.'.join(filter(None, (name, key)))}"
    return ""


def _is_plain(value: object) -> bool:
    """Nearly everything that modules have: what holds nothing, or nothing yet."""
    kind = type(value)
    return kind in _SCALARS or (kind in _CONTAINERS and not value)


def _touches(value: object, theirs: Container[int], memory: Container[int]) -> bool:
    """Whether a module or tensor of the model's is in `value`."""
    seen: set[int] = set()
    left: list[tuple[object, int]] = [(value, 0)]
    while left:
        thing, depth = left.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, nn.Module):
            if id(thing) in theirs:
                return True
        elif isinstance(thing, Tensor) and thing.numel() and thing.untyped_storage().data_ptr() in memory:
            return True
        if depth < DEPTH_MAX:
            left.extend((part, depth + 1) for part in _parts(thing))
    return False


def _parts(thing: object) -> Iterator[object]:
    """What a value holds that may be, or hold, something of the model's."""
    match thing:
        case dict():
            yield from thing.values()
        case list() | tuple() | set() | frozenset():
            yield from thing
        case types.MethodType():
            yield thing.__self__
        case functools.partial():
            yield from (thing.func, *thing.args, *thing.keywords.values())
        case types.FunctionType():
            yield from (cell.cell_contents for cell in thing.__closure__ or () if _filled(cell))
        case nn.Module():
            yield from vars(thing).values()
        case _:
            return


def _filled(cell: types.CellType) -> bool:
    """A cell of a name that is not assigned yet has no contents."""
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False
