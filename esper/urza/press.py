"""Publishes: what belongs together is staged, shown and entered, all of it or nothing."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from torch import nn

from contracts.kernels import Certificate, KernelSpec
from esper.urza import weights as values
from esper.urza.container import pack
from esper.urza.errors import Damaged, Unavailable, Unfit
from esper.urza.kernel import Kernel
from esper.urza.names import ArtifactRef, Kind, ref_of
from esper.urza.objects import Objects
from esper.urza.reader import Reader
from esper.urza.records import RANKS, Records
from esper.urza.seal import Seal


class Press:
    """Puts artifacts into one store."""

    def __init__(self, records: Records, objects: Objects, reader: Reader, folder: Path) -> None:
        self._records = records
        self._objects = objects
        self._reader = reader
        self._folder = folder
        self.published = 0
        """Kernels stored so far."""

    def publish(
        self,
        spec: KernelSpec,
        certificate: Certificate,
        weights: bytes,
        program: bytes | None,
        limit_bytes: int,
    ) -> ArtifactRef:
        """See `Library.publish`."""
        module = self._fitting(spec, certificate, weights)
        contents = {Kind.KERNEL: pack(Kind.KERNEL, spec, certificate, weights)}
        if program is not None:
            contents[Kind.PROGRAM] = self._sealed(pack(Kind.PROGRAM, spec, certificate, program))
        if sum(map(len, contents.values())) > limit_bytes:
            raise Unfit(f"it is larger than the store may be ({limit_bytes:,} bytes)")
        try:
            return self._stored(spec, certificate, contents, module)
        except Damaged as error:  # something in the store's own folders is gone
            raise Unavailable(f"the store can't be written: {error.reason}") from None

    def _fitting(self, spec: KernelSpec, certificate: Certificate, weights: bytes) -> nn.Module:
        """The specification's module, once the weights and the certificate were found to be its own.

        Raises:
            Unfit: they are not, or no kernel of this specification is kept.
        """
        if certificate.guard_digest != self._reader.guard(spec.design):
            raise Unfit("the certificate assumes other code or versions than there are here; make it again")
        module = self._reader.build(spec)
        try:
            values.load(module, memoryview(bytearray(weights)))
        except Damaged as error:
            raise Unfit(f"these are not the weights of {spec.design.blueprint_id}: {error.reason}") from None
        return module

    def _sealed(self, packed: bytes) -> bytes:
        return packed + Seal.of(self._folder, make=True).stamp(packed)

    def _stored(
        self, spec: KernelSpec, certificate: Certificate, contents: Mapping[Kind, bytes], module: nn.Module
    ) -> ArtifactRef:
        staged: dict[Kind, str] = {}
        try:
            if not self._needless(certificate, contents, self._reader.glimpsed(spec, module)):
                for kind, content in contents.items():
                    staged[kind] = self._objects.stage(content)
            with self._records.ledger.transaction():
                kernel, _ = self._reader.sound(spec, module)
                if kernel is not None and self._needless(certificate, contents, kernel):
                    ref = kernel.ref
                else:
                    ref = self._placed(spec, certificate, contents, staged)
                    self.published += 1
                self._records.certify(spec.design, certificate)
                self._records.made(spec)
        finally:
            for left in staged.values():
                self._objects.discard(left)
        return ref

    def _needless(
        self, certificate: Certificate, contents: Mapping[Kind, bytes], kernel: Kernel | None
    ) -> bool:
        """Whether a stored kernel rests on as much as what is offered, and has a program if that has one."""
        if kernel is None or RANKS[kernel.certificate.strategy] < RANKS[certificate.strategy]:
            return False
        if Kind.PROGRAM not in contents:
            return True
        row = self._records.artifact(kernel.ref.ref)
        return row is not None and self._records.program(row.design_key, row.guard) is not None

    def _placed(
        self,
        spec: KernelSpec,
        certificate: Certificate,
        contents: Mapping[Kind, bytes],
        staged: dict[Kind, str],
    ) -> ArtifactRef:
        """Show the files, enter them, and say how the kernel is called."""
        refs = {}
        for kind, content in contents.items():
            if kind not in staged:  # a sound one was there a moment ago
                staged[kind] = self._objects.stage(content)
            checksum = hashlib.sha256(content).hexdigest()
            refs[kind] = ArtifactRef(ref_of(checksum, kind), checksum, len(content))
            self._objects.place(staged[kind], refs[kind].ref)
            self._records.add(refs[kind], kind, spec, certificate, used=True)
        return refs[Kind.KERNEL]
