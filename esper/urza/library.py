"""The library: publishes kernels atomically, fetches them verified, and keeps the list of what is wanted.

    want ─▶ work list ─▶ (Tezzeret makes it) ─▶ publish ─▶ staged file ─▶ renamed ─▶ row in the catalogue
      ▲                                                                                │
      └── damaged: file to quarantine, row struck out ◀── verify on every load ◀── fetch

A row appears after its file is whole and durable, and in one transaction; a file without a row is nobody's,
and taken in or set aside when the store is opened. Whatever changes files that have a name holds the
catalogue's write lock, so that several processes can use one store. A library belongs to one thread.
"""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from contracts.kernels import Certificate, Design, KernelSpec
from esper.karn.catalogue import CATALOGUE, Catalogue
from esper.urza import upkeep
from esper.urza.errors import Damaged, Missing, Unavailable, Unfit
from esper.urza.holdings import Holding, holdings
from esper.urza.kernel import Kernel
from esper.urza.ledger import FILE
from esper.urza.names import ArtifactRef, Kind, parts
from esper.urza.objects import objects_at
from esper.urza.opening import open_program
from esper.urza.presence import Presence, opening
from esper.urza.press import Press
from esper.urza.reader import Reader
from esper.urza.records import WANTED_MAX, Artifact, Records
from esper.urza.seal import KEY_FILE, Seal
from esper.urza.upkeep import Collected

LIMIT_BYTES = 100 << 20
TAG_CHARS_MAX = 64
USES_MAX = 256
"""Uses remembered before they are written down: a fetch that waited for the disk would be no fetch."""


class LibraryStatistics(NamedTuple):
    """As of now; the last three since this library was opened."""

    kernels: int
    programs: int
    bytes: int
    limit_bytes: int
    wanted: int
    given_up: int
    quarantined: int
    held: int
    published: int
    fetched: int
    damaged: int


class Library:
    """One store, as one thread of one process uses it.

    Methods that take a specification or a design raise `UnknownBlueprint` or `BlueprintError` where the
    catalogue of blueprints can't build it, and every method `Unavailable` where the store can't be used now.
    """

    def __init__(
        self,
        folder: Path,
        *,
        objects: str | None = None,
        limit_bytes: int = LIMIT_BYTES,
        catalogue: Catalogue = CATALOGUE,
    ) -> None:
        """Open the store in `folder`; its files lie at the fsspec address `objects`, else there too.

        What a crash left behind is put in order. A catalogue that is damaged is set aside and made anew from
        the files that are sound (`rebuilt` then says why); lists of wanted work, holds and tags are lost.
        """
        self._folder = folder
        self.limit_bytes = limit_bytes
        self._uses: dict[str, None] = {}
        self._fetched = 0
        self._open = True
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._presence = Presence(folder)
        except OSError as error:
            raise Unavailable(f"{error.filename or folder}: {error.strerror}") from None
        try:
            with opening(folder):
                self._objects = objects_at(objects, folder, self._presence.user)
                ledger, self.rebuilt = upkeep.open_ledger(folder / FILE)
                self._records = Records(ledger)
                self.taken_in = upkeep.put_in_order(self._records, self._objects, self._presence, folder)
        except Damaged as error:
            self._presence.close()
            raise Unavailable(f"{folder}: {error.reason}") from None
        except BaseException:
            self._presence.close()
            raise
        self._reader = Reader(self._records, self._objects, catalogue)
        self._press = Press(self._records, self._objects, self._reader, folder)

    def find(self, spec: KernelSpec) -> ArtifactRef | None:
        """The newest kernel of this specification that was made by the present code and versions."""
        self._look_again()
        found = self._reader.found(spec)
        return None if found is None else found.named

    def fetch(self, spec: KernelSpec) -> Kernel:
        """A module of the caller's own, built and filled from a verified file.

        Raises:
            Missing: there is none.
            Damaged: there was one, and it is not what was published. It is in quarantine and wanted again.
        """
        self._look_again()
        kernel = self._reader.fetch(spec)
        self._note_use(kernel.ref.ref)
        self._fetched += 1
        return kernel

    def publish(
        self, spec: KernelSpec, certificate: Certificate, weights: bytes, program: bytes | None = None
    ) -> ArtifactRef:
        """Store a kernel, `weights` as `weights_of` in `esper.urza.weights` gives them, and native artifacts.

        All of it is visible afterwards, or nothing. If there is one already that rests on as much, that one
        is the answer. The kernel is no longer wanted, and its design no longer given up.

        Raises:
            Unfit: the weights are not those of the specification, the certificate assumes other code or
                versions than there are, it is too large, or its blueprint is for drills alone. Nothing was
                stored.
        """
        self._look_again()
        ref = self._press.publish(spec, certificate, weights, program, self.limit_bytes)
        if self._records.bytes() > self.limit_bytes:
            self._write_uses()
            upkeep.collect(self._records, self._objects, self._presence, self.limit_bytes, keeping=ref.ref)
        return ref

    def want(self, spec: KernelSpec, wanter: str = "") -> bool:
        """Put a kernel on the durable list of work, for a wanter (a run); True if it is on it now.

        It is not if it is there already, if its design was given up, if it is for drills alone or too large
        for an artifact, or if the list is full. Whoever only passes a request on names no wanter: what is
        listed does not stay for that.
        """
        self._look_again()
        if self._reader.refusal(spec) or self._reader.found(spec) is not None:
            return False
        if self._is_given_up(spec.design):
            return False
        with self._records.ledger.transaction():
            if self._records.is_wanted(spec) or self._records.count("work") < WANTED_MAX:
                self._records.want(spec, wanter, self._presence.user)
        return self._records.is_wanted(spec)

    def wanted(self) -> tuple[KernelSpec, ...]:
        """What is to be made, in the order of asking; rows of what `want` refuses are passed over."""
        self._look_again()
        out = {one.design.key for one in self._records.given_up() if self._reader.still(one)}
        specs = (one.spec for one in self._records.waiting() if one.spec.design.key not in out)
        return tuple(filter(self._reader.may_make, specs))

    def wanted_spec(self, key: str) -> KernelSpec | None:
        """The one on the list whose key this is; None if it is not to be made."""
        self._look_again()
        spec = self._records.wanted_spec(key)
        if spec is None or not self._reader.may_make(spec) or self._is_given_up(spec.design):
            return None
        return spec

    def withdraw(self, specs: Iterable[KernelSpec], wanter: str = "") -> None:
        """A wanter has no more use for kernels; they leave the list unless others who are there want them.

        What is wanted by wanters who are all gone stays, for the next to take up.
        """
        self._look_again()
        upkeep.release_the_gone(self._records, self._presence)
        with self._records.ledger.transaction():
            for spec in specs:
                self._records.withdraw(spec, wanter, self._presence.user)

    def failed(self, spec: KernelSpec, reason: str, final: bool) -> None:
        """Note that making it failed; finally, its whole design is given up for the present code."""
        self._look_again()
        with self._records.ledger.transaction():
            self._records.failed(spec, reason)
            if final:
                self._records.give_up(spec.design, self._reader.guard(spec.design), reason)

    def given_up(self) -> dict[str, str]:
        """Why, by the key of the design, for designs whose code and versions are still the same."""
        self._look_again()
        return {one.design.key: one.reason for one in self._records.given_up() if self._reader.still(one)}

    def certificate(self, design: Design) -> Certificate | None:
        """What was found out about a design with the present code and versions."""
        self._look_again()
        found = self._records.certificate(design)
        return found if found is not None and found.guard_digest == self._reader.guard(design) else None

    def program(self, ref: str) -> bytes:
        """The native compiler's artifacts stored with a kernel, or under this name itself; their seal was
        checked.

        The bytes are code for whoever opens them. The library never does, nor does a run: natively compiled
        modules round otherwise, and whether a kernel was ready in time changes no number of a run.

        Raises:
            Missing: there is none.
            Damaged: it was not sealed here, or changed since. It is in quarantine.
        """
        self._look_again()
        asked = self._row(ref)
        of_kernel = asked.kind == Kind.KERNEL
        row = self._records.program(asked.design_key, asked.guard) if of_kernel else asked
        if row is None:
            raise Missing(f"there is no program for {ref}")
        try:
            content = self._opened_program(row)
        except Damaged as error:
            with self._records.ledger.transaction():
                self._reader.put_away(row, error.reason)
            raise
        self._note_use(row.ref)
        return content

    def _opened_program(self, row: Artifact) -> bytes:
        header, content = open_program(self._objects, row.ref, Seal.of(self._folder, make=False))
        if (header.spec.key, header.certificate.guard_digest) != (row.spec_key, row.guard):
            raise Damaged("it is the program of another specification")
        return content

    def hold(self, ref: str, holder: str) -> None:
        """Keep an artifact from being collected until `let_go`, or until this process is gone.

        Raises:
            Missing: it isn't there.
        """
        self._look_again()
        with self._records.ledger.transaction():
            self._row(ref)
            self._records.hold(ref, holder, self._presence.user)

    def let_go(self, ref: str, holder: str) -> None:
        """Let go one artifact that is held here for a holder; if it isn't, nothing changes."""
        self._look_again()
        with self._records.ledger.transaction():
            self._records.let_go(ref, holder, self._presence.user)

    def tag(self, ref: str, *tags: str) -> None:
        """Put words on an artifact.

        Raises:
            Missing: it isn't there.
            Unfit: one is no word of 1 to `TAG_CHARS_MAX` characters. Nothing changed.
        """
        for tag in tags:
            if not 0 < len(tag) <= TAG_CHARS_MAX or not tag.isprintable() or tag != tag.strip():
                raise Unfit(f"{tag[:80]!r} is no tag: it takes 1 to {TAG_CHARS_MAX} printable characters")
        self._look_again()
        with self._records.ledger.transaction():
            self._row(ref)
            self._records.tag(ref, tags)

    def untag(self, ref: str, *tags: str) -> None:
        """Take words off an artifact; those that are not on it change nothing.

        Raises:
            Missing: it isn't there.
        """
        self._look_again()
        with self._records.ledger.transaction():
            self._row(ref)
            self._records.untag(ref, tags)

    def tagged(self, tag: str) -> tuple[ArtifactRef, ...]:
        """All artifacts with a word on them, by name."""
        self._look_again()
        return tuple(row.named for row in self._records.tagged(tag))

    def versions(self, spec: KernelSpec) -> tuple[ArtifactRef, ...]:
        """All kernels of a specification, those of other code or versions too; the newest last."""
        self._look_again()
        return tuple(row.named for row in self._records.versions(spec.key))

    def named(self, beginning: str) -> ArtifactRef:
        """The one artifact whose name begins like this.

        Raises:
            Missing: there is none, or more than one.
        """
        self._look_again()
        found = self._records.beginning(beginning) if beginning else []
        if len(found) != 1:
            several = "more than one artifact begins" if found else "no artifact begins"
            raise Missing(f"{several} with {beginning[:80]!r}")
        return self._row(found[0]).named

    def holdings(self) -> list[Holding]:
        """All that is there, each file read and compared with its digest; then what is yet to be made.

        Of artifacts the one that was used last comes first. Nothing is built, and nothing is put away.
        """
        self._look_again()
        self._write_uses()
        seal = Seal.of(self._folder, make=False) if (self._folder / KEY_FILE).exists() else None
        return holdings(self._records, self._objects, self._reader, seal)

    def surplus(self) -> tuple[ArtifactRef, ...]:
        """What `collect` would remove now, if all who hold something are still there."""
        self._look_again()
        self._write_uses()
        return tuple(self._row(ref).named for ref, _ in upkeep.surplus(self._records, self.limit_bytes))

    def collect(self) -> Collected:
        """Remove what was used least recently, until the store is within its limit; never what is held.

        What is held stays even if it alone is more than the limit: a holder that has no more use for an
        artifact lets it go.
        """
        self._look_again()
        self._write_uses()
        return upkeep.collect(self._records, self._objects, self._presence, self.limit_bytes)

    def stats(self) -> LibraryStatistics:
        """Counts and sizes, of the catalogue as it is open here."""
        count = self._records.ledger.number
        return LibraryStatistics(
            kernels=count("SELECT count(*) FROM artifacts WHERE kind = 'kernel'"),
            programs=count("SELECT count(*) FROM artifacts WHERE kind = 'program'"),
            bytes=self._records.bytes(),
            limit_bytes=self.limit_bytes,
            wanted=self._records.count("work"),
            given_up=self._records.count("given_up"),
            quarantined=self._records.count("quarantine"),
            held=count("SELECT count(DISTINCT ref) FROM holds"),
            published=self._press.published,
            fetched=self._fetched,
            damaged=self._reader.damaged,
        )

    def close(self) -> None:
        """Write down what is left to write; what is held here is let go. More than once does no harm."""
        if not self._open:
            return
        self._open = False
        with suppress(Unavailable):
            self._write_uses()
        self._presence.close()
        self._records.ledger.close()
        self._objects.close()

    def _look_again(self) -> None:
        """Change over where another process has put a new catalogue in place of a damaged one."""
        if self._records.ledger.replaced:
            with opening(self._folder):
                ledger, _ = upkeep.open_ledger(self._folder / FILE)
            self._records.ledger.close()
            self._records.ledger = ledger

    def _row(self, ref: str) -> Artifact:
        parts(ref)  # nothing is looked up by what is no name
        row = self._records.artifact(ref)
        if row is None:
            raise Missing(f"there is no artifact {ref}")
        return row

    def _is_given_up(self, design: Design) -> bool:
        return self._records.given_up_guard(design) == self._reader.guard(design)

    def _note_use(self, ref: str) -> None:
        self._uses.pop(ref, None)
        self._uses[ref] = None
        if len(self._uses) > USES_MAX:
            self._write_uses()

    def _write_uses(self) -> None:
        if self._uses:
            with self._records.ledger.transaction():
                self._records.use(self._uses)
            self._uses.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
