"""Claims about how many processors a process has: where it may run, and its container's share of time."""

import os
from pathlib import Path

import pytest

from esper.processors import processors

V2 = "sys/fs/cgroup"
V1 = "sys/fs/cgroup/cpu"
EIGHT = set(range(8))


def v1(folder: str, quota_us: int, period_us: int = 100_000) -> dict[str, str]:
    return {f"{folder}/cpu.cfs_quota_us": f"{quota_us}\n", f"{folder}/cpu.cfs_period_us": f"{period_us}\n"}


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({}, 8),
        ({"proc/self/cgroup": "0::/a/b\n", f"{V2}/a/b/cpu.max": "max 100000\n"}, 8),
        ({"proc/self/cgroup": "0::/a/b\n", f"{V2}/a/b/cpu.max": "200000 100000\n"}, 2),
        ({"proc/self/cgroup": "0::/a/b\n", f"{V2}/a/b/cpu.max": "75000 50000\n"}, 1),
        ({"proc/self/cgroup": "0::/a/b\n", f"{V2}/a/b/cpu.max": "10000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/a/b\n", f"{V2}/a/b/cpu.max": "1600000 100000\n"}, 8),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                f"{V2}/a/cpu.max": "300000 100000\n",
                f"{V2}/a/b/cpu.max": "400000 100000\n",
            },
            3,
        ),
        ({"proc/self/cgroup": "0::/\n", f"{V2}/cpu.max": "300000 100000\n"}, 3),
        ({"proc/self/cgroup": "0::/outside\n", f"{V2}/cpu.max": "300000 100000\n"}, 3),
        ({"proc/self/cgroup": "4:cpu:/j\n3:cpuset:/j\n", **v1(f"{V1}/j", 200_000)}, 2),
        ({"proc/self/cgroup": "4:cpu,cpuacct:/j\n", **v1(f"{V1},cpuacct/j", 500_000, 250_000)}, 2),
        ({"proc/self/cgroup": "4:cpu:/outside\n0::/\n", **v1(V1, 200_000)}, 2),
        ({"proc/self/cgroup": "4:cpu:/j\n", **v1(f"{V1}/j", -1)}, 8),
        ({"proc/self/cgroup": "4:memory:/j\n", **v1(f"{V1}/j", 200_000)}, 8),
        ({"proc/self/cgroup": "0::/a\n", f"{V2}/a/cpu.max": "nonsense\n"}, 8),
    ],
    ids=[
        "nothing", "no limit", "two", "one and a half", "a tenth", "more than there are", "above",
        "namespace", "container", "v1", "v1 without a link", "v1 container", "v1 without",
        "another controller", "unread",
    ],
)  # fmt: skip
def test_the_least_share_counts_in_whole_processors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], found: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: EIGHT)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert processors(tmp_path) == found


def test_there_are_no_more_than_it_may_run_on() -> None:
    assert 1 <= processors() <= len(os.sched_getaffinity(0))
