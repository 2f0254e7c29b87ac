"""Runs and observers as processes of their own, on a real Redis."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.esper.journal.told import has_told

GROWS = (
    "--policy", "random", "--epochs", "40", "--set", "train.epoch_steps=20",
    "--set", "train.validation_examples=200", "--set", "growth.path.probation_epochs=2",
    "--set", "budgets.epoch_boundary_ms=60000", "--set", "budgets.tamiyo_inference_ms=60000",
    "--set", "emergency.loop_stall_s=60",
)  # fmt: skip
"""A run of a few seconds that grows, and never decides too late nor seems to stand still, however busy the
machine."""
EPOCHS = 40
UNHURRIED = ("tests.esper.unhurried",)
PATIENCE_S = 250.0


class Child:
    """One process; what it prints goes to files, so that nothing waits for a reader."""

    def __init__(
        self,
        folder: Path,
        name: str,
        words: tuple[str, ...],
        secret: str | None,
        program: tuple[str, ...],
    ) -> None:
        self._files = {kind: folder / f"{name}.{kind}" for kind in ("out", "err")}
        environment = {
            name: text for name, text in os.environ.items() if not name.startswith("ESPER_LEYLINE")
        }
        if secret is not None:
            environment["ESPER_LEYLINE_SECRET"] = secret
        with self._files["out"].open("wb") as out, self._files["err"].open("wb") as err:
            plain = () if "observe" in words else ("--set", "kernels.prefetch=false")
            self.process = subprocess.Popen(
                [sys.executable, "-m", *program, *words, *plain], stdout=out, stderr=err, env=environment
            )

    @property
    def out(self) -> str:
        return self._files["out"].read_text(encoding="utf-8")

    @property
    def err(self) -> str:
        return self._files["err"].read_text(encoding="utf-8")

    @property
    def json(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def code(self) -> int:
        """Its exit code, once it has ended."""
        return self.process.wait(PATIENCE_S)

    def prints(self, text: str) -> None:
        """Wait until it has printed `text`."""
        until(lambda: text in self.out or self.process.poll() is not None, f"{text!r} in {self.out!r}")
        assert text in self.out, (self.out, self.err)


def until(true: Any, what: str) -> None:
    give_up_s = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < give_up_s, what
        time.sleep(0.05)


@contextmanager
def stage(folder: Path, program: tuple[str, ...] = ("esper.run",)) -> Iterator["Stage"]:
    """Processes that do not outlive the block."""
    scene = Stage(folder, program)
    try:
        yield scene
    finally:
        for child in scene.children:
            child.process.kill()
            child.process.wait()


class Stage:
    """Starts runs and observers, of this program if nothing else is said."""

    def __init__(self, folder: Path, program: tuple[str, ...]) -> None:
        self._folder = folder
        self._program = program
        self.children: list[Child] = []
        self.runs = folder / "runs"
        self.begin, self.go_on = folder / "begin", folder / "go_on"

    def run(self, address: str, *more: str, secret: str | None = None) -> Child:
        return self._child("run", self._words(address, more), secret)

    def run_that_waits(self, address: str, epochs: int, *more: str, secret: str | None = None) -> Child:
        """It trains from when there is a file `begin`, and stands still after so many epochs until there is
        `go_on`."""
        program = ("tests.esper.gated", str(self.begin), str(epochs), str(self.go_on))
        words = (*self._words(address, more), "--set", "emergency.step_stall_s=600")
        return self._child("run", words, secret, program)

    def resume(self, address: str) -> Child:
        """The run that is there, gone on with."""
        return self._child("run", ("--resume", str(self.run_folder), "--bus", address), None)

    def observe(self, address: str, *more: str, secret: str | None = None) -> Child:
        return self._child("observe", ("observe", "--bus", address, *more), secret)

    def training(self) -> None:
        """Wait until the run writes its event log."""
        until(lambda: has_told(self.runs), "the run trains")

    @property
    def run_folder(self) -> Path:
        (folder,) = self.runs.iterdir()
        return folder

    def _words(self, address: str, more: tuple[str, ...]) -> tuple[str, ...]:
        return ("--bus", address, "--out", str(self.runs), *GROWS, *more)

    def _child(
        self,
        kind: str,
        words: tuple[str, ...],
        secret: str | None,
        program: tuple[str, ...] = (),
    ) -> Child:
        name = f"{kind}{len(self.children)}"
        child = Child(self._folder, name, words, secret, program or self._program)
        self.children.append(child)
        return child
