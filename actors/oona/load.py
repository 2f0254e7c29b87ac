"""How much is unsettled on the whole bus."""


class Load:
    """Messages, each counted once for every group that has it to settle."""

    __slots__ = ("depth", "depth_max")

    def __init__(self) -> None:
        self.depth = 0
        self.depth_max = 0

    def add(self) -> None:
        self.depth += 1
        if self.depth > self.depth_max:
            self.depth_max = self.depth

    def remove(self) -> None:
        self.depth -= 1
