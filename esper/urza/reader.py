"""Looks kernels up and opens them; what turns out damaged is put away."""

from torch import nn

from contracts.kernels import Design, KernelSpec
from esper.karn.blueprint import BlueprintError, is_dangerous
from esper.karn.catalogue import Catalogue, UnknownBlueprint
from esper.karn.guard import guard_digest
from esper.urza import upkeep
from esper.urza.container import ARTIFACT_BYTES_MAX
from esper.urza.errors import Damaged, Missing, Unfit
from esper.urza.kernel import Kernel
from esper.urza.objects import Objects
from esper.urza.opening import build, open_kernel
from esper.urza.records import Artifact, GivenUp, Records

_PARAMETER_BYTES = 4


class Reader:
    """Reads one store's kernels as the present code and versions make them."""

    def __init__(self, records: Records, objects: Objects, blueprints: Catalogue) -> None:
        self._records = records
        self._objects = objects
        self._blueprints = blueprints
        self.damaged = 0
        """Artifacts put away so far."""

    def guard(self, design: Design) -> str:
        return guard_digest(design, self._blueprints)

    def refusal(self, spec: KernelSpec) -> str:
        """Why no kernel of this specification is ever kept; empty if it may be. Nothing is built for it.

        Raises:
            UnknownBlueprint, BlueprintError: the catalogue of blueprints can't build it.
        """
        design = spec.design
        blueprint = self._blueprints.get(design.blueprint_id)
        if is_dangerous(blueprint.descriptor):
            return f"{design.blueprint_id} is grown in drills alone; no kernel of it is kept"
        nbytes = _PARAMETER_BYTES * blueprint.params(design.site, design.parameters)
        if nbytes > ARTIFACT_BYTES_MAX:
            return f"its values take {nbytes:,} bytes; a kernel may have {ARTIFACT_BYTES_MAX:,}"
        return ""

    def may_make(self, spec: KernelSpec) -> bool:
        """Whether it can be made at all, by the present code; whoever wrote the specification."""
        try:
            return not self.refusal(spec)
        except (UnknownBlueprint, BlueprintError):
            return False

    def still(self, given_up: GivenUp) -> bool:
        """Whether what a design was given up for is still how things are."""
        try:
            return self.guard(given_up.design) == given_up.guard
        except (UnknownBlueprint, BlueprintError):
            return False

    def build(self, spec: KernelSpec) -> nn.Module:
        """The specification's module.

        Raises:
            Unfit: no kernel of it is kept (`refusal`); nothing was built.
        """
        if refusal := self.refusal(spec):
            raise Unfit(refusal)
        return build(spec, self._blueprints)

    def found(self, spec: KernelSpec) -> Artifact | None:
        """The newest kernel of a specification, as the catalogue has it."""
        return self._records.kernel(spec.key, self.guard(spec.design))

    def fetch(self, spec: KernelSpec) -> Kernel:
        """See `Library.fetch`."""
        row = self.found(spec)
        if row is None:
            raise Missing(f"there is no kernel {spec.key} of {spec.design.blueprint_id}")
        if refusal := self.refusal(spec):
            raise Missing(refusal)  # whatever the row says
        module = self.build(spec)
        try:
            return self._opened(spec, row, module)
        except Damaged:
            return self._judged(spec, module)

    def glimpsed(self, spec: KernelSpec, module: nn.Module) -> Kernel | None:
        """The newest kernel if it is sound, as things are just now."""
        row = self.found(spec)
        try:
            return None if row is None else self._opened(spec, row, module)
        except Damaged:
            return None

    def sound(self, spec: KernelSpec, module: nn.Module) -> tuple[Kernel | None, Damaged | None]:
        """The newest kernel that is sound, and what was wrong with one before it; within a transaction.

        Those before it are put away.
        """
        first: Damaged | None = None
        while (row := self.found(spec)) is not None:
            try:
                return self._opened(spec, row, module), first
            except Damaged as error:
                first = first or error
                self.put_away(row, error.reason)
        return None, first

    def put_away(self, row: Artifact, reason: str) -> None:
        """Strike an artifact out and move its file to quarantine; within a transaction."""
        self.damaged += 1
        upkeep.put_away(self._records, self._objects, row.ref, reason)

    def _judged(self, spec: KernelSpec, module: nn.Module) -> Kernel:
        """A second look, while nobody else changes anything: it may have been replaced meanwhile."""
        with self._records.ledger.transaction():
            kernel, damaged = self.sound(spec, module)
            if damaged is not None and kernel is None:
                self._records.want(spec)
        if kernel is not None:
            return kernel
        raise damaged or Missing(f"the kernel {spec.key} was removed meanwhile")

    def _opened(self, spec: KernelSpec, row: Artifact, module: nn.Module) -> Kernel:
        certificate = open_kernel(self._objects, row.ref, row.size, spec, row.guard, module)
        return Kernel(module, certificate, row.named)
