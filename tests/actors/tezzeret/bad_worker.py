"""The worker that meets the bad blueprints."""

import torch

from actors.tezzeret.worker import forging
from actors.tezzeret.worker_side import serve
from tests.actors.tezzeret.bad_blueprints import CATALOGUE

if __name__ == "__main__":
    torch.set_num_threads(1)
    serve(forging(CATALOGUE))
