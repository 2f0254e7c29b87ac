"""Tezzeret acts: makes kernels ahead of their use, each job in a process with limits.

    Tezzeret (actor) ── Smith (a thread: ──▶ benches (at most two ──▶ Sandbox ══pipes══▶ the process:
                        agenda, store)       threads)                                    no network,
                                                                                         no fork, limits

What the process answers is data only, bounded before it is read; nothing of it is unpickled.
"""
