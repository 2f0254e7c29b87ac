"""Seeds that once broke the system, each replayed by a test; and what is known not to hold yet."""

FOUND: dict[int, str] = {
    4: "the bus took what was published of an epoch trained again for a repeat",
    8: "after a rollback a fallback command had the id of an earlier one",
    11: "field reports were lost when their actor restarted just as the run ended",
    23: "a run ended while the bus was full, and what waited to be announced was not tried once more",
    86: "an ordered rollback without a moment to go back to halted a sound run",
    95: "a display that failed while Nissa stopped kept the next Nissa from subscribing",
}
"""By seed: what went wrong, before there were slow journals."""

FOUND_WITH_A_SLOW_JOURNAL: dict[int, str] = {
    31: "one actor that refused a question left those that were asked with it without anybody to hear them",
    38: "an acknowledgement on its way to the disk was left running where its actor had no time to wait",
    69: "a run that was stopped, and whose network could not be judged, was interrupted and halted",
}
"""The same, in a storm without a flood."""

OPEN: dict[str, str] = {}
"""What is known not to hold yet, by how an invariant begins to say it: counted, and no run fails for it."""
