"""The test's own ledger finds what it is there to find, and the torn line is torn as told."""

import asyncio
from contextlib import suppress

import pytest

from actors.oona.bus import Outcome, Receipt
from actors.oona.errors import QueueFullError, UncertainError
from actors.oona.priority import Priority
from actors.oona.redis.frames import Frame
from actors.runtime.clock import LoopClock
from contracts.signing.refusal import SignatureRefused
from tests.actors.oona.faults.ledger import FaultLedger, told
from tests.actors.oona.faults.proxy import Proxy
from tests.actors.oona.faults.work import TOPIC, SignedWork, Work
from tests.actors.oona.redis_server import RedisServer
from tests.actors.oona.resp import packed


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> FaultLedger:
    monkeypatch.setattr(FaultLedger, "closed", {})
    return FaultLedger("made up", 7)


def taken(ledger: FaultLedger, n: int) -> str:
    event_id = ledger.hand_over(n)
    ledger.answered(event_id, Receipt(event_id, Outcome.ACCEPTED))
    return event_id


def did(ledger: FaultLedger, event_id: str, n: int, by: str = "here") -> None:
    ledger.came(event_id, n)
    ledger.did(event_id, by)


def test_what_was_acknowledged_and_never_done_is_lost(ledger: FaultLedger) -> None:
    did(ledger, taken(ledger, 1), 1)
    taken(ledger, 2)
    ledger.came("w2", 2)  # and was not done
    with pytest.raises(AssertionError, match=r"made up seed=7: lost \['w2'\] of 1"):
        ledger.close()
    counts = FaultLedger.closed["made up"][7]
    assert (counts.lost, counts.effects) == (1, 1)


def test_a_loss_is_excused_by_name_or_by_number(ledger: FaultLedger) -> None:
    taken(ledger, 1)
    taken(ledger, 2)
    assert ledger.close(excused={"w1", "w2"}).excused == 2
    assert ledger.close(excused={"w1"}, excused_max=1).excused == 2
    with pytest.raises(AssertionError, match="lost"):
        ledger.close(excused_max=1)


def test_what_one_process_does_twice_is_doubled_and_what_another_did_before_is_told_apart(
    ledger: FaultLedger,
) -> None:
    event_id = taken(ledger, 1)
    ledger.came(event_id, 1)
    did(ledger, event_id, 1)
    counts = ledger.close()
    assert (counts.effects, counts.doubled, counts.elsewhere, ledger.repeats()) == (1, 0, 0, 1)
    did(ledger, event_id, 1, by="there")
    counts = ledger.close()
    assert (counts.effects, counts.doubled, counts.elsewhere) == (1, 0, 1)
    did(ledger, event_id, 1)
    with pytest.raises(AssertionError, match=r"done twice \['w1'\] of 1"):
        ledger.close()


def test_another_id_for_the_same_is_doubled(ledger: FaultLedger) -> None:
    did(ledger, taken(ledger, 1), 1)
    ledger.numbers["other"] = 1
    did(ledger, "other", 1)
    with pytest.raises(AssertionError, match="done twice"):
        ledger.close()


def test_every_scenario_is_told_with_its_seeds(ledger: FaultLedger) -> None:
    for seed in (0, 1, 2, 5):
        one = FaultLedger("another", seed)
        did(one, taken(one, 1), 1)
        one.close()
    ledger.close()
    figures = "published 4, acknowledged 4, delivered 4, effects 4, elsewhere 0, lost 0, doubled 0"
    lines = list(told(FaultLedger.closed))
    assert lines[0] == f"fault test another: seeds 0-2 5; {figures}"
    assert lines[1].startswith("fault test made up: seeds 7; published 0")
    assert lines[2].startswith("fault tests: 5 runs of 2 scenarios; published 4")
    assert len(lines) == 3


def test_what_was_refused_must_not_come(ledger: FaultLedger) -> None:
    event_id = ledger.hand_over(1)
    ledger.answered(event_id, QueueFullError("full"))
    assert ledger.close().refused == 1
    ledger.came(event_id, 1)
    with pytest.raises(AssertionError, match="refused, and yet delivered"):
        ledger.close()


def test_what_is_uncertain_may_come_or_not_whatever_is_said_later(ledger: FaultLedger) -> None:
    event_id = ledger.hand_over(1)
    ledger.answered(event_id, UncertainError("no answer"))
    ledger.answered(event_id, QueueFullError("full"))
    assert (ledger.close().uncertain, ledger.close().refused) == (1, 0)
    did(ledger, event_id, 1)
    assert ledger.close().effects == 1


def test_a_message_that_comes_under_the_id_of_another_is_found(ledger: FaultLedger) -> None:
    event_id = taken(ledger, 1)
    with pytest.raises(AssertionError, match="content of another"):
        ledger.came(event_id, 2)


def test_signed_work_comes_as_it_went_and_unsigned_work_does_not() -> None:
    async def scenario() -> None:
        clock = LoopClock(asyncio.get_running_loop())
        frames, work = SignedWork(clock), Work(7, "much")
        envelope = frames.encode(TOPIC, "w7", Priority.NORMAL, work)
        frame = Frame(envelope, frames.sign(envelope))
        assert frames.decode(TOPIC, "w7", Priority.NORMAL, frame, clock.wall_ns()) == work
        with pytest.raises(SignatureRefused):
            frames.decode(TOPIC, "w7", Priority.NORMAL, Frame(envelope, b""), clock.wall_ns())

    asyncio.run(scenario())


def test_the_line_passes_cuts_and_swallows_as_told(redis_server: RedisServer) -> None:
    ping = packed(("PING",))

    async def scenario() -> None:
        async with Proxy(redis_server.port) as proxy:
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            writer.write(ping)
            assert await reader.readexactly(7) == b"+PONG\r\n"
            proxy.cut_after_bytes = 3
            writer.write(ping)
            assert await reader.read() == b"+PO"
            writer.close()
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            proxy.swallow = True
            writer.write(ping + packed(("SET", "swallowed", 1)))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.read(1), 0.05)
            proxy.swallow = False
            writer.write(ping)
            with suppress(ConnectionError):
                assert await reader.read() == b"", "what lost an answer gives no other"
            writer.close()
            assert redis_server.execute("GETDEL", "swallowed") == b"1"
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            proxy.lose_answer = True
            writer.write(packed(("ECHO", "lost")) + packed(("ECHO", "heard")))
            assert await reader.readexactly(11) == b"$5\r\nheard\r\n"
            proxy.cut_after_answer = True
            writer.write(packed(("ECHO", "heard")) + packed(("ECHO", "lost")))
            assert await reader.read() == b"$5\r\nheard\r\n"
            writer.close()
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            writer.write(ping)
            assert await reader.readexactly(7) == b"+PONG\r\n"
            proxy.cut()
            with suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()

    asyncio.run(scenario())
