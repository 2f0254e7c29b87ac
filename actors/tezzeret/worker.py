"""The process that makes kernels: run by a sandbox, it answers orders.

A blueprint of the user's own is imported here, within the limits; its module is imported once a process.
"""

from functools import cache

import torch

from actors.tezzeret.orders import decode_order, encode_delivery
from actors.tezzeret.worker_side import Handle, Tell, serve
from esper.karn.blueprint import is_dangerous
from esper.karn.catalogue import CATALOGUE, Catalogue
from esper.karn.source import Source, blueprint_at
from esper.tezzeret.forge import forge


class Forbidden(Exception):
    """No kernel is made of what was ordered."""


def forging(catalogue: Catalogue) -> Handle:
    """Makes what is ordered out of `catalogue`, or of a blueprint whose source the order names, with one
    thread; nothing that is for drills alone."""

    def handle(header: bytes, body: bytes, tell: Tell) -> tuple[bytes, bytes]:
        order = decode_order(header)
        known = catalogue if order.source is None else _own(order.source)
        about = known.get(order.spec.design.blueprint_id).descriptor
        if is_dangerous(about):
            raise Forbidden(f"{about.blueprint_id} ({about.name}) is grown in drills alone")
        return encode_delivery(forge(order.spec, order.strategy, known))

    return handle


@cache
def _own(source: Source) -> Catalogue:
    return Catalogue([blueprint_at(source)])


if __name__ == "__main__":
    torch.set_num_threads(1)
    serve(forging(CATALOGUE))
