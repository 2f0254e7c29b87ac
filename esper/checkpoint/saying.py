"""The system's errors in our words: at which step, of which file, and as an error of ours."""

from collections.abc import Iterator
from contextlib import contextmanager

from esper.checkpoint.errors import CheckpointError, Damaged


@contextmanager
def at(step: str) -> Iterator[None]:
    """Say at which step the system refused."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, f"{step}: {error.strerror or error}") from error


@contextmanager
def told(refusal: str) -> Iterator[None]:
    """Say what can't be done, as a `CheckpointError`."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(f"{refusal}: {error.strerror or error}") from error
    except MemoryError as error:
        raise CheckpointError(f"{refusal}: there is not enough memory") from error


@contextmanager
def read(name: str) -> Iterator[None]:
    """Whatever keeps a file from being read, as a clause about it, as `Damaged`."""
    try:
        yield
    except Damaged as error:
        raise Damaged(f"{name} {error}") from None
    except FileNotFoundError:
        raise Damaged(f"{name} is missing") from None
    except OSError as error:
        raise Damaged(f"{name} can't be read: {error.strerror or error}") from error
    except MemoryError:
        raise Damaged(f"{name} can't be read: there is not enough memory") from None
