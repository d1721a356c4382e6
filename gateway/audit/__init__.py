"""The audit log: every act, permitted or refused, in a form that can't be changed later without anyone noticing.

::

    writer (each process)         sequencer (one, by lease)              auditor (anywhere, offline)
    entry -> chain -> committed   committed entries of all writers       export -> recompute everything -> report
    with the effect itself        -> one Merkle tree -> signed                     ^
                                     checkpoint, every second  ------- kept -------'

`entry` is what an entry is and how a writer chains it; `merkle` the tree; `checkpoint` the signed note; `sequencer` the
step from chains to tree; `export` the file; `replay`, `verify` and `report` the auditor's side, which shares no state and
no database with the hub.

What this proves, and to whom: someone who kept a checkpoint can show that an entry it covers was changed, removed, moved
or added. What it can't prove: that an entry was never written (the code that has effects writes them in the same
transaction), or anything about entries that no checkpoint covers yet.
"""
