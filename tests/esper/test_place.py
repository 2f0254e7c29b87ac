"""Claims about the folder of a run that is taken up again."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch

from actors.keeping import Keeper
from contracts.emergency import EmergencyState, Level
from contracts.growth import GrowthView
from contracts.messages import SystemState
from esper import place
from esper.checkpoint.lock import holding
from esper.checkpoint.store import CheckpointStore
from esper.errors import BadSetup
from esper.forced import note
from esper.moment import Moment
from esper.resume import CPU, FROM_HERE, LAST_BITS
from esper.session import Grown, grow
from esper.tamiyo.action import Action, Wait
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


def test_a_resume_names_what_is_not_as_it_was_and_what_that_means(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = broken_off(3)
    here = place.versions()
    monkeypatch.setattr(place, "versions", lambda: here | {"torch": "2.0"})
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "a slide rule")
    rest = run("checkpoint.keep=100", "run.threads=2", "train.seed_rate=0.5", resume=folder)
    told = rest.report.resumes[0].differences
    means = {one.partition(" was ")[0]: one.rpartition(": ")[2] for one in told}
    assert means.keys() == {"torch", CPU, "run.threads", "train.seed_rate"}
    assert means["torch"] == means[CPU] == LAST_BITS
    assert means["run.threads"].endswith(LAST_BITS)
    assert means["train.seed_rate"] == FROM_HERE


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


def test_a_resumed_run_has_the_moments_besides_that_are_on_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    folder, begin = broken_off(5), Keeper.begin
    there = CheckpointStore(folder, 100).epochs()
    found: list[int] = []

    def begun(self: Keeper, moment: Moment, before: Iterable[Moment] = ()) -> None:
        found.extend(one.epoch for one in (*before, moment))
        begin(self, moment, before)

    monkeypatch.setattr(Keeper, "begin", begun)
    run("checkpoint.keep=100", "checkpoint.boundaries=3", resume=folder)
    assert len(there) > 3
    assert tuple(found) == there[-3:]


def test_what_an_operator_forced_behind_the_newest_checkpoint_holds_in_a_resumed_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, begin = broken_off(5), Keeper.begin
    note(folder, EmergencyState(floor=Level.ELEVATED, orders=1))
    found: list[EmergencyState] = []

    def begun(self: Keeper, moment: Moment, before: Iterable[Moment] = ()) -> None:
        found.append(moment.memories.emergency)
        begin(self, moment, before)

    monkeypatch.setattr(Keeper, "begin", begun)
    rest = run("checkpoint.keep=100", resume=folder)
    assert [(one.floor, one.orders) for one in found] == [(Level.ELEVATED, 1)]
    assert rest.report.ended.kind == "finished"


def test_without_any_checkpoint_the_run_begins_anew_in_its_folder() -> None:
    folder = broken_off(0)
    again = run(resume=folder)
    assert again.folder == folder
    assert losses(again) == losses(run())
    assert again.report.resumes == ()


def test_a_run_that_begins_anew_needs_room_for_a_step() -> None:
    folder = broken_off(0)
    before = (folder / "config.toml").read_bytes()
    settings = (*SMALL, *WAITS)
    with pytest.raises(BadSetup, match=r"that one step takes; give at least that$"):
        grow(circle(), sites=["1"], gflop=1e-9, settings=settings, resume=folder)
    assert (folder / "config.toml").read_bytes() == before


def test_a_run_that_begins_anew_keeps_the_settings_that_it_was_given() -> None:
    folder = broken_off(0)
    run("train.learning_rate=0.5", resume=folder)
    assert "learning_rate = 0.5" in (folder / "config.toml").read_text()


@pytest.mark.parametrize("content", [b"no manifest", None], ids=["damaged", "newer"])
def test_checkpoints_of_which_none_is_sound_are_named_and_left_alone(content: bytes | None) -> None:
    folder = broken_off(100)
    for manifest in (folder / "checkpoints").glob("*.json"):
        rest = manifest.read_bytes().partition(b"\n")[2].replace(b'"schema":1', b'"schema":2', 1)
        manifest.write_bytes(content or hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest)
    before = {one.name: one.read_bytes() for one in (folder / "checkpoints").iterdir()}
    with pytest.raises(BadSetup, match="digest is another" if content else "of schema 2") as refused:
        run(resume=folder)
    assert all(name in str(refused.value) for name in before if name.endswith(".json"))
    assert {one.name: one.read_bytes() for one in (folder / "checkpoints").iterdir()} == before
    assert not (folder / "report.json").exists()


def test_a_run_that_finished_without_checkpoints_is_not_trained_again_over_its_report() -> None:
    folder = run("checkpoint.every_epochs=0").folder
    before = (folder / "report.json").read_bytes()
    with pytest.raises(BadSetup, match="is complete"):
        run("checkpoint.every_epochs=0", resume=folder)
    assert (folder / "report.json").read_bytes() == before


@pytest.mark.parametrize("lost", ["model.safetensors", "model.json", "report.html"])
def test_a_run_that_was_killed_while_its_end_was_written_writes_the_rest(lost: str) -> None:
    whole = run()
    weights = (whole.folder / "model.safetensors").read_bytes()
    (whole.folder / lost).unlink()
    (whole.folder / ".model-abc").mkdir()
    (whole.folder / ".model-abc" / "model.safetensors").write_bytes(weights[:100])
    rest = run(resume=whole.folder)
    assert not (whole.folder / ".model-abc").exists()
    assert (whole.folder / lost).is_file()
    assert (whole.folder / "model.safetensors").read_bytes() == weights
    assert losses(rest) == losses(whole)
    assert rest.report.final == whole.report.final


def test_what_an_earlier_ending_left_beside_a_new_report_does_not_make_a_run_complete() -> None:
    whole = run()
    later = (whole.folder / "report.html").stat().st_mtime_ns + 10**9
    os.utime(whole.folder / "report.json", ns=(later, later))
    run(resume=whole.folder)
    with pytest.raises(BadSetup, match="is complete"):
        run(resume=whole.folder)


def test_a_run_that_is_complete_is_not_gone_on_with_unless_it_becomes_longer() -> None:
    done = run()
    with pytest.raises(BadSetup, match="is complete"):
        run(resume=done.folder)
    longer = run(epochs=LENGTH + 2, resume=done.folder)
    assert [one.epoch for one in longer.report.epochs] == list(range(1, LENGTH + 3))
    assert losses(longer)[:LENGTH] == losses(done)
    assert any("run.epochs" in told for told in longer.report.resumes[0].differences)


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("train.optimizer=sgd", "the optimizer was Adam when the run began"),
        ("train.optimizer=adam_amsgrad", "amsgrad of the optimizer was False"),
        ("train.weight_decay=0.5", "weight_decay of the optimizer was 0"),
        ("train.betas=[0.1,0.5]", r"betas of the optimizer was \(0.9, 0.999\)"),
        ("train.schedule=plateau", "schedule"),
    ],
)
def test_what_the_trainer_can_not_go_back_to_is_refused_before_anything_is_written(
    setting: str, reason: str
) -> None:
    folder = broken_off(3)
    files = sorted(one for one in folder.rglob("*") if one.is_file())
    before = {one: one.read_bytes() for one in files}
    with pytest.raises(BadSetup, match=reason):
        run(setting, resume=folder)
    assert {one: one.read_bytes() for one in folder.rglob("*") if one.is_file()} == before


def test_a_length_below_what_was_trained_is_refused_in_one_line_and_nothing_is_written() -> None:
    folder = broken_off(3)
    before = {one: one.read_bytes() for one in folder.rglob("*") if one.is_file()}
    with pytest.raises(BadSetup, match=r"^--epochs 1: the run has trained \d epochs already; give more$"):
        run(epochs=1, resume=folder)
    with pytest.raises(
        BadSetup, match=r"^--gflop 1e-06: the run has spent .* already; give more$"
    ) as refused:
        grow(circle(), sites=["1"], gflop=1e-6, settings=(*SMALL, *WAITS), resume=folder)
    assert "\n" not in str(refused.value)
    assert {one: one.read_bytes() for one in folder.rglob("*") if one.is_file()} == before


def test_a_run_may_be_ended_where_it_stands_by_the_length_that_it_has() -> None:
    folder = broken_off(3)
    newest = CheckpointStore(folder, 3).newest().checkpoint
    assert newest is not None
    ended = run(epochs=newest.epoch, resume=folder)
    assert [one.epoch for one in ended.report.epochs] == list(range(1, newest.epoch + 1))
    assert ended.report.ended.kind == "finished"


class Mine:
    """A policy that nobody here knows, and that may keep something."""

    name = "random"
    version = "random-1"
    reads_validation = False

    def survey(self, state: SystemState, view: GrowthView) -> None:
        return None

    def act(self, state: SystemState, view: GrowthView) -> Action:
        return Wait("not mine to say")


def test_that_a_policy_of_ones_own_begins_without_a_memory_is_told() -> None:
    folder = broken_off(3)
    rest = grow(circle(), sites=["1"], epochs=LENGTH, policy=Mine(), settings=(*SMALL, *WAITS), resume=folder)
    told = rest.report.resumes[0].differences
    assert sum("neither memory() nor take_over()" in one for one in told) == 1
    assert not any("take_over()" in one for one in run(resume=broken_off(3)).report.resumes[0].differences)


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
