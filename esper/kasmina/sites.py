"""Finding sites: which modules' outputs can grow, and what the outputs' dimensions mean."""

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from torch import Tensor, nn

from contracts.growth import Layout, SiteInfo
from esper.kasmina.anchor import SiteError, find_anchors
from esper.kasmina.aside import Inputs
from esper.kasmina.probe import Visit, probe
from esper.kasmina.slot import is_grown

__all__ = ["SiteError", "find_sites"]

_LAYOUTS = {2: (Layout.VECTOR,), 3: (Layout.SEQUENCE, Layout.TOKENS), 4: (Layout.IMAGE,)}


def find_sites(
    model: nn.Module,
    patterns: Sequence[str] | str,
    example: Inputs,
    layouts: Mapping[str, Layout] | None = None,
) -> tuple[SiteInfo, ...]:
    """The sites that `patterns` name, in the order in which one forward pass runs them.

    A sequence holds exact names or dotted suffixes of them ("relu1", "block.relu1"); a string is a
    regular expression over the full name. `example` is a batch, the batch its first dimension; a tuple's
    entries are the arguments of the forward pass. The pass runs in eval mode without gradients and
    leaves the model, its buffers and every random stream as they were. `layouts` overrides, by site
    name, what the pass would guess.

    Raises:
        SiteError: a pattern matches nothing; or a place can't be a site, and why.
    """
    overrides = dict(layouts or {})
    names = _matches([name for name, _ in model.named_modules() if name and not is_grown(name)], patterns)
    strangers = ", ".join(sorted(set(overrides) - set(names)))
    if strangers:
        raise SiteError(f"layouts are given for {strangers}, but the sites are {', '.join(names)}")
    anchors = find_anchors(model, names)
    visits = probe(model, [anchor.module for anchor in anchors.values()], example)
    for name, anchor in anchors.items():
        _refuse_unfit(name, visits.get(anchor.module), batch_size=_batch_size(example))
    inwards = sorted(names, key=lambda name: visits[anchors[name].module].order)
    return tuple(
        _describe(name, depth, visits[anchors[name].module], overrides.get(name))
        for depth, name in enumerate(inwards)
    )


def _matches(names: Sequence[str], patterns: Sequence[str] | str) -> list[str]:
    """The names that the patterns name, each once, in the model's order."""
    if isinstance(patterns, str):
        chosen = {name for name in names if _compiled(patterns).fullmatch(name)}
        if not chosen:
            raise SiteError(f"the expression {patterns!r} matches no module; {_nearest(patterns, names)}")
    else:
        chosen = set()
        for pattern in patterns:
            found = {name for name in names if name == pattern or name.endswith(f".{pattern}")}
            if not found:
                raise SiteError(f"{pattern!r} names no module; {_nearest(pattern, names)}")
            chosen |= found
    if not chosen:
        raise SiteError("no pattern was given; name at least one module")
    return [name for name in names if name in chosen]


def _compiled(expression: str) -> re.Pattern[str]:
    try:
        return re.compile(expression)
    except re.error as error:
        raise SiteError(f"{expression!r} is no regular expression: {error}") from error


def _nearest(pattern: str, names: Sequence[str]) -> str:
    """The names most like `pattern`, by the whole or by the last parts."""
    if not names:
        return (
            "the model has no submodule at all: something grows behind a submodule, so put its layers in one"
        )
    parts = pattern.count(".") + 1
    tails = {".".join(name.split(".")[-parts:]): name for name in reversed(names)}
    near = get_close_matches(pattern, [*names, *tails], n=8, cutoff=0.5)
    found = list(dict.fromkeys(tails.get(name, name) for name in near))[:3]
    return f"the nearest are {', '.join(found)}" if found else f"there are {', '.join(names[:8])}"


def _batch_size(example: Inputs) -> int:
    first = example if isinstance(example, Tensor) else example[0]
    if first.dim() == 0:
        raise SiteError("the example is a single number; give a batch of examples")
    return first.shape[0]


def _refuse_unfit(name: str, visit: Visit | None, batch_size: int) -> None:
    """
    Raises:
        SiteError: the module did not run exactly once, or gave no batch of floating numbers.
    """
    if visit is None:
        raise SiteError(f"{name} never runs in the forward pass; only a module that is called can be a site")
    if visit.runs > 1:
        raise SiteError(
            f"{name} runs {visit.runs} times in one pass; only a module that runs once can be a site"
        )
    output = visit.output
    if not isinstance(output, Tensor) or not output.is_floating_point():
        kind = output.dtype if isinstance(output, Tensor) else type(output).__name__
        raise SiteError(f"{name} returns {kind}; only one floating tensor can grow")
    shape = tuple(output.shape)
    if output.dim() < 2 or shape[0] != batch_size:
        raise SiteError(f"{name} returns shape {shape}, not with the batch of {batch_size} first")
    if output.dim() not in _LAYOUTS:
        raise SiteError(
            f"{name} returns shape {shape}; only 2 to 4 dimensions, the batch's included, can grow"
        )


def _describe(name: str, depth: int, visit: Visit, override: Layout | None) -> SiteInfo:
    assert isinstance(visit.output, Tensor)
    shape = tuple(visit.output.shape[1:])
    fitting = _LAYOUTS[len(shape) + 1]
    if override is not None and override not in fitting:
        raise SiteError(
            f"{name} has shape {shape} an example and can't be {override}; it can be {' or '.join(fitting)}"
        )
    layout = override or (fitting[0] if len(fitting) == 1 else visit.guess)
    if layout is None:
        raise SiteError(
            f"{name} has shape {shape} an example, and nothing before it tells {' from '.join(fitting)}; "
            "say which in layouts"
        )
    channels = shape[-1] if layout in (Layout.TOKENS, Layout.VECTOR) else shape[0]
    return SiteInfo(name=name, layout=layout, shape=shape, channels=channels, depth=depth)
