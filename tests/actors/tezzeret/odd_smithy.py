"""A worker whose catalogue holds blueprints that misbehave when they are built, and some that do not.

What a blueprint does to the process it does before torch is imported where it can, as starting that again
after each kill would take the tests minutes.
"""

import ctypes
import json
import os
import time

from actors.tezzeret.worker_side import Tell, serve

HANGS, LEAKS, CRASHES = "BP001", "BP002", "BP003"
"""Blueprints whose orders end badly here; the others are made as ever."""


def handle(header: bytes, body: bytes, tell: Tell) -> tuple[bytes, bytes]:
    blueprint_id = json.loads(header)["spec"]["design"]["blueprint_id"]
    held = []
    while blueprint_id == LEAKS:
        held.append(bytearray(os.urandom(1) * (8 << 20)))
    while blueprint_id == HANGS:
        time.sleep(60.0)
    if blueprint_id == CRASHES:
        ctypes.string_at(0)
    from actors.tezzeret.worker import forging
    from esper.karn.catalogue import CATALOGUE

    return forging(CATALOGUE)(header, body, tell)


if __name__ == "__main__":
    serve(handle)
