"""What goes wrong with checkpoints."""


class CheckpointError(Exception):
    """A checkpoint can't be saved or loaded, or its folder can't be used; what lay there is as it was."""


class Damaged(CheckpointError):
    """What lies there is not what was saved; the message is a clause that names the file."""
