"""One pass through the host that notes which modules run, how often, and what comes out."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from contracts.growth import Layout
from esper.kasmina.anchor import SiteError
from esper.kasmina.aside import Inputs, call, device_of, evaluating
from esper.kasmina.slot import CHILD, Graft

_FEATURE_AXIS = {Layout.SEQUENCE: 1, Layout.TOKENS: 2}
_SEQUENCE_KINDS = (
    nn.Conv1d,
    nn.ConvTranspose1d,
    nn.BatchNorm1d,
    nn.InstanceNorm1d,
    nn.MaxPool1d,
    nn.AvgPool1d,
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveMaxPool1d,
    nn.ConstantPad1d,
    nn.ReflectionPad1d,
    nn.ReplicationPad1d,
    nn.Dropout1d,
)
_TOKEN_KINDS = (
    nn.Linear,
    nn.LayerNorm,
    nn.RMSNorm,
    nn.Embedding,
    nn.MultiheadAttention,
    nn.TransformerEncoderLayer,
    nn.TransformerDecoderLayer,
)


@dataclass
class Visit:
    """What the pass saw of one module."""

    order: int
    """Position among the visits, from 0."""
    output: object
    guess: Layout | None
    """What three dimensions would mean here; None if nothing before told."""
    runs: int = 1


def probe(model: nn.Module, anchors: Iterable[nn.Module], example: Inputs) -> dict[nn.Module, Visit]:
    """What one pass of `example` through `model` saw of `anchors`; those that did not run are missing.

    Raises:
        SiteError: the model is lazy and has no shapes yet, or an anchor runs over its own children.
    """
    for name, parameter in model.named_parameters():
        if is_lazy(parameter):
            raise SiteError(
                f"{name} has no shape yet; run a batch through the model before looking for sites"
            )
    watch = _Watch(set(anchors))
    with ExitStack() as stack:
        stack.enter_context(_carrying(watch.anchors))
        stack.enter_context(evaluating(model, device_of(example)))
        for module in model.modules():
            stack.callback(module.register_forward_hook(watch.passed).remove)
        call(model, example)
    return watch.visits


class _Watch:
    """Forward hook of every module during the pass."""

    def __init__(self, anchors: set[nn.Module]) -> None:
        self.anchors = anchors
        self.visits: dict[nn.Module, Visit] = {}
        self._guess: Layout | None = None
        self._features: int | None = None

    def passed(self, module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        self._learn(module, output[0] if isinstance(output, tuple) else output)
        if module not in self.anchors:
            return
        if module in self.visits:
            self.visits[module].runs += 1
        else:
            self.visits[module] = Visit(len(self.visits), output, self._guess_for(output))

    def _learn(self, module: nn.Module, output: object) -> None:
        """What `module` says about three dimensions; an image between makes what was known void."""
        if not isinstance(output, Tensor) or output.dim() not in (3, 4):
            return
        if output.dim() == 4:
            self._guess, self._features = None, None
        elif isinstance(module, _SEQUENCE_KINDS):
            self._guess, self._features = Layout.SEQUENCE, _features_of(module)
        elif isinstance(module, _TOKEN_KINDS):
            self._guess, self._features = Layout.TOKENS, _features_of(module)

    def _guess_for(self, output: object) -> Layout | None:
        """The last telling module's layout, turned if its features lie along the other dimension now."""
        if self._guess is None or not isinstance(output, Tensor) or output.dim() != 3:
            return self._guess
        along = {layout for layout, axis in _FEATURE_AXIS.items() if output.shape[axis] == self._features}
        return along.pop() if len(along) == 1 else self._guess


def _features_of(module: nn.Module) -> int | None:
    """The size of the feature dimension that `module` gives, if it fixes one."""
    match module:
        case nn.Conv1d() | nn.ConvTranspose1d():
            return module.out_channels
        case nn.BatchNorm1d() | nn.InstanceNorm1d():
            return module.num_features
        case nn.Linear():
            return module.out_features
        case nn.LayerNorm() | nn.RMSNorm():
            return int(module.normalized_shape[-1])
        case nn.Embedding():
            return int(module.embedding_dim)
        case nn.MultiheadAttention():
            return int(module.embed_dim)
        case _:
            return None


@contextmanager
def _carrying(anchors: Iterable[nn.Module]) -> Iterator[None]:
    """Each anchor carries an empty graft: one that runs over its children is found out by calling it."""
    bare = [anchor for anchor in anchors if CHILD not in anchor._modules]
    for anchor in bare:
        anchor.add_module(CHILD, Graft())
    try:
        yield
    finally:
        for anchor in bare:
            delattr(anchor, CHILD)
