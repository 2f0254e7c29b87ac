"""The observer: what a run looks like to another process, folded from what came over the bus."""
