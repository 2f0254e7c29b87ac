"""Checkpoints on disk: whatever stops the process or the machine, the last one that was saved loads again.

    run folder/
      run.lock                          who works on this folder
      checkpoints/00000012.safetensors  the tensors
      checkpoints/00000012.json         the manifest: digests, the epoch, the record

## The rule
A checkpoint is its manifest: without one there is nothing, and a manifest never lies beside tensors that are
not there. So tensors are durable under their name before the manifest gets its own, and a manifest that goes
is durably gone before its tensors go. Files get a number of their own, are written beside their place, and
are never written again. What a power cut can leave is then a sound checkpoint or a leftover, which the next
save removes; whatever looks damaged is damaged.

## Where
`tensors.py` and `manifest.py` the two files' forms, `listing.py` what a folder's names mean and which are too
many, `files.py` the system's file operations, `writer.py` their order, `reader.py` what is checked before
anything is believed, `store.py` all of it together, `saying.py` errors in our words, `lock.py` who may.
"""
