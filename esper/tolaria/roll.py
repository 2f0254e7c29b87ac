"""Whether the optimizer learns the registered parameters, and no other."""

from collections.abc import Iterable, Mapping

from torch import nn
from torch.optim import Optimizer

from esper.kasmina.graft import Grafts
from esper.kasmina.registry import Foreign


def call_roll(optimizer: Optimizer, grafts: Grafts, learned: Iterable[nn.Parameter]) -> tuple[Foreign, ...]:
    """What the optimizer holds beyond the host's `learned` and all that has been grafted, and what it lacks.

    Nothing if all is well: then it is one look at each parameter's identity.
    """
    ids = grafts.registry.ids
    learning = {id(p): group.get("name", "") for group in optimizer.param_groups for p in group["params"]}
    held = learning | {id(p): "" for p in optimizer.state if id(p) not in learning}
    due = {id(parameter) for parameter in learned}
    due.update(key for key, entry in ids.items() if entry.owner)
    if held.keys() == learning.keys() == due:
        return ()
    extra = [
        Foreign(
            ids[key].name if key in ids else f"a tensor of the optimizer's group {group!r}", "learns there"
        )
        for key, group in held.items()
        if key not in due
    ]
    lacking = [
        Foreign(ids[key].name, "is not in the optimizer") for key in due - learning.keys() if key in ids
    ]
    return (*extra, *lacking)


def mend(optimizer: Optimizer, grafts: Grafts, learned: Mapping[nn.Parameter, str]) -> None:
    """Take out of the optimizer what is not registered, with its state; put back what of the host it lacks.

    `learned` says by the host's parameter in which group it is.
    """
    ids = grafts.registry.ids
    for group in optimizer.param_groups:
        if any(id(p) not in ids for p in group["params"]):
            group["params"] = [p for p in group["params"] if id(p) in ids]
    for parameter in [p for p in optimizer.state if id(p) not in ids]:
        del optimizer.state[parameter]
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    for group in optimizer.param_groups:
        name = group.get("name", "")
        group["params"] += [p for p, its in learned.items() if its == name and id(p) not in held]
