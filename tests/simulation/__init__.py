"""The whole system in virtual time, with faults, races and invariants, the same every time from one seed."""
