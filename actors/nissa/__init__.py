"""Nissa, observability: what a run counts, and how it is shown."""
