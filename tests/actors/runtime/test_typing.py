"""What the type checker knows: replies have their types, and wrong messages are errors."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]

SNIPPET = """
import random
from actors.runtime import Actor, ActorRef, ActorSystem, LoopClock, handles
from contracts.request import Request


class Command: ...
class Observed: ...
class Stray: ...
class Evaluate(Request[Command]): ...


class Tamiyo(Actor[Evaluate | Observed]):
    def __init__(self, level: int) -> None: ...

    @handles
    async def evaluate(self, message: Evaluate) -> Command:
        return Command()

    @handles
    async def observed(self, message: Observed) -> None: ...


async def use(system: ActorSystem) -> None:
    tamiyo = system.spawn("tamiyo", lambda: Tamiyo(1))
    reveal_type(tamiyo)
    reveal_type(await tamiyo.ask(Evaluate(), deadline_s=0.012))
    narrow: ActorRef[Observed] = tamiyo
    await narrow.tell(Observed())
    await tamiyo.tell(Stray())
    tamiyo.tell_nowait(Stray())
    await tamiyo.ask(Observed(), deadline_s=1)
    await tamiyo.ask(Evaluate())
    await narrow.tell(Evaluate())
"""


def test_replies_are_typed_and_wrong_messages_are_type_errors(tmp_path: Path) -> None:
    snippet = tmp_path / "snippet.py"
    snippet.write_text(SNIPPET)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--hide-error-context"]
    cache = ["--cache-dir", str(ROOT / ".mypy_cache"), "--config-file", ""]
    found = subprocess.run(
        [*command, *cache, str(snippet)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    lines = [line.split(":", 1)[1] for line in found.stdout.splitlines()]
    where = {text.strip(): n for n, text in enumerate(SNIPPET.splitlines(), start=1)}

    def said(code: str) -> str:
        return "\n".join(line for line in lines if line.startswith(f"{where[code]}:"))

    assert 'ActorRef[snippet.Evaluate | snippet.Observed]"' in said("reveal_type(tamiyo)"), found
    assert '"snippet.Command"' in said("reveal_type(await tamiyo.ask(Evaluate(), deadline_s=0.012))")
    assert "arg-type" in said("await tamiyo.tell(Stray())")
    assert "arg-type" in said("tamiyo.tell_nowait(Stray())")
    assert "arg-type" in said("await tamiyo.ask(Observed(), deadline_s=1)")
    assert "call-arg" in said("await tamiyo.ask(Evaluate())")
    assert "arg-type" in said("await narrow.tell(Evaluate())")
    errors = [line for line in lines if " error: " in line]
    assert len(errors) == 5, found.stdout
