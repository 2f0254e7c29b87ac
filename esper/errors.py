"""What a run is refused for, and what it can't finish for; nothing here loads torch."""


class BadSetup(ValueError):
    """The run can't begin as asked; the message says what would work, and nothing was written."""


class CannotWrite(Exception):
    """What a run should leave could not be written; the message names its folder and what is missing."""
