"""The optimizer and its groups as the network grows: who comes in, who goes, whose state is whose.

Each seed has a group of its own until it is part of the host. The state of everything else stays bit for
bit as it is: nothing here copies, re-makes or re-orders it. State is exported by parameter name, since
positions change when the network does.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from contracts.config import TrainConfig
from esper.tolaria.rates import HOST
from esper.tolaria.watch import OWNED

Named: TypeAlias = Sequence[tuple[str, nn.Parameter]]
NamedState: TypeAlias = dict[str, dict[str, Any]]
"""Parameter name → the optimizer's own entries for it (for Adam: step, exp_avg, exp_avg_sq)."""


MOMENTUM = {"sgd": 0.9, "rmsprop": 0.0}
"""What `train.momentum` is if it is not given; the optimizers that have one."""
BETAS = (0.9, 0.999)
WEIGHT_DECAY = {"adamw": 0.01}
"""What `train.weight_decay` is if it is not given; 0 for all others."""


def host_groups(host: Named) -> list[dict[str, Any]]:
    """The host's parameters as an optimizer takes them."""
    return [{"params": [parameter for _, parameter in host], "name": HOST}]


def make_optimizer(host: Named, train: TrainConfig) -> Optimizer:
    """The configuration's optimizer over the host; Adam and its kin fused.

    On a CPU with small tensors a fused step of Adam takes 0.05 to 0.1 ms, a foreach one 0.16 to 0.26 and a
    loop (torch's default there) 0.23 to 0.39; all three are reproducible. Torch's fused SGD can't have
    parameters with and without a momentum yet in one group, which a seed that joins the host may bring.
    """
    groups, rate, name = host_groups(host), train.learning_rate, train.optimizer
    decay = WEIGHT_DECAY.get(name, 0.0) if train.weight_decay is None else train.weight_decay
    betas = train.betas or BETAS
    momentum = MOMENTUM.get(name, 0.0) if train.momentum is None else train.momentum
    match name:
        case "adam":
            return Adam(groups, rate, betas, weight_decay=decay, fused=True)
        case "adam_amsgrad":
            return Adam(groups, rate, betas, weight_decay=decay, amsgrad=True, fused=True)
        case "adamw":
            return AdamW(groups, rate, betas, weight_decay=decay, fused=True)
        case "sgd":
            return SGD(groups, rate, momentum, weight_decay=decay)
        case "rmsprop":
            return RMSprop(groups, rate, weight_decay=decay, momentum=momentum)


def twin(optimizer: Optimizer, memo: dict[int, Any]) -> Optimizer:
    """A copy over the copies of its parameters that are, or will be, in `memo`.

    Torch's own way of copying leaves out the attributes that a subclass has of its own. An attribute in a
    method's place stays out: schedulers wrap `step` so, and the wrapped one is the original's.
    """
    copied = copy.deepcopy(optimizer, memo)
    known = {*vars(copied), *dir(type(optimizer))}
    for name, value in vars(optimizer).items():
        if name not in known:
            setattr(copied, name, copy.deepcopy(value, memo))
    return copied


def admit(optimizer: Optimizer, seed_id: str, parameters: Named, learning_rate: float) -> None:
    """Add a seed's parameters as the group `seed_id`, without state yet.

    Its other settings (betas, momentum, weight decay) are those of the first group.

    Raises:
        ValueError: there is a group of that name, or a parameter is in the optimizer already; nothing
            has changed then.
    """
    if any(group.get("name") == seed_id for group in optimizer.param_groups):
        raise ValueError(f"the optimizer has a group {seed_id!r} already; dismiss it first")
    tensors = [parameter for _, parameter in parameters]
    if not tensors:
        return
    like = {
        key: value for key, value in optimizer.param_groups[0].items() if key not in ("params", "lr", "name")
    }
    optimizer.add_param_group({**like, "params": tensors, "lr": learning_rate, "name": seed_id, OWNED: True})


def dismiss(optimizer: Optimizer, parameters: Named) -> None:
    """Take parameters out, with their state; a group that is left empty goes too, the host's excepted."""
    gone = {id(parameter) for _, parameter in parameters}
    for group in optimizer.param_groups:
        group["params"] = [p for p in group["params"] if id(p) not in gone]
    optimizer.param_groups[:] = [g for g in optimizer.param_groups if g["params"] or _is_hosts(g)]
    for _, parameter in parameters:
        optimizer.state.pop(parameter, None)


def join_host(optimizer: Optimizer, seed_id: str) -> None:
    """Make the group `seed_id` part of the host's group; all state stays as it is."""
    groups = optimizer.param_groups
    host = next(group for group in groups if group.get("name") == HOST)
    host["params"].extend(p for group in groups if group.get("name") == seed_id for p in group["params"])
    groups[:] = [group for group in groups if group.get("name") != seed_id]


def holds(optimizer: Optimizer, parameters: Named) -> bool:
    """Whether any of `parameters` is in a group or has state."""
    known = {id(p) for group in optimizer.param_groups for p in group["params"]}
    known.update(id(p) for p in optimizer.state)
    return any(id(parameter) in known for _, parameter in parameters)


def state_by_name(optimizer: Optimizer, parameters: Named) -> NamedState:
    """A copy of the state of `parameters`; those without state yet are left out."""
    return {
        name: {key: _copied(value) for key, value in optimizer.state[parameter].items()}
        for name, parameter in parameters
        if parameter in optimizer.state
    }


def restore_state(optimizer: Optimizer, parameters: Named, state: Mapping[str, Mapping[str, Any]]) -> None:
    """Give `parameters` the state that `state_by_name` copied; those it does not name lose theirs."""
    for name, parameter in parameters:
        entries = state.get(name)
        if entries is None:
            optimizer.state.pop(parameter, None)
        else:
            optimizer.state[parameter] = {key: _copied(value) for key, value in entries.items()}


def _is_hosts(group: Mapping[str, Any]) -> bool:
    return str(group.get("name", "")).split("/")[0] == HOST


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value
