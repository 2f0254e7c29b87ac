"""Karn acts: says which blueprints there are, and which of them may be made."""

from dataclasses import dataclass

from actors.runtime import Actor, handles
from contracts.blueprint import BlueprintDescriptor
from contracts.kernels import Design
from contracts.request import Request
from esper.karn.catalogue import Catalogue
from esper.karn.permit import refusal
from esper.karn.query import Query


@dataclass(frozen=True, slots=True)
class Offer(Request[tuple[BlueprintDescriptor, ...]]):
    """What does the catalogue have that answers this query? In its stated order."""

    query: Query


@dataclass(frozen=True, slots=True)
class Permit(Request[str]):
    """Why may this design not be made? Empty if it may."""

    design: Design


class Karn(Actor[Offer | Permit]):
    """The shell around the catalogue; `approved` are the experimental blueprints of this run."""

    critical = False
    mailbox_size = 256

    def __init__(self, catalogue: Catalogue, approved: frozenset[str]) -> None:
        self._catalogue = catalogue
        self._approved = approved

    @handles
    async def on_offer(self, message: Offer) -> tuple[BlueprintDescriptor, ...]:
        return tuple(one.descriptor for one in self._catalogue.query(message.query))

    @handles
    async def on_permit(self, message: Permit) -> str:
        return refusal(self._catalogue, message.design, self._approved)
