"""Where a seed's initial values come from: a random stream of its own, by the run's seed and its own id."""

import hashlib

import torch


def draw_of(seed: int, seed_id: str) -> int:
    """The number of the seed's stream, 0 to 2**63 - 1: the same for the same run and id, on any machine."""
    digest = hashlib.sha256(f"{seed}/{seed_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def stream_of(draw: int) -> torch.Generator:
    """The stream of that number, from its beginning."""
    return torch.Generator().manual_seed(draw)
