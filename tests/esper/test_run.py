"""Claims about `python -m esper.run`: what it refuses, what it leaves behind, how it ends."""

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from esper.checkpoint.listing import FOLDER, manifest_name
from esper.checkpoint.lock import holding
from esper.folder import check_left, has_checkpoint
from esper.options import BAD_USAGE
from esper.report.build import read
from esper.run import DONE, HALTED, INTERRUPTED, WORKLOADS, main
from esper.workloads import registry
from tests.actors.test_display import HIDE_CURSOR, SHOW_CURSOR, rest_of
from tests.esper.forked import Ended, Job, in_processes
from tests.esper.journal.told import has_told
from tests.esper.karn.own import imports_forgotten, write_places

PLAIN = ("--set", "kernels.prefetch=false")
TINY = ("--epochs", "8", "--set", "train.epoch_steps=4", "--set", "train.validation_examples=200", *PLAIN)
GROWS = (
    *PLAIN,
    "--policy", "random", "--epochs", "30", "--set", "train.epoch_steps=4",
    "--set", "growth.path.probation_epochs=2", "--set", "train.validation_examples=200",
    "--set", "budgets.epoch_boundary_ms=60000", "--set", "budgets.tamiyo_inference_ms=60000",
)  # fmt: skip
"""Grows, and never decides too late, however busy the machine."""
LEFT_BEHIND = {
    "config.toml",
    "events.jsonl",
    "journal.sqlite",
    "model.json",
    "model.safetensors",
    "report.html",
    "report.json",
}


def run_folder(out: Path) -> Path:
    (folder,) = out.iterdir()
    return folder


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--workload", "cifar"), "there are: mnist1d"),
        (("--workload", ""), "--workload: takes a name"),
        (("--out", " "), "--out: takes a name"),
        (("--config", ""), "--config: takes a name"),
        (("--policy", "heurstic"), "did you mean heuristic"),
        (("--set", "train.batchsize=3"), "did you mean train.batch_size"),
        (("--set", "train.learning_rate=fast"), "train.learning_rate"),
        (("--set", "growth.sites=['relu9']"), "the nearest are relu3"),
        (("--set", "growth.path.probation_epochs=soon"), "growth.path.probation_epochs"),
        (("--epochs", "0"), "at least 1"),
        (("--gflop", "1e-9"), "is less than the 0.000704 GFLOP that one step takes; give at least that"),
        (("--set", "growth.max_params=337"), "growth.max_params 337 is below the host's own 338 parameters"),
        (("--epochs", "3", "--gflop", "2"), "not allowed with"),
        (("--bus", "redsi://localhost"), 'it takes "memory" or the address of a Redis'),
        (("--bus", "redis://localhost:port"), "it takes"),
        (("--bus", "redis://127.0.0.1:1/0"), "no Redis can be reached at redis://127.0.0.1:1/0"),
        (("--bus", "redis://:***@localhost"), "give the whole address with --bus"),
        (("--bus", "redis://u:p@ss@localhost"), "@ : and / are written %40 %3A and %2F"),
        (("--config", "nowhere.toml"), "does not exist"),
        (("--out", "/proc/nowhere"), "give another folder"),
        (("--serve", "--set", "serve.host=0.0.0.0"), "127.0.0.1"),
        (("--frobnicate",), "--help"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line_and_nothing_is_written(
    arguments: tuple[str, ...],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        code = main(["--quiet", *arguments])
    except SystemExit as leaving:
        code = int(leaving.code or 0)
    printed = capsys.readouterr()
    assert code == BAD_USAGE
    assert said in printed.err
    assert "Traceback" not in printed.err
    assert len(printed.err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_an_occupied_port_is_refused_before_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code = main(["--quiet", "--serve", "--set", f"serve.port={port}", "--out", str(tmp_path / "runs")])
    assert code == BAD_USAGE
    assert f"port {port}" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("arguments", [["--help"], ["--workload", "cifar"], ["--out", "/proc/nowhere"]])
def test_help_and_refusals_come_without_loading_torch(arguments: list[str]) -> None:
    program = (
        "import sys, esper.run\n"
        f"try: esper.run.main({arguments})\n"
        "except SystemExit: pass\n"
        "print('torch' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout.endswith("False\n")


def test_a_folder_in_use_is_refused_before_torch_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("")
    program = (
        "import sys, esper.run\n"
        f"code = esper.run.main(['--resume', {str(tmp_path)!r}])\n"
        "print(code, 'torch' in sys.modules)"
    )
    with holding(tmp_path):
        before = (tmp_path / "run.lock").read_bytes()
        said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert (tmp_path / "run.lock").read_bytes() == before
    assert said.stdout == f"{BAD_USAGE} False\n"
    assert said.stderr.startswith(f"esper: {tmp_path} is in use by process {os.getpid()}; ")
    assert said.stderr.count("\n") == 1


def test_the_names_of_the_workloads_are_the_registrys() -> None:
    assert set(WORKLOADS) == set(registry.WORKLOADS)


@contextmanager
def running(out: Path, *arguments: str, **options: object) -> Iterator[subprocess.Popen[str]]:
    """The program in a process of its own, which does not outlive the block."""
    command = [sys.executable, "-m", "esper.run", "--out", str(out), *arguments]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    with subprocess.Popen(command, text=True, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for_training(out: Path) -> None:
    """Until a run under `out` writes its event log."""
    give_up = time.monotonic() + 200
    while not has_told(out):
        assert time.monotonic() < give_up
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_torch_loads_ends_the_process_in_one_line(
    number: signal.Signals, tmp_path: Path
) -> None:
    with running(tmp_path / "runs") as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("Esper")
        process.send_signal(number)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    assert said == "esper: interrupted before the run was complete\n"
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("saved", [True, False])
def test_a_run_that_is_cut_off_says_how_to_go_on_if_it_can(saved: bool, tmp_path: Path) -> None:
    folder = tmp_path / "a run"
    (folder / FOLDER).mkdir(parents=True)
    (folder / FOLDER / manifest_name(3)).touch()
    if not saved:
        (folder / FOLDER / manifest_name(3)).rename(folder / FOLDER / ".00000003.json.new")
    program = (
        "import os, pathlib, signal, sys, time\n"
        "from esper.run import leaving_at_once\n"
        "with leaving_at_once(lambda: print('closed', flush=True), pathlib.Path(sys.argv[1])):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    time.sleep(60)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(folder)], capture_output=True, text=True)
    way = f"; go on with: python -m esper.run --resume '{folder}'" if saved else ""
    assert ended.returncode == INTERRUPTED
    assert ended.stdout == "closed\n"
    assert ended.stderr == f"esper: interrupted before the run was complete{way}\n"


@pytest.mark.real
def test_the_first_line_and_the_last_name_the_runs_own_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*TINY, "--policy", "none", "--out", str(tmp_path)]) == DONE
    lines = capsys.readouterr().out.splitlines()
    folder = run_folder(tmp_path)
    assert lines[0] == f"Esper  mnist1d · policy none · seed 0 · 8 epochs · {folder}"
    assert lines[-1] == f"report  {folder}/report.html"
    assert not any(" 0 parameters" in line for line in lines)


@pytest.mark.real
def test_a_run_leaves_its_folder_with_everything_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main([*TINY, "--policy", "random", "--compare", "--out", str(tmp_path)])
    assert code == DONE
    folder = run_folder(tmp_path)
    assert {file.name for file in folder.iterdir()} >= LEFT_BEHIND
    report = read(folder / "report.json")
    assert [facts.epoch for facts in report.epochs] == list(range(1, 9))
    assert report.final.train_flops == sum(
        flops for account, flops in report.flops.items() if account != "validation"
    )
    assert report.compare is not None
    assert report.compare.final.params == 338
    spent, control = report.final.train_flops, report.compare.final.train_flops
    assert abs(spent - control) <= 704_000, "equal to within one step"
    assert report.final.fresh_accuracy is not None
    assert str(folder) in capsys.readouterr().out.replace("\n", "")


@pytest.mark.real
def test_the_same_seed_gives_the_same_numbers(tmp_path: Path) -> None:
    numbers = []
    for name in ("one", "two"):
        main([*GROWS, "--quiet", "--seed", "3", "--out", str(tmp_path / name)])
        report = read(run_folder(tmp_path / name) / "report.json")
        assert report.commands.late == 0
        assert report.final.params > report.host.params
        facts = [(one.train_loss, one.val_loss, one.params, one.train_flops) for one in report.epochs]
        weights = (run_folder(tmp_path / name) / "model.safetensors").read_bytes()
        numbers.append((facts, report.final, weights))
    assert numbers[0] == numbers[1]


@pytest.mark.real
def test_the_configuration_that_a_run_leaves_repeats_it(tmp_path: Path) -> None:
    main([*TINY, "--quiet", "--policy", "none", "--seed", "5", "--out", str(tmp_path / "one")])
    config = run_folder(tmp_path / "one") / "config.toml"
    main(["--quiet", "--config", str(config), "--out", str(tmp_path / "two")])
    first, second = (read(run_folder(tmp_path / name) / "report.json") for name in ("one", "two"))
    assert first.final == second.final


@pytest.mark.real
def test_json_lines_are_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([*TINY, "--json", "--policy", "random", "--out", str(tmp_path)])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) >= 3
    assert all(isinstance(line, dict) for line in lines)


@pytest.mark.real
def test_training_that_diverges_halts_with_its_report_written(tmp_path: Path) -> None:
    code = main([*TINY, "--quiet", "--set", "train.learning_rate=1e30", "--out", str(tmp_path)])
    assert code == HALTED
    report = read(run_folder(tmp_path) / "report.json")
    assert report.ended.kind == "halted"
    assert "training diverged at step 1" in report.ended.reason
    assert "going back does not help" in report.ended.reason
    assert {one.to_epoch for one in report.rollbacks} == {0}


@pytest.mark.real
def test_ctrl_c_ends_a_run_cleanly_with_its_report_written(tmp_path: Path) -> None:
    runs, store = tmp_path / "runs", tmp_path / "kernels"
    with running(runs, "--gflop", "100", "--set", f"kernels.store={store}") as process:
        wait_for_training(runs)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=200)
    assert process.returncode == INTERRUPTED, err
    assert "Traceback" not in err
    assert read(run_folder(runs) / "report.json").ended.kind == "interrupted"
    assert "report" in out
    assert store.is_dir()


@pytest.mark.real
@pytest.mark.parametrize("pause_s", [pytest.param(0.0, marks=pytest.mark.slow), 0.3])
def test_a_second_ctrl_c_ends_the_process_and_gives_the_terminal_back(pause_s: float, tmp_path: Path) -> None:
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm"}
    seen: list[str] = []
    reader = threading.Thread(target=lambda: seen.append(rest_of(master).decode()))
    with running(tmp_path, "--gflop", "300", *PLAIN, stdout=slave, env=environment) as process:
        os.close(slave)
        reader.start()
        wait_for_training(tmp_path)
        process.send_signal(signal.SIGINT)
        time.sleep(pause_s)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    reader.join()
    assert process.returncode == INTERRUPTED
    assert "Traceback" not in err
    assert seen[0].rindex(SHOW_CURSOR) > seen[0].rindex(HIDE_CURSOR)
    if "--resume" in err:  # else there was nothing to go on from yet
        assert f"--resume {run_folder(tmp_path)}" in err
        assert has_checkpoint(run_folder(tmp_path))
    check_left(run_folder(tmp_path))  # it can be gone on with at once


HARSH: dict[str, Callable[[tuple[str, ...]], Job]] = {
    "stdout closed": lambda words: Job(words, stdout="closed"),
    "stdout full": lambda words: Job(words, stdout="full"),
    "3 kB": lambda words: Job(words, file_bytes_max=3_000),
    "16 kB": lambda words: Job(words, file_bytes_max=16_000),
}
"""What runs have to do without, by name."""


@pytest.fixture(scope="module")
def harsh(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Ended, Path]]:
    """How runs that had to do without something ended, and the folder that each left."""
    outs = {name: tmp_path_factory.mktemp("harsh") for name in HARSH}
    found = in_processes([make((*TINY, "--out", str(outs[name]))) for name, make in HARSH.items()])
    return {name: (one, run_folder(outs[name])) for name, one in zip(HARSH, found, strict=True)}


@pytest.mark.real
@pytest.mark.parametrize("stdout", ["closed", "full"])
def test_a_run_does_without_a_stdout(stdout: str, harsh: dict[str, tuple[Ended, Path]]) -> None:
    ended, folder = harsh[f"stdout {stdout}"]
    assert ended == Ended(DONE, "")
    assert {file.name for file in folder.iterdir()} >= LEFT_BEHIND


@pytest.mark.real
@pytest.mark.parametrize(
    ("size", "left"), [("3 kB", set()), ("16 kB", {"report.json", "model.json", "model.safetensors"})]
)
def test_a_disk_that_takes_no_more_is_said_in_one_line_and_what_it_took_is_whole(
    size: str, left: set[str], harsh: dict[str, tuple[Ended, Path]]
) -> None:
    ended, folder = harsh[size]
    assert ended.code == BAD_USAGE
    assert ended.err.startswith(f"esper: {folder}: File too large; ")
    assert ended.err.count("\n") == 1
    whole = LEFT_BEHIND - {"journal.sqlite"}  # which is as far as the disk has taken it
    assert {file.name for file in folder.iterdir()} & whole == {"config.toml"} | left
    if left:
        assert "journal_broken" in {alert.name for alert in read(folder / "report.json").alerts}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--shape", "4x19"], "give --layout too"),
        (["--layout", "image", "--shape", "4"], "site of shape 4 is no image: its shape is (4,)"),
        (["--layout", "vector", "--shape", "3x3"], "site of shape 3x3 is no vector: its shape is (3, 3)"),
        (["--max-params", "30"], "give --layout and --shape too"),
        (["--layout", "image", "--max-params", "30"], "give --layout and --shape too"),
    ],
)
def test_a_list_that_makes_no_sense_is_refused(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["blueprints", *arguments]) == BAD_USAGE
    told = capsys.readouterr()
    assert told.out == ""
    assert said in told.err
    assert told.err.count("\n") == 1


def test_the_list_of_blueprints_can_be_asked_about_a_site(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["blueprints", "--layout", "sequence", "--shape", "4x19", "--max-params", "30", "--json"]
    assert main(asked) == DONE
    lines = json.loads(capsys.readouterr().out)
    assert {"BP004", "BP007"} <= {line["blueprint_id"] for line in lines}
    assert all(line["params"] <= 30 and "sequence" in line["layouts"] for line in lines)


def test_the_list_has_blueprints_of_ones_own_where_the_settings_name_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_places(tmp_path, "own_listed")
    (tmp_path / "own.toml").write_text('[growth]\nblueprints = ["own_listed.py"]\n')
    monkeypatch.chdir(tmp_path)
    asked = ["blueprints", "--layout", "sequence", "--shape", "4x19", "--json"]
    for setting in (["--set", "growth.blueprints=own_listed.py"], ["--config", "own.toml"]):
        with imports_forgotten():
            assert main([*asked, *setting]) == DONE
        lines = {line["blueprint_id"]: line for line in json.loads(capsys.readouterr().out)}
        own = lines["BP051"]
        assert (own["name"], own["tier"], own["stage"], own["params"]) == ("place weights", "safe", 1, 4 * 19)
        assert own["layouts"] == ["vector", "sequence", "image", "tokens"]
        assert "BP004" in lines


@pytest.mark.parametrize("command", [["blueprints"], ["--epochs", "1", "--quiet"]])
@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("growth.blueprints=~nosuchuser/x.py", "there is no file"),
        ("growth.blueprints=nosuchmodule", "there is no module 'nosuchmodule'"),
        ("growth.nosuch=1", "growth.nosuch"),
    ],
)
def test_blueprints_of_ones_own_that_are_not_there_are_refused_in_one_line(
    command: list[str], setting: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = [] if command == ["blueprints"] else ["--out", str(tmp_path)]
    assert main([*command, *out, "--set", setting]) == BAD_USAGE
    told = capsys.readouterr()
    assert told.out == ""
    assert said in told.err
    assert told.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_kernel_store_in_a_home_that_nobody_has_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    setting = "kernels.store=~nosuchuser/kernels"
    assert main(["--epochs", "1", "--quiet", "--out", str(tmp_path), "--set", setting]) == BAD_USAGE
    told = capsys.readouterr()
    assert told.err.startswith("esper: kernels.store ~nosuchuser/kernels: ")
    assert (told.out, told.err.count("\n")) == ("", 1)
    assert not list(tmp_path.iterdir())
