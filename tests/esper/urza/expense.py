"""What refusing hostile artifacts costs; run as `python -m tests.esper.urza.expense FOLDER NAME…`.

Prints one line each: name, how it was put there, bytes of memory at the peak above what there was before,
milliseconds of processor time, and what the interpreter was seen doing that a reader of data doesn't. The
first line is a control that costs 80 MiB and runs code.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from esper.urza.errors import Damaged
from esper.urza.library import Library
from tests.esper.urza import corpus
from tests.esper.urza.world import a_spec, entered, file_of, published

FORBIDDEN = (
    "exec", "compile", "import", "marshal", "pickle", "code.", "os.system", "os.exec", "os.fork",
    "os.posix_spawn", "os.spawn", "subprocess", "socket", "ctypes", "pty", "webbrowser", "urllib", "http",
)  # fmt: skip


class Meter:
    """Measures one piece of work at a time."""

    def __init__(self) -> None:
        self._watching = False
        self._seen: set[str] = set()
        sys.addaudithook(self._watch)

    def measure(self, name: str, way: str, work: Callable[[], None]) -> None:
        self._seen.clear()
        forget_peak()
        before, began = peak_bytes(), time.process_time()
        self._watching = True
        work()
        self._watching = False
        took_ms = (time.process_time() - began) * 1e3
        print(name, way, peak_bytes() - before, f"{took_ms:.1f}", " ".join(sorted(self._seen)), sep="\t")

    def _watch(self, event: str, _: object) -> None:
        if self._watching and event.startswith(FORBIDDEN):
            self._seen.add(event)


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_bytes() -> int:
    """The most memory that was resident since the peak was forgotten."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def main(folder: Path, names: list[str]) -> None:
    torch.set_num_threads(1)
    store, canary, meter = folder / "store", folder / "canary", Meter()
    meter.measure("control", "", lambda: exec("bytearray(b'x' * (80 << 20))"))
    draws = iter(range(0, 10_000, 2))
    with Library(store) as library:

        def refuse() -> None:
            try:
                library.fetch(spec)
            except Damaged:
                return
            sys.exit(f"{name} ({way}) was not refused")

        for name in ("warm", *names):
            for way in ("same name", "entered"):
                spec = a_spec(next(draws))
                ref = published(library, spec)
                if name == "warm":  # what torch and the library load late is loaded
                    library.fetch(spec)
                    file_of(store, ref).unlink()
                    refuse()
                    continue
                content = corpus.artifacts(spec, canary)[name]()
                if way == "entered":
                    entered(store, ref, content)
                else:
                    file_of(store, ref).write_bytes(content)
                del content
                meter.measure(name, way, refuse)
                if canary.exists():
                    sys.exit(f"{name} ({way}) has run")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
