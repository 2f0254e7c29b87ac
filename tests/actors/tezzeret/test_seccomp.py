"""The filter lets through what it should, judged by a little machine that runs its instructions."""

import errno
import os
import struct

import pytest

from actors.tezzeret.seccomp import MACHINES, NoFilter, install, program

ALLOW, KILL = 0x7FFF0000, 0x80000000
EPERM, ENOSYS = 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
PID = 4711
THREAD = 0x00010000


def verdict(code: bytes, architecture: int, number: int, argument: int = 0) -> int:
    """What the kernel would return for a call: struct seccomp_data in, the filter's value out."""
    data = struct.pack("<IIQ6Q", number, architecture, 0, argument, *[0] * 5)
    steps = list(struct.iter_unpack("HBBI", code))
    at = accumulator = 0
    while True:
        operation, if_true, if_false, operand = steps[at]
        at += 1
        match operation:
            case 0x06:
                return int(operand)
            case 0x20:
                (accumulator,) = struct.unpack_from("<I", data, operand)
            case 0x15:
                at += if_true if accumulator == operand else if_false
            case 0x35:
                at += if_true if accumulator >= operand else if_false
            case 0x45:
                at += if_true if accumulator & operand else if_false
            case _:
                raise AssertionError(f"no instruction {operation:#x} is used")


@pytest.fixture(params=sorted(MACHINES))
def machine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("fork", [True, False])
def test_network_and_tracing_are_denied_with_or_without_leave_to_fork(machine: str, fork: bool) -> None:
    calls, code = MACHINES[machine], program(machine, PID, fork)
    assert {verdict(code, calls.architecture, number) for number in calls.denied} == {EPERM}
    assert verdict(code, calls.architecture, calls.prlimit, 0) == ALLOW
    assert verdict(code, calls.architecture, calls.prlimit, PID) == EPERM


def test_without_leave_to_fork_only_threads_are_made_and_only_itself_signalled(machine: str) -> None:
    calls, code = MACHINES[machine], program(machine, PID, fork=False)
    assert {verdict(code, calls.architecture, number) for number in calls.starts} == {EPERM}
    assert verdict(code, calls.architecture, calls.clone, THREAD | 0x100) == ALLOW
    assert verdict(code, calls.architecture, calls.clone, 0x4100) == EPERM
    assert verdict(code, calls.architecture, calls.clone3) == ENOSYS
    for number in calls.signals:
        assert verdict(code, calls.architecture, number, PID) == ALLOW
        assert verdict(code, calls.architecture, number, PID - 1) == EPERM


def test_with_leave_to_fork_processes_are_made(machine: str) -> None:
    calls, code = MACHINES[machine], program(machine, PID, fork=True)
    passed = (*calls.starts, calls.clone, calls.clone3, *calls.signals)
    assert {verdict(code, calls.architecture, number, 1) for number in passed} == {ALLOW}


def test_everything_else_is_let_through(machine: str) -> None:
    calls, code = MACHINES[machine], program(machine, PID, fork=False)
    named = {*calls.denied, *calls.starts, calls.clone, calls.clone3, *calls.signals, calls.prlimit}
    verdicts = [verdict(code, calls.architecture, number) for number in range(512) if number not in named]
    assert verdicts.count(ALLOW) == len(verdicts) - 2, "tkill and pidfd_send_signal are denied besides"


def test_another_architectures_calls_are_fatal_and_x86s_third_interface_denied() -> None:
    assert verdict(program("x86_64", PID, fork=True), MACHINES["aarch64"].architecture, 0) == KILL
    assert verdict(program("aarch64", PID, fork=True), MACHINES["x86_64"].architecture, 0) == KILL
    assert verdict(program("x86_64", PID, fork=True), MACHINES["x86_64"].architecture, 0x40000001) == EPERM


def test_a_machine_without_a_filter_is_named_and_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(NoFilter, match="no filter is written for riscv64"):
        install(fork=False)
    os.kill(os.getppid(), 0)  # a filter would refuse this
