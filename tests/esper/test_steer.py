"""`python -m esper.run steer`: its options, its words and its exit codes."""

import asyncio
import json
import queue
import re
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

import pytest

from actors import steer as other_end
from actors.steering import steering
from contracts.emergency import NONE, Answer, Bearings, BreakerOrder, Level, Order, SeedOrder
from contracts.growth import Operation, OperationFigures
from esper import options
from esper.run import main

BREAKERS = (OperationFigures(Operation.INSERT, 3, 3, breaker="open", retry_epoch=9),)
BEARINGS = Bearings("run", "training", 7, NONE, "", 0, NONE, False, 0, (), 5, BREAKERS)


@dataclass
class Run:
    """Refuses to go back, and does the rest."""

    orders: list[Order] = field(default_factory=list)

    async def carry_out(self, order: Order) -> Answer:
        self.orders.append(order)
        if order.what == "rollback":
            return Answer(False, "no boundary is kept yet", BEARINGS)
        return Answer(True, f"{order.what} is done", BEARINGS)


def said(folder: Path, *words: str) -> tuple[int, Run]:
    """The exit code of the command, said to a run that lives in `folder`."""
    run = Run()

    async def live() -> int:
        async with steering(folder, run):
            return await asyncio.to_thread(main, ["steer", str(folder), *words])

    return asyncio.run(live()), run


@pytest.mark.parametrize(
    ("word", "order"),
    [
        ("elevated", Order("force", Level.ELEVATED)),
        ("conservative", Order("force", Level.CONSERVATIVE)),
        ("halt", Order("force", Level.HALT)),
        ("hold", Order("hold")),
        ("release", Order("release")),
        ("checkpoint", Order("checkpoint")),
        ("cull relu1#0", Order("seed", seed=SeedOrder("cull", "relu1#0"))),
        ("terminate relu1#0", Order("seed", seed=SeedOrder("terminate", "relu1#0"))),
        ("breaker", Order("breaker", breaker=BreakerOrder("status"))),
        ("breaker close insert", Order("breaker", breaker=BreakerOrder("close", "insert"))),
    ],
)
def test_an_order_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], word: str, order: Order
) -> None:
    code, run = said(tmp_path, *word.split())
    assert (code, run.orders) == (0, [order])
    assert capsys.readouterr().out == f"{order.what} is done\n"


def test_the_status_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _ = said(tmp_path, "status")
    assert code == 0
    assert capsys.readouterr().out.splitlines() == [
        "run         run, training, epoch 7",
        "emergency   none",
        "breaker     insert is open; it is tried again from epoch 9 on",
        "checkpoint  epoch 5",
    ]


def test_an_order_that_was_not_done_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _ = said(tmp_path, "rollback")
    shown = capsys.readouterr()
    assert (code, shown.out, shown.err) == (1, "", "no boundary is kept yet\n")


def test_the_answer_can_be_had_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _ = said(tmp_path, "status", "--json")
    answer = json.loads(capsys.readouterr().out)
    assert code == 0
    assert (answer["done"], answer["bearings"]["epoch"]) == (True, 7)


def test_where_no_run_lives_nothing_is_steered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["steer", str(tmp_path), "halt"]) == 2
    assert f"no run lives in {tmp_path}" in capsys.readouterr().err


def test_an_unknown_order_is_bad_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["steer", str(tmp_path), "explode"])
    assert ended.value.code == 2
    assert "explode" in capsys.readouterr().err


def test_only_what_is_required_is_called_so(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["steer"])
    assert ended.value.code == 2
    assert "the following arguments are required: DIR, ORDER; --help" in capsys.readouterr().err


@pytest.mark.parametrize("command", [[], ["steer"], ["events"], ["drill"]])
def test_help_tells_of_every_exit_code(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*command, "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert re.search(r"exit code 1 too|Exit codes: 0 .*, 1 .*, 2 ", told), told


def test_the_options_name_every_order() -> None:
    assert set(options.ORDERS) == {*other_end.ORDERS, *options.SEED_ORDERS, other_end.BREAKER}


def test_an_order_with_words_that_nobody_knows_is_bad_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["steer", str(tmp_path), "breaker", "open"]) == 2
    assert "open which breaker? Name an operation: germinate" in capsys.readouterr().err


def following(stream: IO[str]) -> "queue.Queue[dict[str, Any]]":
    """What is printed there, line by line, read as it comes: a run waits for whoever reads it."""
    lines = queue.Queue[dict[str, Any]]()

    def follow() -> None:
        for line in stream:
            lines.put(json.loads(line))

    threading.Thread(target=follow, daemon=True).start()
    return lines


@pytest.mark.slow
def test_a_real_run_is_steered_from_another_process(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--epochs", "100000", "--out", str(tmp_path), "--json", "--set", "kernels.prefetch=false"]
    words = [sys.executable, "-m", "esper.run", "--policy", "none", *options]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        try:
            shown = iter(partial(following(run.stdout).get, timeout=200), None)
            next(line for line in shown if line["kind"] == "progress" and line["epoch"])
            (folder,) = tmp_path.iterdir()

            def say(order: str) -> tuple[int, dict[str, Any]]:
                code = main(["steer", str(folder), order, "--json"])
                return code, json.loads(capsys.readouterr().out)

            assert say("status")[1]["bearings"]["level"] == NONE
            for order in ("checkpoint", "rollback"):
                code, answer = say(order)
                assert (code, answer["done"]) == (0, True), answer
            assert say("conservative")[1]["bearings"]["level"] == Level.CONSERVATIVE
            assert say("hold")[1]["bearings"]["held"]
            assert say("release")[1]["bearings"]["level"] == NONE
            assert say("halt")[0] == 0
            finish = next(line for line in shown if line["kind"] == "finish")
            assert finish["ended"] == {"kind": "halted", "reason": "forced by operator", "complete": False}
            assert run.wait(200) == 3
            assert main(["steer", str(folder), "status"]) == 2
            assert not (folder / "control.sock").exists()
        finally:
            run.kill()
