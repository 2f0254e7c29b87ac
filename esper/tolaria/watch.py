"""Watches an optimizer's groups: what was set last in each, and what someone else has changed since.

What someone else changed is told and changed back: a rate, momentum, betas, weight decay; a group that was
added is taken out again, one that was taken out is put back.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch.optim import Optimizer

from esper.tolaria.schedule import Setting, settings_of

OWNED = "owned"
"""Key that marks a group as one of ours; a group without it was added by someone else."""
TOLD_MAX = 100
"""Foreign changes that wait to be asked for; the oldest are dropped, counted all the same."""


@dataclass(frozen=True)
class ForeignChange:
    """Something of the optimizer that someone else changed, and that was changed back."""

    group: str
    setting: str
    """lr, momentum, betas, weight_decay; or "group", the group itself."""
    was: str
    found: str

    @property
    def text(self) -> str:
        """One sentence for an alert."""
        return (
            f"someone else changed {self.setting} of the optimizer's group {self.group} "
            f"from {self.was} to {self.found}; it is changed back"
        )


@dataclass
class Held:
    """A group and the watched settings as they were set last."""

    group: dict[str, Any]
    settings: dict[str, Setting]


class Watch:
    """The groups of `optimizer` by name; those that are there when this is made are ours.

    `changes` counts what someone else had changed, each found when it was looked for next.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._known: list[int] = []
        self._untold: deque[ForeignChange] = deque(maxlen=TOLD_MAX)
        self._has_told = False
        self.held: dict[str, Held] = {}
        self.changes = 0
        for group in optimizer.param_groups:
            self.hold(group)

    def look(self) -> None:
        """See that the groups are those that they should be."""
        if list(map(id, self._optimizer.param_groups)) != self._known:
            self._survey()

    def compare(self, name: str, key: str) -> None:
        """Overwrite a setting that is not the very value that was set; told if it is another one."""
        held = self.held[name]
        value, found = held.settings[key], held.group.get(key)
        if type(found) is not type(value) or found != value:
            self._tell(ForeignChange(name, key, str(value), str(held.group.get(key, "nothing"))))
        held.group[key] = value

    def hold(self, group: dict[str, Any]) -> None:
        """Take a group as it is for one of ours."""
        settings = settings_of(group)
        group.update(settings)
        group[OWNED] = True
        self.held[group["name"]] = Held(group, settings)

    def forget(self, name: str) -> None:
        """The group is gone by our own doing, or is to be looked at anew."""
        self.held.pop(name, None)
        self._known = []

    @property
    def untold(self) -> tuple[ForeignChange, ...]:
        """The foreign changes that `take_told` would give."""
        return tuple(self._untold)

    def recall(self, untold: Iterable[ForeignChange]) -> None:
        """Have these told too, which another process had found; what was found here stays to be told.

        A process that has told of its own goes back to what it had found itself, and does not tell it again.
        """
        if not self._has_told:
            self._untold = self._untold or deque(untold, maxlen=TOLD_MAX)

    def take_told(self) -> tuple[ForeignChange, ...]:
        """The foreign changes found since this was last asked, the newest `TOLD_MAX` of them."""
        told = tuple(self._untold)
        self._untold.clear()
        self._has_told = True
        return told

    def _tell(self, change: ForeignChange) -> None:
        self.changes += 1
        self._untold.append(change)

    def _survey(self) -> None:
        """Know the groups that there are; undo what someone else did to their list."""
        groups = self._optimizer.param_groups
        present = {id(group) for group in groups}
        foreign = []
        for group in groups:
            held = self.held.get(group.get("name", ""))
            if held is None and group.get(OWNED) and "name" in group:
                self.hold(group)
            elif held is not None and id(held.group) not in present:
                held.group = group  # someone has loaded the optimizer's state: the same group in a new table
            elif held is None or held.group is not group:
                foreign.append(group)
        for group in foreign:
            self._take_out(group)
        for name, held in self.held.items():
            if not any(group is held.group for group in groups):
                self._tell(ForeignChange(name, "group", "present", "taken out"))
                groups.append(held.group)
        self._known = list(map(id, groups))

    def _take_out(self, group: dict[str, Any]) -> None:
        found = f"added with lr {group.get('lr')} and {len(group['params'])} tensors"
        self._tell(ForeignChange(str(group.get("name", "without a name")), "group", "absent", found))
        groups = self._optimizer.param_groups
        groups[:] = [other for other in groups if other is not group]
        for parameter in group["params"]:
            self._optimizer.state.pop(parameter, None)
