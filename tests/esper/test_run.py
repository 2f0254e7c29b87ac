"""Claims about `python -m esper.run`: what it refuses, what it leaves behind, how it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from esper.report.build import read
from esper.run import BAD_USAGE, DONE, HALTED, INTERRUPTED, main

TINY = ("--epochs", "8", "--set", "train.epoch_steps=4", "--set", "train.validation_examples=200")
LEFT_BEHIND = {
    "config.toml",
    "events.jsonl",
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
        (("--policy", "heurstic"), "did you mean heuristic"),
        (("--set", "train.batchsize=3"), "did you mean train.batch_size"),
        (("--set", "train.learning_rate=fast"), "train.learning_rate"),
        (("--set", "growth.sites=['relu9']"), "the nearest are relu3"),
        (("--set", "growth.path.probation_epochs=soon"), "growth.path.probation_epochs"),
        (("--epochs", "0"), "at least 1"),
        (("--epochs", "3", "--gflop", "2"), "not allowed with"),
        (("--bus", "redis://localhost"), "it takes"),
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


def test_help_comes_without_loading_torch() -> None:
    program = (
        "import sys, esper.run\n"
        "try: esper.run.main(['--help'])\n"
        "except SystemExit: print('torch' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout.endswith("False\n")


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
        main([*TINY, "--quiet", "--policy", "random", "--seed", "3", "--out", str(tmp_path / name)])
        report = read(run_folder(tmp_path / name) / "report.json")
        if report.commands.late:
            pytest.skip("the machine was too busy to decide in time")
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
    assert "TrainingDiverged" in report.ended.reason


@pytest.mark.real
def test_ctrl_c_ends_a_run_cleanly_with_its_report_written(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "esper.run", "--gflop", "100", "--out", str(tmp_path)]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as process:
        give_up = time.monotonic() + 60
        while not list(tmp_path.glob("*/events.jsonl")) and time.monotonic() < give_up:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED, err.decode()
    assert b"Traceback" not in err
    assert read(run_folder(tmp_path) / "report.json").ended.kind == "interrupted"
    assert b"report" in out
