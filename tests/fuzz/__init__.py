"""Fuzzers, which are run by hand: `python -m tests.fuzz.wire --runs 1000000`."""
