"""Tells how a run's kernels do: how many are ready, which are made, and what stands in for the others."""

from collections.abc import Mapping

from actors.witness import RunWitness
from contracts.view import EventKind, KernelProgress


class KernelNews:
    """Hears the blueprint pipeline on behalf of the run's witness."""

    def __init__(self, witness: RunWitness, names: Mapping[str, str]) -> None:
        """`names` are the blueprints' by id."""
        self._witness = witness
        self._names = names
        self._idle_compiler = self._storeless = False
        """No kernels can be compiled; the store can't be used."""

    def kernels(self, ready: int, wanted: int) -> None:
        """So many kernels are fetched, of so many that were looked for."""
        self._witness.live.kernels = KernelProgress(ready, wanted)
        if ready == wanted:
            self._note("info", f"kernels: all {wanted} that are likely next are ready")

    def compiling(self, blueprint_ids: tuple[str, ...], trouble: str) -> None:
        """Kernels of these are being made; and why none can be made at present, if none can."""
        self._witness.live.making = tuple(self._names.get(one, one) for one in blueprint_ids)
        if self._storeless:
            return  # which was told, and comes to the same
        was, self._idle_compiler = self._idle_compiler, bool(trouble)
        if trouble and not was:
            told = f"no kernels can be compiled ({trouble}); plain modules stand in, with equal bits"
            self._witness.alert("no_compiler", told)
        elif was and not trouble:
            self._witness.regained("no_compiler")
            self._note("info", "kernels are compiled again")

    def left_out(self, blueprint_id: str, reason: str) -> None:
        """A blueprint could not be compiled."""
        told = f"{self._named(blueprint_id)} is left out of this run: {reason}"
        self._witness.alert("kernel_left_out", told)

    def built_here(self, blueprint_id: str, reason: str) -> None:
        """A blueprint is never compiled ahead."""
        told = f"{self._named(blueprint_id)} is built on the spot, never compiled: {reason}"
        self._note("info", told)

    def miscompiled(self, blueprint_id: str, reason: str) -> None:
        """Native code of a blueprint computes something else."""
        told = f"native code of {self._named(blueprint_id)} is not kept: {reason}"
        self._note("warning", told)

    def damaged(self, blueprint_id: str, reason: str) -> None:
        """A stored kernel is not what was published."""
        told = f"a stored kernel of {self._named(blueprint_id)} is damaged, and is made again: {reason}"
        self._witness.alert("kernel_damaged", told)

    def no_store(self, reason: str) -> None:
        """The kernel store can't be used."""
        self._storeless = True
        self._witness.alert(
            "no_kernel_store",
            f"the kernel store can't be used ({reason}); what grows is built on the spot, with equal bits",
        )

    def _note(self, kind: EventKind, text: str) -> None:
        """At once: the next boundary may be far away."""
        self._witness.telemetry.note(kind, text)
        self._witness.tell_others()

    def _named(self, blueprint_id: str) -> str:
        return f"{blueprint_id} ({self._names.get(blueprint_id, blueprint_id)})"
