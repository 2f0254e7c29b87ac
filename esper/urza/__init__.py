"""Urza keeps what Tezzeret makes: kernels in content-addressed files, and a catalogue of them.

## Against whom
Whoever can write the store's files or its catalogue, but holds no key, must not be able to make a process
run code, spend more than a sound kernel costs, or train with other values than without a store. So nothing
stored is code to a reader: a kernel is its specification, its certificate and plain numbers, and the numbers
are believed only where they are those that the blueprint's own stream gives. Exported programs run code when
they are opened; their bytes are given out only under this store's seal. Not defended: deleting, and
certificates, which speak of how much was checked and are believed as they stand.

## Where
`container.py` the file's form, `weights.py` its numbers, `opening.py` the checks in their order, `seal.py`,
`objects.py` where files lie (`local.py`, `remote.py`), `schema.py`, `ledger.py` and `records.py` the
catalogue, `presence.py` who uses the store, `upkeep.py` after crashes and when it is full, `reader.py` and
`press.py` the way out and in, `holdings.py` what is there, `library.py` all of it together, `shelf.py` ready
modules in memory.
"""
