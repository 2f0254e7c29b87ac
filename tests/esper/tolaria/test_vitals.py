"""Vital signs: what is a trouble, when it is told, and when it is over."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.emergency import Relief, Trigger, Trouble
from contracts.growth import SeedFigures
from esper.tolaria.memory import available_bytes, resident_bytes
from esper.tolaria.vitals import MB, BoundaryTimes, DiskSpace, Isolations, MemoryUse, foreign_rates


def kinds(found: list[Trouble | Relief | None]) -> list[str]:
    return [
        "" if one is None else f"over {one.trigger}" if isinstance(one, Relief) else one.trigger
        for one in found
    ]


# Boundaries --------------------------------------------------------------------------------------------


def test_three_slow_boundaries_running_are_a_trouble_and_each_one_after() -> None:
    times = BoundaryTimes(budget_s=0.018, most=3)
    found = [times.look(total, epoch) for epoch, total in enumerate([0.02, 0.02, 0.02, 0.03, 0.001, 0.02])]
    assert kinds(list(found)) == ["", "", "boundary_slow", "boundary_slow", "", ""]
    assert found[3] is not None
    told = "4 boundaries running took longer than 18 ms, the last one 30.0 ms"
    assert found[3].text == f"{told}, the copy of the run not counted"


def test_four_times_as_many_are_no_passing_load() -> None:
    times = BoundaryTimes(0.018, 3)
    found = [times.look(0.02, epoch) for epoch in range(1, 14)]
    assert kinds(found)[10:] == ["boundary_slow", "boundaries_slow", "boundaries_slow"]


@given(st.lists(st.booleans(), max_size=40), st.integers(1, 4))
def test_slow_boundaries_that_are_not_running_are_none(slow: list[bool], most: int) -> None:
    times = BoundaryTimes(1.0, most)
    for n, one in enumerate(slow):
        found = times.look(2.0 if one else 1.0, n)
        newest = slow[: n + 1][-most:]
        assert (found is not None) == (len(newest) == most and all(newest))


# Isolation ---------------------------------------------------------------------------------------------


def figures(**violations: int) -> dict[str, SeedFigures]:
    return {name: SeedFigures(name, isolation_violations=count) for name, count in violations.items()}


def test_a_seed_that_touches_the_host_is_told_each_time_and_then_in_quarantine() -> None:
    isolations = Isolations(most=2)
    found = [isolations.look(figures(a=count), epoch) for epoch, count in enumerate([0, 1, 1, 2, 3])]
    assert [kinds(list(one)) for one in found] == [[], ["isolation"], [], ["isolation"], ["quarantine"]]
    last = found[-1][0]
    assert (last.subject, last.attributes) == ("a", {"violations": "3"})
    assert last.text == "a touched the host while it was isolated, 3 times by now; it is taken out"


def test_several_violations_in_one_epoch_are_one_trouble() -> None:
    assert kinds(list(Isolations(2).look(figures(a=2, b=5), 1))) == ["isolation", "quarantine"]


def test_after_a_rollback_it_counts_from_there() -> None:
    isolations = Isolations(2)
    isolations.look(figures(a=2), 5)
    assert isolations.look(figures(a=1), 4) == ()
    assert kinds(list(isolations.look(figures(a=2), 5))) == ["isolation"]


# Rates -------------------------------------------------------------------------------------------------


def test_a_foreign_rate_is_a_trouble() -> None:
    assert foreign_rates(0, 3) is None
    found = foreign_rates(2, 3)
    assert found is not None
    assert (found.trigger, found.epoch) == (Trigger.FOREIGN_RATE, 3)
    assert "2 times" in found.text


# Memory ------------------------------------------------------------------------------------------------


def test_memory_above_its_budget_is_told_at_each_look_and_over_when_it_is_well_below() -> None:
    memory = MemoryUse(100 * MB, hard_ratio=1.08)
    sizes = [90, 100, 101, 105, 99, 96, 94, 90, 102]
    found = [memory.look(size * MB, 1) for size in sizes]
    assert kinds(found) == ["", "", "memory", "memory", "", "", "over memory", "", "memory"]


def test_memory_far_above_its_budget_is_another_trouble() -> None:
    memory = MemoryUse(100 * MB, hard_ratio=1.08)
    assert kinds([memory.look(size * MB, 1) for size in (101, 109, 110)]) == ["memory", "memory_spent", ""]
    assert kinds([MemoryUse(100 * MB, 1.08).look(200 * MB, 1)]) == ["memory_spent"]


@given(st.lists(st.integers(50, 150), max_size=60))
def test_memory_does_not_flicker(sizes: list[int]) -> None:
    memory, opened = MemoryUse(100 * MB, hard_ratio=1.2), False
    for size in sizes:
        match memory.look(size * MB, 1):
            case Trouble():
                assert size > 100
                opened = True
            case Relief():
                assert opened
                assert size < 95
                opened = False
            case None:
                assert opened or size <= 100, "it is told"
                assert not opened or size >= 95, "its end is told"


def test_the_kernel_says_how_much_this_process_has() -> None:
    import resource

    now = resident_bytes(Path("/proc/self/statm").read_text())
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert MB < now <= 1.01 * most


def test_the_kernel_says_how_much_there_is() -> None:
    assert available_bytes() > 100 * MB


def machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


MEMINFO = {"proc/meminfo": "MemFree: 3 kB\nMemTotal:        4096 kB\n"}
V2 = "sys/fs/cgroup"
V1 = "sys/fs/cgroup/memory"


@pytest.mark.parametrize(
    ("files", "available"),
    [
        ({}, 0),
        (MEMINFO, 4 * MB),
        (MEMINFO | {"proc/self/cgroup": "0::/a/b\n", f"{V2}/a/b/memory.max": "max\n"}, 4 * MB),
        (MEMINFO | {"proc/self/cgroup": "0::/a/b\n", f"{V2}/a/b/memory.max": f"{2 * MB}\n"}, 2 * MB),
        (
            MEMINFO
            | {
                "proc/self/cgroup": "0::/a/b\n",
                f"{V2}/a/memory.max": f"{MB}\n",
                f"{V2}/a/b/memory.max": f"{2 * MB}\n",
            },
            MB,
        ),
        (MEMINFO | {"proc/self/cgroup": "0::/outside\n", f"{V2}/memory.max": f"{3 * MB}\n"}, 3 * MB),
        (
            MEMINFO
            | {
                "proc/self/cgroup": "4:cpu,memory:/j\n3:cpuset:/j\n",
                f"{V1}/j/memory.limit_in_bytes": f"{2 * MB}",
            },
            2 * MB,
        ),
        (
            MEMINFO
            | {"proc/self/cgroup": "4:memory:/j\n", f"{V1}/j/memory.limit_in_bytes": "9223372036854771712"},
            4 * MB,
        ),
        (MEMINFO | {"proc/self/cgroup": "0::/a/b\n", f"{V2}/a/b/memory.max": f"{8 * MB}\n"}, 4 * MB),
    ],
    ids=["nothing", "machine", "no limit", "v2", "above", "container", "v1", "v1 without", "beyond it"],
)
def test_the_least_limit_counts(tmp_path: Path, files: dict[str, str], available: int) -> None:
    assert available_bytes(machine(tmp_path, files)) == available


# The disk ----------------------------------------------------------------------------------------------


def test_a_disk_that_is_nearly_full_is_told_before_it_is() -> None:
    disk = DiskSpace(100 * MB)
    found = [disk.look(free * MB, 1) for free in (200, 99, 50, 102, 106, 99)]
    assert kinds(found) == ["", "disk_full", "", "", "over disk_full", "disk_full"]
    assert isinstance(found[1], Trouble)
    assert isinstance(found[4], Relief)
    assert found[1].subject == found[4].subject, "what is over is what was told"


def test_a_disk_may_be_left_alone() -> None:
    assert DiskSpace(0).look(0, 1) is None
