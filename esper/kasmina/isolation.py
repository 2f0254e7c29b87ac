"""Isolation is a property, not a hope: this checks it while the run goes on.

Two things are looked at: whether a step of an isolated seed leaves anything on the host (`watching`),
and whether the host's outputs, with isolated seeds in the model, are bit for bit those without them
(`check`). The counts go into the seed's figures, on which the gates and the engine's upkeep act.
"""

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from esper.kasmina.aside import Inputs, call, device_of, spared_buffers
from esper.kasmina.footprint import differences, same_bits, take
from esper.kasmina.graft import Grafts
from esper.kasmina.purity import WRITES, guarded_input
from esper.kasmina.stream import RandomStream

_KEPT = 100
"""Violations whose words are kept, the newest; all are counted."""


@dataclass(frozen=True)
class Violation:
    """One time that an isolated seed was not isolated."""

    seed_id: str
    what: str


@dataclass(frozen=True)
class IsolationState:
    """What a monitor has counted so far."""

    counts: Mapping[str, int]
    newest: tuple[Violation, ...]
    passes: int


class IsolationMonitor:
    """Counts violations of isolation, a seed at a time."""

    def __init__(self, grafts: Grafts) -> None:
        self._grafts = grafts
        self._counts: Counter[str] = Counter()
        self._newest: deque[Violation] = deque(maxlen=_KEPT)
        self.passes = 0
        """Forward passes that checks have taken so far, all of the same cost."""

    @contextmanager
    def watching(
        self, seed_id: str, *batch: Inputs, exact: bool = False, strict: bool = False
    ) -> Iterator[None]:
        """What happens inside (a shadow step) may leave nothing but on the seed itself.

        Looks at the other tensors' versions, gradients and flags, at modes, hooks and buffers, at the
        tensors of `batch` and torch's global random stream; `exact` also compares bits, which costs a
        copy of the model and its gradients. `strict` compares the bits of the seed's own input too: to
        write there does no harm on the shadow path, and will once the seed is live. Everything found in
        one go is one violation.

        Raises:
            GraftError: there is no such seed.
        """
        bystanders = self._grafts.bystanders(seed_id)
        before = take(bystanders, batch, exact=exact)
        guard = None
        try:
            with ExitStack() as stack:
                if strict:
                    guard = stack.enter_context(guarded_input(self._grafts, seed_id))
                yield
        finally:
            found = differences(before, take(bystanders, batch, exact=exact))
            if guard is not None and guard.written:
                found.append(WRITES)
            if found:
                self._note(seed_id, "; ".join(found))

    def check(self, inputs: Inputs) -> tuple[Violation, ...]:
        """Compare the model's outputs with those of the model from which isolated seeds are taken out.

        One mini-batch, in the present mode, from equal random states, bit for bit; nothing is left
        behind. Costs two forward passes if a seed is isolated, else none; one more for each isolated
        seed to find the one at fault if they differ.
        """
        isolated = self._grafts.isolated_ids()
        if not isolated:
            return ()
        present = self._outputs(inputs)
        if same_bits(present, self._outputs(inputs, *isolated)):
            return ()
        if len(isolated) > 1:
            at_fault = [s for s in isolated if not same_bits(present, self._outputs(inputs, s))]
            isolated = tuple(at_fault) or isolated
        return tuple(self._note(seed_id, "the host's outputs differ with it present") for seed_id in isolated)

    def violations(self, seed_id: str) -> int:
        """How often the seed was not isolated."""
        return self._counts[seed_id]

    @property
    def newest(self) -> tuple[Violation, ...]:
        """The newest violations, the oldest of them first."""
        return tuple(self._newest)

    def forget(self, seed_id: str) -> None:
        """Count from 0 again: the seed is gone."""
        del self._counts[seed_id]

    def state(self) -> IsolationState:
        """The counts as they are now."""
        return IsolationState(dict(self._counts), self.newest, self.passes)

    def restore(self, state: IsolationState) -> None:
        """Go back to what `state` gave."""
        self._counts = Counter(state.counts)
        self._newest = deque(state.newest, maxlen=_KEPT)
        self.passes = state.passes

    def _note(self, seed_id: str, what: str) -> Violation:
        violation = Violation(seed_id, what)
        self._counts[seed_id] += 1
        self._newest.append(violation)
        return violation

    def _outputs(self, inputs: Inputs, *absent: str) -> Tensor:
        model = self._grafts.model
        self.passes += 1
        with (
            RandomStream(0, "isolation").flowing(device_of(inputs)),
            spared_buffers(tuple(model.modules())),
            torch.no_grad(),
            self._grafts.uprooted(*absent),
        ):
            return call(model, inputs)
