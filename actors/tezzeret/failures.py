"""How a job in a sandbox can fail."""

import signal

GIST_CHARACTERS_MAX = 300


class SandboxFailed(Exception):
    """A job came to nothing; `reason` says why in one line. The process is dead unless `lives_on`."""

    lives_on = False

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TimedOut(SandboxFailed):
    """It took longer than it may; the process was killed."""


class OutOfMemory(SandboxFailed):
    """It took more memory than it may; the process was killed."""


class Garbled(SandboxFailed):
    """What came through the pipe was no answer; the process was killed."""


class NotStarted(SandboxFailed):
    """No process came up to take the job: that says nothing about the job."""


class Unconfined(SandboxFailed):
    """The kernel takes no filter, so that nothing is run; it will take none as long as this process lives."""


class Closed(SandboxFailed):
    """The sandbox was closed, before the call or during it."""


class JobRaised(SandboxFailed):
    """The module's handler raised; `reason` is the error in its words."""

    lives_on = True


class Died(SandboxFailed):
    """The process ended by itself, with `status` (negative: the signal) and these last words."""

    def __init__(self, status: int | None, last_words: str) -> None:
        said = _gist(status, last_words)
        super().__init__(f"the process {_how(status)}{f'; it said: {said}' if said else ''}")
        self.status = status
        self.last_words = last_words


def _gist(status: int | None, words: str) -> str:
    """One line: a crash names itself first, an error at the end."""
    line = " ".join(words.split())
    return line[:GIST_CHARACTERS_MAX] if status is not None and status < 0 else line[-GIST_CHARACTERS_MAX:]


def _how(status: int | None) -> str:
    if status is None:
        return "closed its pipes and lived on"
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"
