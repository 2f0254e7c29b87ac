"""`python -m esper.run` whose training begins, and later goes on, when somebody is ready for it.

    python -m tests.esper.gated BEGIN EPOCHS GO_ON words of esper.run…

It waits for the file BEGIN before its first epoch, and for the file GO_ON once EPOCHS of them are over. The
event loop goes on meanwhile.
"""

import sys
import time
from pathlib import Path

from esper.run import main
from esper.tolaria.results import EpochResult
from esper.tolaria.trainer import Trainer
from tests.esper.unhurried import take_time

LOOKS_EVERY_S = 0.005


def gate(begin: Path, epochs: int, go_on: Path) -> None:
    """Put it before each epoch of this process."""
    run_epoch, over = Trainer.run_epoch, 0

    def gated(trainer: Trainer) -> EpochResult:
        nonlocal over
        while not (go_on if over == epochs else begin).exists():
            time.sleep(LOOKS_EVERY_S)
        over += 1
        return run_epoch(trainer)

    Trainer.run_epoch = gated  # type: ignore[method-assign]


if __name__ == "__main__":
    take_time()
    gate(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
    sys.exit(main(sys.argv[4:]))
