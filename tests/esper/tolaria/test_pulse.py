"""What a watchdog sees of a trainer: it works, or it hangs, whatever it does in between."""

import threading

import pytest

from esper.tolaria.pulse import Pulse, beat
from tests.esper.tolaria.runs import Run
from tests.hosts import HOSTS


def test_the_work_of_others_and_what_is_done_outside_of_work_beats_for_nobody() -> None:
    one, other = Pulse(), Pulse()
    beat()
    assert (one.count, other.count) == (None, None)
    with one.at_work():
        began = one.count
        thread = threading.Thread(target=beat)
        thread.start()
        thread.join()
        assert one.count == began
        beat()
        assert began is not None
        assert one.count == began + 1
        with other.at_work():
            beat()
        assert one.count == began + 1
    assert (one.count, other.count) == (None, None)


@pytest.mark.parametrize("training", [True, False], ids=["a step", "validation"])
def test_each_pass_over_the_model_finds_the_trainer_at_work_and_its_count_higher(training: bool) -> None:
    counts: list[int | None] = []
    run = Run.new(HOSTS[0])
    model = run.trainer._grafts.model

    def look(*_: object) -> None:
        if model.training is training:
            counts.append(run.trainer.progress)

    run.turn()
    model.register_forward_pre_hook(look)
    for _ in range(3):
        run.turn()
    assert run.trainer.progress is None, "between two epochs it has nothing to do"
    run.trainer.final()
    assert run.trainer.progress is None
    seen = [count for count in counts if count is not None]
    assert len(seen) == len(counts) > 2
    assert seen == sorted(seen)
    assert seen[-1] > seen[0]
