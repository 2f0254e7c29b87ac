"""How many processors this process can keep busy: those that it may run on, as far as its quota goes."""

import os
from collections.abc import Iterator
from pathlib import Path

from esper.cgroups import Group, groups, text_of


def processors(root: Path = Path("/")) -> int:
    """Whole processors, at least 1. A quota of one and a half is one: nobody else gets the half whenever he
    wants it."""
    return max(1, min((len(os.sched_getaffinity(0)), *_quotas(root))))


def _quotas(root: Path) -> Iterator[int]:
    for group in groups(root, "cpu"):
        quota_us, period_us = _bandwidth(group)
        if quota_us > 0 and period_us > 0:
            yield quota_us // period_us


def _bandwidth(group: Group) -> tuple[int, int]:
    """Microseconds of processor time that a group has in a period, and of the period; 0 where none is set.

    Source: "Control Group v2", section CPU Interface Files, and "CFS Bandwidth Control" of the kernel's own
    documentation, https://docs.kernel.org.
    """
    if group.version == 2:
        quota, _, period = text_of(group.folder / "cpu.max").strip().partition(" ")
    else:
        quota, period = (text_of(group.folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period"))
    return (int(quota) if quota.isdecimal() else 0), (int(period) if period.isdecimal() else 0)
