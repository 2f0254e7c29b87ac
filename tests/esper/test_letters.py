"""`python -m esper.run letters`: an operator beside a run on a real Redis."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, Final

import msgspec
import pytest

from actors.letters import spelled
from actors.oona.bus import Subscription
from actors.oona.open import KEPT_S, RUN
from actors.oona.policy import TopicPolicy
from actors.oona.redis.bus import RedisBus
from actors.oona.redis.frames import LeylineFrames
from actors.oona.redis.registry import RunRegistry
from actors.oona.topics import LISTENERS, run_topics
from actors.runtime.clock import LoopClock
from contracts import topics
from contracts.lifecycle import SeedOperation
from contracts.messages import (
    AdaptationCommand,
    CommandSeedOperation,
    CommandType,
    FieldReport,
    FieldReportOutcome,
    PolicyUpdate,
)
from contracts.registry import RunEntry
from contracts.report import Ending
from contracts.signing.keyring import Keyring
from contracts.view import RunFacts
from esper.options import BAD_USAGE
from esper.run import DONE, NOT_DONE, main
from tests.actors.oona.patience import PATIENT
from tests.actors.oona.redis_server import RedisServer

TOLD = pytest.CaptureFixture[str]
(NISSA,) = LISTENERS
SECRET: Final = {"ESPER_LEYLINE_SECRET": "a secret of forty thieves"}
OTHER: Final = {"ESPER_LEYLINE_SECRET": "a secret of somebody else"}
COMMAND: Final = AdaptationCommand(
    "c1", CommandType.SEED, 1, "tamiyo", "relu1#0", payload=CommandSeedOperation(SeedOperation.CULL)
)
REPORT: Final = FieldReport(
    "r1", "c1", "run", "relu1#0", "BP001", FieldReportOutcome.NEUTRAL, {"gain": 0.5}, 3, 1, "heuristic"
)
LETTERS: Final = (f"{topics.ADAPTATION_COMMAND}/{NISSA}/c1", f"{topics.FIELD_REPORT}/{NISSA}/r1")
"""The letters that `a_run` leaves, as they are listed."""
_numbers = count(1)


@asynccontextmanager
async def a_bus(
    server: RedisServer,
    run_id: str,
    environ: Mapping[str, str],
    policies: Mapping[str, TopicPolicy] | None = None,
) -> AsyncIterator[RedisBus]:
    """The run's own."""
    clock = LoopClock(asyncio.get_running_loop())
    frames = LeylineFrames(Keyring.from_environment(environ), RUN, clock)
    declared = run_topics() if policies is None else policies
    bus = await RedisBus.open(server.address, run_id, declared, clock, frames, options=PATIENT)
    try:
        yield bus
    finally:
        await bus.close()


def a_run(server: RedisServer, environ: Mapping[str, str] | None = None, ended: Ending | None = None) -> str:
    """A run whose Nissa has given up a command and a report, and has acknowledged a third message."""
    environ = {} if environ is None else environ
    run_id = f"letters-{next(_numbers)}-{server.port}"

    async def live() -> None:
        async with RunRegistry(server.address) as registry:
            facts = RunFacts("mnist1d", "random", 0, "runs")
            await registry.put(RunEntry(run_id, facts, next(_numbers), signed=bool(environ), ended=ended))
        at_once = {
            name: msgspec.structs.replace(policy, attempts_max=1) for name, policy in run_topics().items()
        }
        async with a_bus(server, run_id, environ, at_once) as bus:
            nissa = bus.subscribe((topics.ADAPTATION_COMMAND, topics.FIELD_REPORT), NISSA, "nissa")
            await give_up(bus, nissa, topics.ADAPTATION_COMMAND, COMMAND, "c1", "it failed")
            await give_up(bus, nissa, topics.FIELD_REPORT, REPORT, "r1", "\x1b[31mno room\x1b[0m")
            await bus.publish(topics.FIELD_REPORT, REPORT, event_id="r2")
            (delivery,) = await nissa.receive()
            delivery.ack()
            await bus.flush()

    asyncio.run(live())
    return run_id


async def give_up(
    bus: RedisBus, nissa: Subscription, topic: str, message: msgspec.Struct, event_id: str, error: str
) -> None:
    await bus.publish(topic, message, event_id=event_id)
    (delivery,) = await nissa.receive()
    delivery.nack(error=error)
    await bus.flush()


def asked(capsys: TOLD, server: RedisServer, run_id: str, *words: str, code: int = DONE) -> str:
    """What the command prints to stdout; nothing else, unless its code says so."""
    assert main(["letters", "--bus", server.address, "--run", run_id, *words]) == code
    told = capsys.readouterr()
    assert code != DONE or told.err == ""
    return told.out


def refused(capsys: TOLD, *words: str) -> str:
    """The one line that these words are refused with."""
    try:
        code = main(["letters", *words])
    except SystemExit as leaving:
        code = int(leaving.code or 0)
    told = capsys.readouterr()
    assert (code, told.out, told.err.count("\n")) == (BAD_USAGE, "", 1)
    return told.err


def listed(capsys: TOLD, server: RedisServer, run_id: str, *words: str) -> list[str]:
    """The ids that are listed so."""
    found = json.loads(asked(capsys, server, run_id, "list", *words, "--json"))
    return [letter["letter_id"] for letter in found["letters"]]


def kept_of(server: RedisServer, run_id: str) -> dict[bytes, Any]:
    """All that the server has of this run, but for when somebody last came by and what he was answered."""
    names: Any = server.execute("KEYS", f"esper:{{{run_id}}}:*")
    ours = [name for name in names if b":reply:" not in name and not name.endswith(b":alive")]
    return {name: content(server, name) for name in ours}


def content(server: RedisServer, name: bytes) -> object:
    """What is in a key; the script packs tables in any order."""
    kind = server.execute("TYPE", name)
    if kind == b"hash":
        pairs: Any = server.execute("HGETALL", name)
        return {field: unpacked(value) for field, value in zip(pairs[::2], pairs[1::2], strict=True)}
    text: Any = server.execute("GET" if kind == b"string" else "DUMP", name)
    return unpacked(text)


def unpacked(value: bytes) -> object:
    try:
        return msgspec.msgpack.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return value


def test_letters_are_listed_one_a_line_for_a_pipe_and_looking_changes_nothing(
    redis_server: RedisServer, capsys: TOLD
) -> None:
    run_id = a_run(redis_server)
    asked(capsys, redis_server, run_id)  # the run's own attempts are declared again
    before = kept_of(redis_server, run_id)
    lines = asked(capsys, redis_server, run_id).splitlines()
    asked(capsys, redis_server, run_id, "inspect", LETTERS[0])
    assert kept_of(redis_server, run_id) == before
    assert [line.split("  ")[:3] for line in lines] == [[letter, "normal", "1"] for letter in LETTERS]
    assert lines[0].endswith("  AdaptationCommand  it failed")
    assert lines[1].endswith("  FieldReport  ?[31mno room?[0m")


def test_topics_and_groups_narrow_the_list(redis_server: RedisServer, capsys: TOLD) -> None:
    run_id = a_run(redis_server)
    assert listed(capsys, redis_server, run_id) == list(LETTERS)
    assert listed(capsys, redis_server, run_id, "--topic", topics.FIELD_REPORT) == [LETTERS[1]]
    assert listed(capsys, redis_server, run_id, "--group", NISSA) == list(LETTERS)
    assert asked(capsys, redis_server, run_id, "--group", "nobody") == ""
    found = json.loads(asked(capsys, redis_server, run_id, "--json"))
    assert found["run_id"] == run_id
    assert found["letters"][0] == {
        "letter_id": LETTERS[0],
        "topic": topics.ADAPTATION_COMMAND,
        "group": NISSA,
        "event_id": "c1",
        "priority": "normal",
        "attempts": 1,
        "error": "it failed",
        "died_s": found["letters"][0]["died_s"],
        "kind": "AdaptationCommand",
        "unreadable": "",
    }


def test_one_letter_is_shown_with_its_message(redis_server: RedisServer, capsys: TOLD) -> None:
    run_id = a_run(redis_server)
    text = asked(capsys, redis_server, run_id, "inspect", LETTERS[0])
    assert text.startswith(
        f"letter    {LETTERS[0]}\ntopic     adaptation-command, group nissa, normal priority\n"
    )
    assert '"operation": "CULL"' in text
    found = json.loads(asked(capsys, redis_server, run_id, "inspect", LETTERS[1], "--json"))
    assert found["letter"]["letter_id"] == LETTERS[1]
    assert (found["message"]["report_id"], found["message"]["outcome"]) == ("r1", "NEUTRAL")


def test_a_replayed_letter_reaches_its_group_signed_anew_and_all_means_all(
    redis_server: RedisServer, capsys: TOLD, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(*next(iter(SECRET.items())))
    run_id = a_run(redis_server, SECRET)

    async def replayed(*words: str) -> str:
        """What is said while the run lives: it takes no command that was signed before its start."""
        return await asyncio.to_thread(asked, capsys, redis_server, run_id, "replay", *words)

    async def live() -> list[msgspec.Struct]:
        async with a_bus(redis_server, run_id, SECRET) as bus:
            assert await replayed(LETTERS[0]) == f"1 letter queued again in {run_id}\n"
            assert [letter.letter_id for letter in await bus.dead_letters.list()] == [LETTERS[1]]
            done = json.loads(await replayed("--all", "--json"))
            assert done == {"run_id": run_id, "what": "replay", "done": [LETTERS[1]], "kept": []}
            assert await replayed("--all") == f"0 letters queued again in {run_id}\n"
            nissa = bus.subscribe((topics.ADAPTATION_COMMAND, topics.FIELD_REPORT), NISSA, "again")
            found = []
            while len(found) < 2:
                for delivery in await nissa.receive(9):
                    found.append(delivery.message)
                    delivery.ack()
            assert not bus.inbox.refused
            return found

    assert asyncio.run(live()) == [COMMAND, REPORT]


def test_letters_are_dropped_by_id_or_by_topic(redis_server: RedisServer, capsys: TOLD) -> None:
    run_id = a_run(redis_server)
    words = ("drop", "--all", "--topic", topics.FIELD_REPORT)
    assert asked(capsys, redis_server, run_id, *words) == f"1 letter dropped in {run_id}\n"
    assert listed(capsys, redis_server, run_id) == [LETTERS[0]]
    assert asked(capsys, redis_server, run_id, "drop", LETTERS[0], LETTERS[0]).startswith("1 letter dropped")
    assert listed(capsys, redis_server, run_id) == []


@pytest.mark.parametrize("what", ["inspect", "replay", "drop"])
def test_a_letter_that_is_not_there_is_refused_and_the_others_stay(
    what: str, redis_server: RedisServer, capsys: TOLD
) -> None:
    run_id = a_run(redis_server)
    ids = [LETTERS[0], "nothing"] if what != "inspect" else ["nothing"]
    said = refused(capsys, "--bus", redis_server.address, "--run", run_id, what, *ids)
    assert "no dead letter 'nothing' is kept; list names those that are" in said
    assert listed(capsys, redis_server, run_id) == list(LETTERS)


def test_a_letter_that_can_not_be_queued_stays_and_is_told(redis_server: RedisServer, capsys: TOLD) -> None:
    run_id = a_run(redis_server)

    async def fill() -> None:
        async with a_bus(redis_server, run_id, {}) as bus:
            for number in range(run_topics()[topics.ADAPTATION_COMMAND].capacity):
                bus.publish_nowait(topics.ADAPTATION_COMMAND, COMMAND, event_id=f"more{number}")
            await bus.flush()

    asyncio.run(fill())
    words = ("letters", "--bus", redis_server.address, "--run", run_id, "replay", "--all")
    assert main(words) == NOT_DONE
    told = capsys.readouterr()
    assert told.out == f"1 letter of 2 queued again in {run_id}\n"
    assert told.err.startswith(f"esper: {LETTERS[0]} stays a dead letter: the normal lane")
    assert listed(capsys, redis_server, run_id) == [LETTERS[0]]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "--bus"),
        (("--bus", "memory"), "a bus in memory can't be reached from outside"),
        (("--bus", "http://localhost"), "it takes redis://"),
        (("--bus", "redis://:***@127.0.0.1"), "give the whole address with --bus"),
        (("--bus", "redis://127.0.0.1:1"), "no Redis can be reached at redis://127.0.0.1:1"),
        (("--bus", "redis://127.0.0.1:1", "explode"), "explode"),
        (("list", "--bus", "redis://127.0.0.1:1", "x"), "letters list takes no letters"),
        (("--bus", "redis://127.0.0.1:1", "list", "--all"), "letters list takes no letters"),
        (("--bus", "redis://127.0.0.1:1", "inspect", "x", "y"), "letters inspect takes the id of one letter"),
        (("--bus", "redis://127.0.0.1:1", "inspect", "x", "--topic", "t"), "takes the id of one letter"),
        (("--bus", "redis://127.0.0.1:1", "replay"), "letters replay takes the ids of letters"),
        (("replay", "--bus", "redis://127.0.0.1:1", "x", "--all"), "or --all"),
        (("--bus", "redis://127.0.0.1:1", "drop", "x", "--topic", "t"), "letters drop takes the ids"),
    ],
)
def test_what_can_not_be_done_is_refused_in_one_line(words: tuple[str, ...], said: str, capsys: TOLD) -> None:
    assert said in refused(capsys, *words)


def test_an_unknown_run_or_topic_is_refused_with_those_that_are(own_redis: RedisServer, capsys: TOLD) -> None:
    bus = ("--bus", own_redis.address)
    assert "no run has been there in the last day" in refused(capsys, *bus)
    assert "there is no run 'nobody'; no run has been here" in refused(capsys, *bus, "--run", "nobody")
    a_run(own_redis)
    said = refused(capsys, *bus, "--topic", "field-reports")
    assert "topic 'field-reports' was not declared; the nearest is 'field-report'" in said


def test_a_run_that_has_ended_is_the_newest_if_none_lives_and_its_keys_still_go(
    own_redis: RedisServer, capsys: TOLD
) -> None:
    run_id = a_run(own_redis, ended=Ending())
    assert main(["letters", "--bus", own_redis.address, "--json"]) == DONE
    assert json.loads(capsys.readouterr().out)["run_id"] == run_id
    for name in kept_of(own_redis, run_id):
        assert 0 < own_redis.execute("TTL", name) <= KEPT_S  # type: ignore[arg-type,operator]


def test_another_secret_is_refused_none_is_told_so_and_can_not_replay(
    redis_server: RedisServer, capsys: TOLD, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = a_run(redis_server, SECRET)
    words = ("--bus", redis_server.address, "--run", run_id)
    assert "what is replayed is signed anew: set ESPER_LEYLINE_SECRET" in refused(
        capsys, *words, "replay", "--all"
    )
    assert main(["letters", *words]) == DONE
    told = capsys.readouterr()
    assert "nobody checks that here" in told.err
    assert len(told.out.splitlines()) == 2
    monkeypatch.setenv(*next(iter(OTHER.items())))
    for order in ("list", "replay --all", "drop --all"):
        said = refused(capsys, *words, *order.split())
        assert "signed with another secret; set ESPER_LEYLINE_SECRET" in said
        assert "thieves" not in said
    monkeypatch.setenv(*next(iter(SECRET.items())))
    assert listed(capsys, redis_server, run_id) == list(LETTERS)


def test_a_letter_without_sense_is_one_line(redis_server: RedisServer, capsys: TOLD) -> None:
    """Whoever reaches the server can write one."""
    run_id = a_run(redis_server)
    key = f"esper:{{{run_id}}}:letter:{topics.ADAPTATION_COMMAND}"
    name, packed = redis_server.execute("HGETALL", key)  # type: ignore[misc]
    stored = msgspec.msgpack.decode(packed, strict=False)
    for field, value in (("priority", 99), ("error", 5)):
        forged = msgspec.msgpack.encode({**stored, field: value})
        redis_server.execute("HSET", key, name, forged)
        said = refused(capsys, "--bus", redis_server.address, "--run", run_id)
        assert "makes no sense" in said or "without sense" in said


def test_a_hung_server_is_given_up(own_redis: RedisServer, capsys: TOLD) -> None:
    own_redis.pause()
    assert "no Redis can be reached" in refused(capsys, "--bus", own_redis.address)


def test_help_comes_without_loading_torch_or_a_driver() -> None:
    program = (
        "import sys, esper.run\n"
        "try: esper.run.main(['letters', '--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'redis', 'google') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout.endswith("[]\n")
    assert "For example: python -m esper.run letters --bus" in " ".join(said.stdout.split())


def test_a_message_is_spelled_out_as_plain_data() -> None:
    update = PolicyUpdate("p1", "run", 7, "v2", payload=b"12345")
    assert spelled(update) == {
        "policy_id": "p1",
        "training_run_id": "run",
        "issued_at": 7,
        "tamiyo_policy_version": "v2",
        "payload": "5 bytes",
        "version": 1,
    }
