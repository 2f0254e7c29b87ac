"""What a store holds, for whoever looks after it: each artifact and its state, and what is yet to be made."""

from collections.abc import Iterator
from enum import StrEnum

import msgspec

from contracts.growth import Layout
from contracts.kernels import Design, Strategy
from esper.karn.blueprint import BlueprintError
from esper.karn.catalogue import UnknownBlueprint
from esper.urza.container import Header
from esper.urza.errors import Damaged
from esper.urza.objects import Objects
from esper.urza.opening import survey
from esper.urza.reader import Reader
from esper.urza.records import Artifact, Records
from esper.urza.seal import Seal


class State(StrEnum):
    """How something stands."""

    READY = "ready"  # a run that wants it fetches it
    OLD = "old"  # made by other code or versions than there are: no run asks for it
    DAMAGED = "damaged"  # set aside when it is fetched
    WANTED = "wanted"  # on the list of work
    GIVEN_UP = "given up"  # can't be made by the present code


class Holding(msgspec.Struct, frozen=True, kw_only=True):
    """An artifact, or a kernel that is wanted, or a design that was given up."""

    state: State
    blueprint_id: str = ""
    """Empty if its file does not say."""
    layout: Layout | None = None
    shape: tuple[int, ...] = ()
    settings: dict[str, float] = {}
    """The blueprint's own."""
    draw: int | None = None
    """Seed of the initial values; None of a design."""
    ref: str = ""
    """Empty of what is not made yet."""
    kind: str = ""
    strategy: Strategy | None = None
    version: int = 0
    """Counts the kernels of one specification, from 1."""
    size: int = 0
    """Bytes."""
    recency: int = 0
    """1 for the artifact that was used last, 2 for the one before."""
    tags: list[str] = []
    holders: list[str] = []
    """Runs that keep it from being collected."""
    attempts: int = 0
    """How often making it has failed."""
    reason: str = ""
    """Why it is damaged, old or given up, or why making it failed last."""
    miscompiled: str = ""
    """Why what was compiled natively of it is not kept, if that computes something else."""


def holdings(records: Records, objects: Objects, reader: Reader, seal: Seal | None) -> list[Holding]:
    """See `Library.holdings`."""
    return [*_artifacts(records, objects, reader, seal), *_waiting(records), *_given_up(records, reader)]


def _artifacts(records: Records, objects: Objects, reader: Reader, seal: Seal | None) -> Iterator[Holding]:
    tags, holders = records.tags(), records.holders()
    for recency, row in enumerate(records.artifacts(), 1):
        try:
            header = survey(objects, row.ref, seal)
            state, reason = _state(row, header, reader)
            found = _of_design(header.spec.design, state, reason)
            certificate = header.certificate
            found = msgspec.structs.replace(
                found,
                draw=header.spec.draw,
                strategy=certificate.strategy,
                miscompiled=certificate.miscompiled,
            )
        except Damaged as error:
            found = Holding(state=State.DAMAGED, reason=error.reason)
        yield msgspec.structs.replace(
            found,
            ref=row.ref,
            kind=row.kind,
            version=row.version,
            size=row.size,
            recency=recency,
            tags=tags.get(row.ref, []),
            holders=holders.get(row.ref, []),
        )


def _state(row: Artifact, header: Header, reader: Reader) -> tuple[State, str]:
    """How a file that is what its name says stands, and why it is of no use if it is of none.

    Raises:
        Damaged: the catalogue says other things about it.
    """
    if (header.spec.key, header.certificate.guard_digest) != (row.spec_key, row.guard):
        raise Damaged("it is the artifact of another specification than the catalogue says")
    try:
        if reader.guard(header.spec.design) == row.guard:
            return State.READY, ""
    except (UnknownBlueprint, BlueprintError) as error:
        return State.OLD, str(error)
    return State.OLD, "made by other code or versions than there are here"


def _waiting(records: Records) -> Iterator[Holding]:
    for one in records.waiting():
        found = _of_design(one.spec.design, State.WANTED, one.reason)
        yield msgspec.structs.replace(found, draw=one.spec.draw, attempts=one.attempts)


def _given_up(records: Records, reader: Reader) -> Iterator[Holding]:
    """Those whose code and versions are still the same."""
    for one in records.given_up():
        if reader.still(one):
            yield _of_design(one.design, State.GIVEN_UP, one.reason)


def _of_design(design: Design, state: State, reason: str) -> Holding:
    return Holding(
        state=state,
        blueprint_id=design.blueprint_id,
        layout=design.layout,
        shape=design.shape,
        settings=design.parameters,
        reason=reason,
    )
