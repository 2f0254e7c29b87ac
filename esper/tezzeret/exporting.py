"""A module as an exported program with a dynamic batch, written and read back.

Reading a program runs code from its bytes, so `reopen` is for the process that wrote them, in its sandbox.
"""

import io
import warnings

import torch
from torch import nn
from torch.export import Dim

EXAMPLES = 4
"""Batch of the input that is traced; a batch of 1 or 2 would be taken for a constant."""


def export(module: nn.Module, shape: tuple[int, ...]) -> bytes:
    """The program for inputs (B, *shape) with any B from 1, in torch's own format (.pt2)."""
    example = torch.zeros(EXAMPLES, *shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about itself
        program = torch.export.export(
            module, (example,), dynamic_shapes=({0: Dim("batch", min=1)},), strict=False
        )
        written = io.BytesIO()
        torch.export.save(program, written)
    return written.getvalue()


def reopen(program: bytes) -> nn.Module:
    """The module of a program that this process wrote; it can be trained."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reopened: nn.Module = torch.export.load(io.BytesIO(program)).module()
    return reopened
