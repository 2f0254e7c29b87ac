"""Keeps what goes wrong inside a run out of the terminal and in a file of the run's folder."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

LOGGERS = ("actors", "esper", "uvicorn")
FILE = "esper.log"


class _File(logging.FileHandler):
    """A disk that takes no more costs lines, never the run."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's own name
        """Say nothing: the terminal belongs to the display."""


@contextmanager
def logging_to(folder: Path) -> Iterator[None]:
    """Warnings and errors go to `esper.log`, which is made when there is the first one."""
    handler = _File(folder / FILE, delay=True, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    with _handling(handler):
        yield


@contextmanager
def logging_in_lines(out: TextIO) -> Iterator[None]:
    """Warnings and errors are one line each, without stacks: for what has no folder and tells at its end
    what came of it."""
    handler = logging.StreamHandler(out)
    handler.setFormatter(_Line())
    with _handling(handler):
        yield


class _Line(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        error = record.exc_info[1] if record.exc_info else None
        return f"{record.getMessage()}: {error}" if error is not None else record.getMessage()


@contextmanager
def _handling(handler: logging.Handler) -> Iterator[None]:
    """Warnings and errors go to this handler, and nowhere else."""
    handler.setLevel(logging.WARNING)
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [logger.propagate for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
    try:
        yield
    finally:
        for logger, propagate in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.propagate = propagate
        with suppress(OSError):
            handler.close()
