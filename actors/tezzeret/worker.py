"""The process that makes kernels: run by a sandbox, it answers orders."""

import torch

from actors.tezzeret.orders import decode_order, encode_delivery
from actors.tezzeret.worker_side import Handle, Tell, serve
from esper.karn.catalogue import CATALOGUE, Catalogue
from esper.karn.query import is_dangerous
from esper.tezzeret.forge import forge


class Forbidden(Exception):
    """No kernel is made of what was ordered."""


def forging(catalogue: Catalogue) -> Handle:
    """Makes what is ordered out of `catalogue`, with one thread; nothing that is for drills alone."""

    def handle(header: bytes, body: bytes, tell: Tell) -> tuple[bytes, bytes]:
        order = decode_order(header)
        about = catalogue.get(order.spec.design.blueprint_id).descriptor
        if is_dangerous(about):
            raise Forbidden(f"{about.blueprint_id} ({about.name}) is grown in drills alone")
        return encode_delivery(forge(order.spec, order.strategy, catalogue))

    return handle


if __name__ == "__main__":
    torch.set_num_threads(1)
    serve(forging(CATALOGUE))
