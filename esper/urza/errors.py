"""What Urza refuses."""


class UrzaError(Exception):
    """Base of all that Urza raises."""


class Missing(UrzaError):
    """There is nothing of that name or specification; it may be wanted."""


class Damaged(UrzaError):
    """What is stored is not what was published: it was not loaded; `reason` says what is wrong with it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Unfit(UrzaError, ValueError):
    """What was to be stored can't be: it doesn't belong to its specification, or is too large."""


class Unavailable(UrzaError):
    """The store can't be read or written now: the disk is full, the catalogue locked, the server away."""
