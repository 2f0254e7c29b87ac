"""Claims about the folder of a run that is taken up again."""

from pathlib import Path

import pytest
import torch

from esper.checkpoint.lock import holding
from esper.checkpoint.store import CheckpointStore
from esper.errors import BadSetup
from esper.session import Grown, grow
from tests.esper.test_session import circle

LENGTH = 6
SMALL = (
    "train.epoch_steps=3",
    "train.batch_size=20",
    "checkpoint.every_s=0",
    "run.policy=random",
    "run.out=runs",
)
WAITS = ("budgets.tamiyo_inference_ms=60000", "budgets.epoch_boundary_ms=60000")


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*settings: str, epochs: int = LENGTH, resume: Path | None = None) -> Grown:
    return grow(circle(), sites=["1"], epochs=epochs, settings=(*SMALL, *WAITS, *settings), resume=resume)


def losses(grown: Grown) -> list[tuple[float | None, float | None]]:
    return [(one.train_loss, one.val_loss) for one in grown.report.epochs]


def broken_off(keep_of: int) -> Path:
    """The folder of a run whose last checkpoints are gone, and its report: as if killed after that epoch."""
    folder = run("checkpoint.keep=100").folder
    (folder / "report.json").unlink()
    for manifest in (folder / "checkpoints").glob("*.json"):
        if int(manifest.stem) > keep_of:
            manifest.unlink()
    return folder


def test_a_run_goes_on_from_its_newest_checkpoint_in_the_same_folder() -> None:
    whole = run()
    folder = broken_off(3)
    rest = run("checkpoint.keep=100", resume=folder)
    assert rest.folder == folder
    assert losses(rest) == losses(whole)
    assert rest.report.run_id == folder.name
    (resumed,) = rest.report.resumes
    assert resumed.epoch >= 1
    state, other = rest.model.state_dict(), whole.model.state_dict()
    assert all(torch.equal(state[name], other[name]) for name in state)
    assert state.keys() == other.keys()


def test_a_damaged_checkpoint_is_named_and_passed_over_for_the_one_before() -> None:
    whole = run()
    folder = broken_off(100)
    newest = max((folder / "checkpoints").glob("*.safetensors"))
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    rest = run("checkpoint.keep=100", resume=folder)
    assert losses(rest) == losses(whole)
    assert any(newest.name in told for told in rest.report.resumes[0].differences)


def test_without_any_checkpoint_the_run_begins_anew_in_its_folder() -> None:
    folder = broken_off(0)
    again = run(resume=folder)
    assert again.folder == folder
    assert losses(again) == losses(run())
    assert again.report.resumes == ()


def test_a_run_that_is_complete_is_not_gone_on_with_unless_it_becomes_longer() -> None:
    done = run()
    with pytest.raises(BadSetup, match="is complete"):
        run(resume=done.folder)
    longer = run(epochs=LENGTH + 2, resume=done.folder)
    assert [one.epoch for one in longer.report.epochs] == list(range(1, LENGTH + 3))
    assert losses(longer)[:LENGTH] == losses(done)
    assert any("run.epochs" in told for told in longer.report.resumes[0].differences)


def test_a_folder_that_another_run_works_on_is_refused_and_left_as_it_is() -> None:
    folder = broken_off(3)
    before = sorted(CheckpointStore(folder, 3).epochs())
    with holding(folder), pytest.raises(BadSetup, match="in use"):
        run(resume=folder)
    assert sorted(CheckpointStore(folder, 3).epochs()) == before


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_a_folder_that_no_run_has_left_is_refused(name: str) -> None:
    with pytest.raises(BadSetup, match="no run"):
        run(resume=Path(name))
