"""A run's `control.sock`: one order a line, one answer a line; nothing that a client does harms the run."""

import asyncio
import os
import socket
import stat
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from actors import steering as door
from actors.steer import NotSteered, lines, steer
from actors.steering import CLIENTS_MAX, LINE_BYTES_MAX, SOCKET, steering
from contracts.emergency import NONE, Answer, Bearings, Level, Order, Trigger, Trouble

BEARINGS = Bearings("run", "training", 7, NONE, "", 0, NONE, False, 0, (), -1)
STATUS = b'{"what":"status"}\n'


@dataclass
class Run:
    """Does everything that is wanted."""

    orders: list[Order] = field(default_factory=list)
    hold_up: asyncio.Event | None = None
    taken: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    """Released with each order."""

    async def carry_out(self, order: Order) -> Answer:
        self.orders.append(order)
        self.taken.release()
        if self.hold_up is not None:
            await self.hold_up.wait()
        return Answer(True, f"done: {order.what}", BEARINGS)


def serving(folder: Path, test: Callable[[Run], Awaitable[None]]) -> Run:
    async def main() -> None:
        async with steering(folder, run):
            await test(run)

    run = Run()
    asyncio.run(main())
    return run


async def talk(folder: Path, *said: bytes) -> list[Answer]:
    """Say these, one after the other, as they stand; the answers."""
    with door.address(folder) as name:
        reader, writer = await asyncio.open_unix_connection(name)
    answers = []
    for one in said:
        writer.write(one)
        line = await reader.readline()
        if line:
            answers.append(msgspec.json.decode(line, type=Answer))
    writer.close()
    return answers


def test_an_order_is_carried_out_and_answered(tmp_path: Path) -> None:
    async def test(run: Run) -> None:
        answer = await asyncio.to_thread(steer, tmp_path, Order("force", Level.CONSERVATIVE))
        assert answer == Answer(True, "done: force", BEARINGS)

    run = serving(tmp_path, test)
    assert run.orders == [Order("force", Level.CONSERVATIVE)]


def test_several_orders_can_be_said_in_one_connection(tmp_path: Path) -> None:
    async def test(run: Run) -> None:
        answers = await talk(tmp_path, STATUS, b'{"what":"hold","by":"anna"}\n', STATUS)
        assert [one.text for one in answers] == ["done: status", "done: hold", "done: status"]
        assert run.orders[1] == Order("hold", by="anna")

    serving(tmp_path, test)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\n",
        b"hello\n",
        b"{}\n",
        b'{"what":"explode"}\n',
        b'{"what":"force","level":9}\n',
        b'{"what":["force"]}\n',
        b'{"what":"status","by":"\xff\xfe"}\n',
        b"\x00\x01\x02\n",
        b"[" * 3000 + b"\n",
    ],
)
def test_garbage_is_answered_with_why_and_the_next_order_is_taken(tmp_path: Path, garbage: bytes) -> None:
    async def test(run: Run) -> None:
        refused, answered = await talk(tmp_path, garbage, STATUS)
        assert not refused.done
        assert refused.text.startswith("that is no order: ")
        assert answered.done
        assert run.orders == [Order("status")]

    serving(tmp_path, test)


def test_a_line_without_end_is_refused(tmp_path: Path) -> None:
    async def test(run: Run) -> None:
        (refused,) = await talk(tmp_path, b"x" * (2 * LINE_BYTES_MAX))
        assert (refused.done, refused.text) == (False, f"a line has at most {LINE_BYTES_MAX} bytes")
        assert (await talk(tmp_path, STATUS))[0].done, "others are served"
        assert run.orders == [Order("status")]

    serving(tmp_path, test)


def test_a_client_that_says_nothing_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "IDLE_S", 0.01)

    async def test(run: Run) -> None:
        with door.address(tmp_path) as name:
            reader, writer = await asyncio.open_unix_connection(name)
        assert await reader.read() == b"", "it hangs up"
        writer.close()

    serving(tmp_path, test)


def test_a_client_that_hangs_up_harms_nobody(tmp_path: Path) -> None:
    async def test(run: Run) -> None:
        run.hold_up = asyncio.Event()
        with door.address(tmp_path) as name:
            _, writer = await asyncio.open_unix_connection(name)
            writer.write(STATUS)
            await writer.drain()
            writer.transport.abort()
            run.hold_up.set()
        assert (await talk(tmp_path, STATUS))[0].done

    serving(tmp_path, test)


def test_only_a_few_are_served_at_a_time(tmp_path: Path) -> None:
    async def test(run: Run) -> None:
        run.hold_up = asyncio.Event()
        waiting = [asyncio.create_task(talk(tmp_path, STATUS)) for _ in range(CLIENTS_MAX)]
        for _ in range(CLIENTS_MAX):
            await run.taken.acquire()
        (refused,) = await talk(tmp_path, STATUS)
        assert (refused.done, refused.text) == (
            False,
            f"{CLIENTS_MAX} others steer this run already; try again",
        )
        run.hold_up.set()
        answered = await asyncio.gather(*waiting)
        assert all(answer.done for (answer,) in answered)
        assert (await talk(tmp_path, STATUS))[0].done, "there is room again"

    serving(tmp_path, test)


def test_who_waits_when_the_run_ends_is_told_so(tmp_path: Path) -> None:
    found: list[str] = []

    def ask() -> None:
        with pytest.raises(NotSteered, match="ended before it had answered") as refused:
            steer(tmp_path, Order("rollback"))
        found.append(str(refused.value))

    client = threading.Thread(target=ask)

    async def test(run: Run) -> None:
        run.hold_up = asyncio.Event()
        client.start()
        await run.taken.acquire()

    serving(tmp_path, test)
    client.join(10)
    assert len(found) == 1


# Who may, and where ------------------------------------------------------------------------------------


def test_the_socket_is_its_owners_alone_and_goes_with_the_run(tmp_path: Path) -> None:
    async def test(run: Run) -> None:
        found = os.stat(tmp_path / SOCKET)
        assert stat.S_ISSOCK(found.st_mode)
        assert stat.S_IMODE(found.st_mode) == 0o600

    serving(tmp_path, test)
    assert not (tmp_path / SOCKET).exists()


def test_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "_user_of", lambda peer: os.geteuid() + 1)

    async def test(run: Run) -> None:
        (refused,) = await talk(tmp_path, STATUS)
        assert (refused.done, refused.text) == (
            False,
            "only the user who started the run may steer it",
        )
        assert not run.orders

    serving(tmp_path, test)


def test_the_kernel_says_who_is_at_the_other_end() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert door._user_of(one) == os.geteuid()


def test_a_folder_with_a_very_long_name_will_do(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30) / ("name" * 30)
    folder.mkdir(parents=True)
    assert len(str(folder)) > 200

    async def test(run: Run) -> None:
        assert (await asyncio.to_thread(steer, folder, Order("status"))).done

    serving(folder, test)


def test_the_socket_of_a_dead_run_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead, door.address(tmp_path) as name:
        dead.bind(name)
    with pytest.raises(NotSteered, match=f"no run lives in {tmp_path}"):
        steer(tmp_path, Order("status"))

    async def test(run: Run) -> None:
        assert (await asyncio.to_thread(steer, tmp_path, Order("status"))).done

    serving(tmp_path, test)


def test_what_is_no_socket_is_left_alone_and_the_run_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / SOCKET).write_text("mine")

    async def test(run: Run) -> None:
        pass

    serving(tmp_path, test)
    assert (tmp_path / SOCKET).read_text() == "mine"
    assert "the run can't be steered" in caplog.text


def test_a_newer_runs_socket_is_not_taken_away(tmp_path: Path) -> None:
    async def main() -> None:
        older = steering(tmp_path, Run())
        await older.__aenter__()
        newer = steering(tmp_path, Run())
        await newer.__aenter__()
        await older.__aexit__(None, None, None)
        assert (tmp_path / SOCKET).exists()
        assert (await talk(tmp_path, STATUS))[0].done
        await newer.__aexit__(None, None, None)

    asyncio.run(main())


@pytest.mark.parametrize("there", [False, True], ids=["no folder", "no socket"])
def test_where_no_run_lives_it_says_so(tmp_path: Path, there: bool) -> None:
    folder = tmp_path / "run"
    if there:
        folder.mkdir()
    with pytest.raises(NotSteered, match="no run lives in" if there else "is no folder"):
        steer(folder, Order("status"))


# In words ----------------------------------------------------------------------------------------------


def test_the_status_in_words() -> None:
    assert lines(BEARINGS) == [
        "run         run, training, epoch 7",
        "emergency   none",
        "checkpoint  none yet",
    ]


def test_the_status_of_a_run_in_trouble() -> None:
    trouble = Trouble(Trigger.DISK_FULL, "the disk is full", 4)
    bearings = Bearings(
        "run", "training", 9, Level.ELEVATED, "the disk is full", 4, NONE, False, 2, (trouble,), 3
    )
    assert lines(bearings)[1:] == [
        "emergency   ELEVATED since epoch 4: the disk is full",
        "falls       by a step after 2 more quiet boundaries",
        "trouble     the disk is full (epoch 4)",
        "checkpoint  epoch 3",
    ]
    held = msgspec.structs.replace(bearings, held=True, forced=Level.ELEVATED)
    assert lines(held)[2] == "operator    holds ELEVATED"
    forced = msgspec.structs.replace(bearings, forced=Level.CONSERVATIVE)
    assert lines(forced)[2] == "operator    forces CONSERVATIVE"
