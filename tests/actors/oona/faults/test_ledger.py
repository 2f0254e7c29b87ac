"""The test's own ledger finds what it is there to find, and the torn line is torn as told."""

import asyncio
from contextlib import suppress

import pytest

from actors.oona.bus import Outcome, Receipt
from actors.oona.errors import QueueFullError, UncertainError
from tests.actors.oona.faults.ledger import Counts, FaultLedger
from tests.actors.oona.faults.proxy import Proxy
from tests.actors.oona.redis_server import RedisServer
from tests.actors.oona.resp import packed


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> FaultLedger:
    monkeypatch.setattr(FaultLedger, "total", Counts())
    return FaultLedger("made up", 7)


def taken(ledger: FaultLedger, n: int) -> str:
    event_id = ledger.hand_over(n)
    ledger.answered(event_id, Receipt(event_id, Outcome.ACCEPTED))
    return event_id


def test_what_was_acknowledged_and_never_came_is_lost(ledger: FaultLedger) -> None:
    ledger.came(taken(ledger, 1), 1)
    taken(ledger, 2)
    with pytest.raises(AssertionError, match=r"made up seed=7: lost \['w2'\] of 1"):
        ledger.close()
    assert (FaultLedger.total.lost, FaultLedger.total.effects) == (1, 1)


def test_a_loss_is_excused_by_name_or_by_number(ledger: FaultLedger) -> None:
    taken(ledger, 1)
    taken(ledger, 2)
    assert ledger.close(excused={"w1", "w2"}).excused == 2
    assert ledger.close(excused={"w1"}, excused_max=1).excused == 2
    with pytest.raises(AssertionError, match="lost"):
        ledger.close(excused_max=1)


def test_a_repeat_has_no_second_effect_but_another_id_for_the_same_has(ledger: FaultLedger) -> None:
    event_id = taken(ledger, 1)
    ledger.came(event_id, 1)
    ledger.came(event_id, 1)
    assert (ledger.close().doubled, ledger.repeats()) == (0, 1)
    ledger.numbers["other"] = 1
    ledger.came("other", 1)
    with pytest.raises(AssertionError, match=r"\[1\]"):
        ledger.close()


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
    ledger.came(event_id, 1)
    assert ledger.close().effects == 1


def test_a_message_that_comes_under_the_id_of_another_is_found(ledger: FaultLedger) -> None:
    event_id = taken(ledger, 1)
    with pytest.raises(AssertionError, match="content of another"):
        ledger.came(event_id, 2)


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
