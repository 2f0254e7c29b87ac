"""Trains the same host ungrown, so that what growing brought can be said at equal cost."""

from collections.abc import Callable

import msgspec

from contracts.config import Config
from contracts.report import Comparison, EpochFacts, FinalFacts
from esper.boundary import epoch_facts
from esper.karn.catalogue import CATALOGUE
from esper.kasmina.graft import Grafts
from esper.report.build import comparison
from esper.tolaria.results import FinalFigures
from esper.tolaria.task import Task
from esper.tolaria.trainer import Trainer


class Ungrown:
    """The control run: same host, seed, order of data and training FLOPs, and no growth.

    Where the run had a budget of FLOPs it gets the same, not what was left over of it by less than a step:
    the schedule follows the budget, and a run that grew nothing is to come out as its control, bit for bit.
    """

    def __init__(self, config: Config, task: Task, train_flops: int) -> None:
        gflop = max(train_flops / 1e9, config.run.gflop or 0.0)
        run = msgspec.structs.replace(config.run, policy="none", epochs=None, gflop=gflop)
        self.trainer = Trainer(
            task,
            Grafts(task.model, ()),
            msgspec.structs.replace(config, run=run),
            "ungrown",
            counts_validation=False,
            build=CATALOGUE.build,
        )
        self.epochs: list[EpochFacts] = []
        self.stopped = False

    def run(self, tell: Callable[[EpochFacts], None]) -> FinalFigures | None:
        """Train to the end; None if it was stopped on the way. `tell` hears of each epoch."""
        while not self.trainer.finished:
            if self.trainer.run_epoch().stopped:
                self.stopped = True
                return None
            assembled = self.trainer.assemble()
            self.epochs.append(epoch_facts(assembled))
            tell(self.epochs[-1])
        return self.trainer.final()


def final_facts(final: FinalFigures) -> FinalFacts:
    """The finished network's figures as the report has them."""
    return FinalFacts(
        val_accuracy=final.val_accuracy,
        test_accuracy=final.test_accuracy,
        fresh_accuracy=final.fresh_accuracy,
        test_loss=final.test_loss,
        params=final.params,
        train_flops=final.train_flops,
    )


def compared(grown: FinalFigures, control: FinalFigures, epochs: list[EpochFacts]) -> Comparison:
    """Both side by side."""
    return comparison(final_facts(grown), final_facts(control), epochs)
