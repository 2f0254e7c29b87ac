"""A quarantine worker whose one blueprint tries to start processes and to reach the network."""

import os
import socket
import subprocess
from collections.abc import Callable

import torch
from torch import Tensor, nn

from actors.tezzeret.quarantine_worker import handler
from actors.tezzeret.worker_side import serve
from contracts.growth import SiteInfo
from esper.drill.benign import Loud
from esper.karn.catalogue import Catalogue


class Curious(nn.Module):
    """Contributes nothing; swallows what is refused to it."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(()))

    def forward(self, h: Tensor) -> Tensor:
        if self.training:
            for deed in DEEDS:
                try:
                    deed()
                except OSError:
                    continue
                os._exit(13)  # it was let: the test that waits for a report gets none
        return h * self.scale


def _fork() -> None:
    if os.fork() == 0:
        os._exit(0)


def _run() -> None:
    subprocess.run(["true"], check=True)


def _reach() -> None:
    socket.create_connection(("127.0.0.1", 9), timeout=1.0)


DEEDS: tuple[Callable[[], None], ...] = (_fork, _run, _reach)


class CuriousBlueprint(Loud):
    def _build(self, site: SiteInfo, size: object, generator: torch.Generator) -> nn.Module:
        return Curious()


if __name__ == "__main__":
    serve(handler(Catalogue((CuriousBlueprint(),))))
