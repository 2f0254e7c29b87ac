"""The catalogue in its own words: artifacts, work, holds, tags and quarantine, over the tables of `schema`.

Nothing here begins a transaction; whoever changes several things does.
"""

from collections.abc import Iterable
from typing import NamedTuple, TypeVar

import msgspec

from contracts.kernels import REASON_CHARS_MAX, Certificate, Design, KernelSpec, Strategy
from esper.urza.ledger import Ledger, Row, Value
from esper.urza.names import ArtifactRef, Kind, is_ref, parts

RANKS = {Strategy.EMERGENCY: 0, Strategy.FAST: 1, Strategy.STANDARD: 2, Strategy.AGGRESSIVE: 3}
"""How much was checked: more replaces less."""
T = TypeVar("T", bound=msgspec.Struct)
WANTED_MAX = 10_000
"""Of rows of work, and of designs that were given up."""
USERS_MAX = ASIDE_MAX = 1_000
"""Of users and of quarantined files that are looked at; no store has as many."""
_NOBODYS = "spec_key NOT IN (SELECT spec_key FROM wanters)"
_FIELDS = "ref, kind, spec_key, design_key, guard, rank, version, size"


class Artifact(NamedTuple):
    """A row of the catalogue."""

    ref: str
    kind: str
    spec_key: str
    design_key: str
    guard: str
    rank: int
    version: int
    size: int

    @property
    def named(self) -> ArtifactRef:
        return ArtifactRef(self.ref, parts(self.ref)[0], self.size)


class Waiting(NamedTuple):
    """A kernel on the list of work, and how often making it has failed so far."""

    spec: KernelSpec
    attempts: int
    reason: str
    """Of the newest failure."""


class GivenUp(NamedTuple):
    """A design that can't be made while its guard digest is this one."""

    design: Design
    guard: str
    reason: str


class Records:
    """Reads and writes rows."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    # artifacts

    def kernel(self, spec_key: str, guard: str) -> Artifact | None:
        """The newest kernel of a specification."""
        where = "spec_key = ? AND guard = ? AND kind = 'kernel'"
        return self._first(f"{where} ORDER BY version DESC", spec_key, guard)

    def program(self, design_key: str, guard: str) -> Artifact | None:
        """The program of a design that was entered last; versions count for one specification alone."""
        where = "design_key = ? AND guard = ? AND kind = 'program'"
        return self._first(f"{where} ORDER BY rowid DESC", design_key, guard)

    def artifact(self, ref: str) -> Artifact | None:
        return self._first("ref = ?", ref)

    def versions(self, spec_key: str) -> tuple[Artifact, ...]:
        """All kernels of a specification, the newest last."""
        where = f"SELECT {_FIELDS} FROM artifacts WHERE spec_key = ? AND kind = 'kernel' ORDER BY version"
        return tuple(one for row in self.ledger.rows(where, spec_key) if (one := _artifact(row)))

    def artifacts(self) -> list[Artifact]:
        """All of them, the one that was used last first."""
        rows = self.ledger.rows(f"SELECT {_FIELDS} FROM artifacts ORDER BY used DESC, ref DESC")
        return [one for row in rows if (one := _artifact(row))]

    def beginning(self, prefix: str) -> list[str]:
        """Names that begin like this, two of them at most."""
        statement = "SELECT ref FROM artifacts WHERE substr(ref, 1, ?) = ? ORDER BY ref LIMIT 2"
        return [str(ref) for (ref,) in self.ledger.rows(statement, len(prefix), prefix) if is_ref(str(ref))]

    def add(
        self, named: ArtifactRef, kind: Kind, spec: KernelSpec, certificate: Certificate, *, used: bool
    ) -> None:
        """Enter an artifact and its certificate; it counts as used now, or as never used."""
        version = 1 + self.ledger.number(
            "SELECT max(version) FROM artifacts WHERE spec_key = ? AND kind = ? AND ref <> ?",
            spec.key, kind, named.ref,
        )  # fmt: skip
        self.ledger.run(
            f"INSERT OR REPLACE INTO artifacts ({_FIELDS}, used) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            named.ref, kind, spec.key, spec.design.key, certificate.guard_digest, RANKS[certificate.strategy],
            version, named.size, self._next_use() if used else 0,
        )  # fmt: skip

    def remove(self, ref: str) -> None:
        """Strike an artifact out, with its holds and tags."""
        for table in ("artifacts", "holds", "tags"):
            self.ledger.run(f"DELETE FROM {table} WHERE ref = ?", ref)

    def use(self, refs: Iterable[str]) -> None:
        """Mark artifacts as used last, the last of them most."""
        for number, ref in enumerate(refs, self._next_use()):
            self.ledger.run("UPDATE artifacts SET used = ? WHERE ref = ?", number, ref)

    def idle(self) -> list[tuple[str, int]]:
        """Names and sizes of what nobody holds, the least recently used first."""
        found = self.ledger.rows(
            "SELECT ref, size FROM artifacts WHERE ref NOT IN (SELECT ref FROM holds) ORDER BY used, ref"
        )
        return [(str(ref), int(size)) for ref, size in found]

    def bytes(self) -> int:
        return self.ledger.number("SELECT coalesce(sum(size), 0) FROM artifacts")

    # certificates

    def certify(self, design: Design, certificate: Certificate) -> None:
        """Keep a design's certificate, unless there is one of the same guard that rests on more."""
        known = self.certificate(design)
        if known is not None and known.guard_digest == certificate.guard_digest:
            certificate = max(certificate, known, key=lambda one: RANKS[one.strategy])
        self.ledger.run(
            "INSERT OR REPLACE INTO designs VALUES (?, ?)",
            design.key,
            msgspec.json.encode(certificate).decode(),
        )

    def certificate(self, design: Design) -> Certificate | None:
        for (text,) in self.ledger.rows("SELECT certificate FROM designs WHERE design_key = ?", design.key):
            return _decoded(text, Certificate)
        return None

    # work

    def want(self, spec: KernelSpec, wanter: str = "", user: str = "") -> None:
        """Put a kernel at the end of the list, unless it is on it; a wanter without a name is not noted."""
        self.ledger.run(
            "INSERT OR IGNORE INTO work SELECT ?, ?, ?, 1 + coalesce(max(ordinal), 0), 0, '' FROM work",
            spec.key, spec.design.key, msgspec.json.encode(spec).decode(),
        )  # fmt: skip
        if wanter:
            self.ledger.run("INSERT OR IGNORE INTO wanters VALUES (?, ?, ?)", spec.key, wanter, user)

    def waiting(self) -> list[Waiting]:
        """What is on the list, in order; rows that make no sense are passed over."""
        rows = self.ledger.rows(
            "SELECT spec, spec_key, attempts, reason FROM work ORDER BY ordinal LIMIT ?", WANTED_MAX
        )
        return [
            Waiting(spec, int(attempts), str(reason))
            for text, key, attempts, reason in rows
            if (spec := _spec(text, key)) is not None
        ]

    def wanted_spec(self, key: str) -> KernelSpec | None:
        rows = self.ledger.rows("SELECT spec FROM work WHERE spec_key = ?", key)
        return _spec(rows[0][0], key) if rows else None

    def is_wanted(self, spec: KernelSpec) -> bool:
        return self.ledger.number("SELECT 1 FROM work WHERE spec_key = ?", spec.key) == 1

    def made(self, spec: KernelSpec) -> None:
        """Take a kernel off the list; its design can be made."""
        self.ledger.run("DELETE FROM work WHERE spec_key = ?", spec.key)
        self.ledger.run("DELETE FROM given_up WHERE design_key = ?", spec.design.key)

    def withdraw(self, spec: KernelSpec, wanter: str, user: str) -> None:
        """Note that one wants a kernel no more; it leaves the list if nobody else does."""
        statement = "DELETE FROM wanters WHERE spec_key = ? AND wanter = ? AND user = ?"
        self.ledger.run(statement, spec.key, wanter, user)
        self.ledger.run(f"DELETE FROM work WHERE spec_key = ? AND {_NOBODYS}", spec.key)

    def trim_work(self, kept: int) -> None:
        """Of what nobody wants any more, leave only what was asked for last on the list."""
        self.ledger.run(
            f"DELETE FROM work WHERE {_NOBODYS} AND spec_key NOT IN "
            f"(SELECT spec_key FROM work WHERE {_NOBODYS} ORDER BY ordinal DESC LIMIT ?)",
            kept,
        )

    def failed(self, spec: KernelSpec, reason: str) -> None:
        statement = "UPDATE work SET attempts = attempts + 1, reason = ? WHERE spec_key = ?"
        self.ledger.run(statement, _short(reason), spec.key)

    def give_up(self, design: Design, guard: str, reason: str) -> None:
        """Take everything of a design off the list, and remember why."""
        self.ledger.run("DELETE FROM work WHERE design_key = ?", design.key)
        self.ledger.run(
            "INSERT OR REPLACE INTO given_up VALUES (?, ?, ?, ?)",
            design.key, msgspec.json.encode(design).decode(), guard, _short(reason),
        )  # fmt: skip

    def given_up(self) -> list[GivenUp]:
        rows = self.ledger.rows(
            "SELECT design, guard, reason, design_key FROM given_up ORDER BY design_key LIMIT ?", WANTED_MAX
        )
        designs = ((_decoded(text, Design), guard, reason, key) for text, guard, reason, key in rows)
        return [
            GivenUp(design, str(guard), str(reason))
            for design, guard, reason, key in designs
            if design is not None and design.key == key
        ]

    def given_up_guard(self, design: Design) -> str:
        """The guard digest that a design was given up under; empty if it wasn't."""
        found = self.ledger.rows("SELECT guard FROM given_up WHERE design_key = ?", design.key)
        return str(found[0][0]) if found else ""

    # holds

    def hold(self, ref: str, holder: str, user: str) -> None:
        self.ledger.run("INSERT OR IGNORE INTO holds VALUES (?, ?, ?)", ref, holder, user)

    def let_go(self, ref: str, holder: str, user: str) -> None:
        statement = "DELETE FROM holds WHERE ref = ? AND holder = ? AND user = ?"
        self.ledger.run(statement, ref, holder, user)

    def holders(self) -> dict[str, list[str]]:
        """Who holds an artifact, by its name."""
        return self._listed("SELECT DISTINCT ref, holder FROM holds ORDER BY holder")

    def leave(self, user: str) -> None:
        """A user is gone: it holds nothing, and nobody there wants anything."""
        for table in ("holds", "wanters"):
            self.ledger.run(f"DELETE FROM {table} WHERE user = ?", user)

    def users(self) -> list[str]:
        """Who holds or wants anything, as the rows have it."""
        either = "SELECT user FROM holds UNION SELECT user FROM wanters ORDER BY user LIMIT ?"
        return [str(user) for (user,) in self.ledger.rows(either, USERS_MAX)]

    # tags

    def tag(self, ref: str, tags: Iterable[str]) -> None:
        for tag in tags:
            self.ledger.run("INSERT OR IGNORE INTO tags VALUES (?, ?)", ref, tag)

    def untag(self, ref: str, tags: Iterable[str]) -> None:
        for tag in tags:
            self.ledger.run("DELETE FROM tags WHERE ref = ? AND tag = ?", ref, tag)

    def tags(self) -> dict[str, list[str]]:
        """The words on an artifact, by its name."""
        return self._listed("SELECT ref, tag FROM tags ORDER BY tag")

    def tagged(self, tag: str) -> tuple[Artifact, ...]:
        where = (
            f"SELECT {_FIELDS} FROM artifacts WHERE ref IN (SELECT ref FROM tags WHERE tag = ?) ORDER BY ref"
        )
        return tuple(one for row in self.ledger.rows(where, tag) if (one := _artifact(row)))

    # quarantine

    def quarantine(self, aside: str, ref: str, reason: str, size: int) -> None:
        self.ledger.run(
            "INSERT INTO quarantine SELECT ?, 1 + coalesce(max(ordinal), 0), ?, ?, ? FROM quarantine",
            aside, ref[:REASON_CHARS_MAX], _short(reason), size,
        )  # fmt: skip

    def quarantined(self) -> list[tuple[str, str, str, int]]:
        """Where it lies, what it was, why, and its bytes; the newest first."""
        rows = self.ledger.rows(
            "SELECT aside, ref, reason, size FROM quarantine ORDER BY ordinal DESC LIMIT ?", ASIDE_MAX
        )
        return [(str(aside), str(ref), str(reason), int(size)) for aside, ref, reason, size in rows]

    def forget_aside(self, aside: str) -> None:
        self.ledger.run("DELETE FROM quarantine WHERE aside = ?", aside)

    def count(self, table: str) -> int:
        return self.ledger.number(f"SELECT count(*) FROM {table}")

    def _next_use(self) -> int:
        return 1 + self.ledger.number("SELECT coalesce(max(used), 0) FROM artifacts")

    def _listed(self, statement: str) -> dict[str, list[str]]:
        """The second column's values, by the first's."""
        found: dict[str, list[str]] = {}
        for key, value in self.ledger.rows(statement):
            found.setdefault(str(key), []).append(str(value))
        return found

    def _first(self, where: str, *values: str) -> Artifact | None:
        statement = f"SELECT {_FIELDS} FROM artifacts WHERE {where} LIMIT 1"
        return next((_artifact(row) for row in self.ledger.rows(statement, *values)), None)


def _artifact(row: Row) -> Artifact | None:
    """A row as an artifact; None if it names no file of ours, so that nothing is ever looked up by it."""
    ref, kind, spec_key, design_key, guard, rank, version, size = row
    if not is_ref(str(ref)) or parts(str(ref))[1] != kind:
        return None
    return Artifact(
        str(ref), str(kind), str(spec_key), str(design_key), str(guard), int(rank), int(version), int(size)
    )


def _spec(text: Value, key: Value) -> KernelSpec | None:
    """A row of work; None if it is not the specification that its key says."""
    spec = _decoded(text, KernelSpec)
    return spec if spec is not None and spec.key == key else None


def _decoded(text: Value, kind: type[T]) -> T | None:
    """A stored struct; None if somebody wrote something else there."""
    try:
        return msgspec.json.decode(str(text), type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError):
        return None


def _short(reason: str) -> str:
    return reason[:REASON_CHARS_MAX].encode("utf-8", "replace").decode("utf-8")
