"""`python -m esper.run observe` beside `python -m esper.run --bus redis://…`: processes and a real Redis."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from contracts.report import Report
from esper.options import BAD_USAGE
from esper.report.build import read
from esper.run import DONE, INTERRUPTED, main
from tests.actors.oona.redis_server import RedisServer
from tests.esper.observing import EPOCHS, UNHURRIED, Child, Stage, stage

pytestmark = pytest.mark.timeout(900)
PASSWORD, SECRET = "open_sesame_1001", "a secret of forty thieves"


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line that these words are refused with."""
    try:
        code = main(words)
    except SystemExit as leaving:
        code = int(leaving.code or 0)
    said = capsys.readouterr().err
    assert code == BAD_USAGE
    assert said.count("\n") == 1
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "--bus"),
        (("--bus", "memory"), "can't be reached from outside"),
        (("--bus", "http://localhost"), "it takes redis://"),
        (("--bus", "redis://:pass@localhost:port"), "redis://:***@localhost:port is no address"),
        (("--bus", "redis://127.0.0.1:1"), "no Redis can be reached at redis://127.0.0.1:1"),
        (("--bus", "redis://:***@127.0.0.1"), "give the whole address with --bus"),
        (("--bus", "redis://u:p@ss@localhost"), "in a password, @ : and / are written %40 %3A and %2F"),
        (("--frobnicate",), "--help"),
    ],
)
def test_what_can_not_be_observed_is_refused_in_one_line(
    words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refused(capsys, "observe", *words)


def test_a_run_that_is_not_there_is_refused_with_those_that_are(
    own_redis: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, "observe", "--bus", own_redis.address, "--run", "nobody")
    assert "there is no run 'nobody'; no run has been here" in said
    assert "start one" in refused(capsys, "observe", "--bus", own_redis.address, "--once")


@pytest.mark.parametrize("words", [("--out", "runs"), ("observe",)])
def test_a_server_that_throws_messages_away_is_refused_before_anything_is_written(
    words: tuple[str, ...],
    own_redis: RedisServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    own_redis.config("maxmemory-policy", "allkeys-lru")
    assert "noeviction" in refused(capsys, *words, "--bus", own_redis.address)
    assert list(tmp_path.iterdir()) == []
    assert own_redis.execute("DBSIZE") == 0


@pytest.mark.parametrize("words", [("--out", "runs"), ("observe",)])
def test_a_hung_server_is_given_up(
    words: tuple[str, ...],
    own_redis: RedisServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    own_redis.pause()
    assert "no Redis can be reached" in refused(capsys, *words, "--bus", own_redis.address)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [(), ("observe", "--bus", "redis://127.0.0.1:1")])
def test_secrets_that_can_not_be_used_are_refused_and_not_shown(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ESPER_LEYLINE_SECRETS", "one:tooshort,two")
    said = refused(capsys, *words)
    assert "ESPER_LEYLINE_SECRETS" in said
    assert "tooshort" not in said


def test_help_comes_without_loading_torch_or_a_driver() -> None:
    program = (
        "import sys, esper.run\n"
        "try: esper.run.main(['observe', '--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'redis', 'google') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout.endswith("[]\n")
    assert "--once" in said.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_waiting_for_a_run_ends_with_a_signal(
    number: signal.Signals, own_redis: RedisServer, tmp_path: Path
) -> None:
    with stage(tmp_path) as scene:
        observer = scene.observe(own_redis.address)
        observer.prints("waiting for one to begin")
        observer.signal(number)
        assert observer.code() == 128 + number
        assert observer.err == ""


@dataclass
class Seen:
    """A signed run on a server with a password, all that looked at it, and what it left."""

    run: Child
    early: Child
    late: Child
    again: Child
    stopped: Child
    stranger: Child
    unarmed: Child
    once: Child
    folder: Path

    @property
    def report(self) -> Report:
        return read(self.folder / "report.json")


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    with (
        RedisServer(requirepass=PASSWORD) as server,
        stage(tmp_path_factory.mktemp("seen"), UNHURRIED) as scene,
    ):
        address = server.address.replace("://", f"://:{PASSWORD}@")
        yield _seen(scene, address)


def _seen(scene: Stage, address: str) -> Seen:
    early = scene.observe(address, secret=SECRET)
    early.prints("waiting")
    scene.begin.touch()
    run = scene.run_that_waits(address, EPOCHS // 2, secret=SECRET)
    scene.training()
    stopped = scene.observe(address, secret=SECRET)
    killed = scene.observe(address, secret=SECRET)
    for observer in (stopped, killed):
        observer.prints("\nepoch ")
    stopped.signal(signal.SIGSTOP)
    killed.signal(signal.SIGKILL)
    late = scene.observe(address, "--json", secret=SECRET)
    again = scene.observe(address, "--run", "mnist1d-random", secret=SECRET)
    stranger = scene.observe(address, secret="a secret of somebody else")
    unarmed = scene.observe(address, "--once")
    late.prints('"start"')
    again.prints("\nepoch ")
    stranger.code()
    unarmed.code()
    scene.go_on.touch()
    assert run.code() == DONE, run.err
    stopped.signal(signal.SIGCONT)
    once = scene.observe(address, "--once", "--json", secret=SECRET)
    for observer in (early, late, again, stopped, stranger, unarmed, once):
        observer.code()
    return Seen(run, early, late, again, stopped, stranger, unarmed, once, scene.run_folder)


def happenings(child: Child) -> list[str]:
    """The lines about the lives of seeds."""
    kinds = ("germinated", "advanced", "fossilized", "culled", "refused")
    return [line for line in child.out.splitlines() if line.startswith("epoch") and line.split()[2] in kinds]


@pytest.mark.real
def test_observers_leave_with_the_run_and_say_what_came_of_it(seen: Seen) -> None:
    for observer in (seen.early, seen.again, seen.stopped):
        assert (observer.process.returncode, observer.err) == (DONE, "")
        last = observer.out.splitlines()[-1]
        assert last.startswith(f"{seen.folder.name} finished: mnist1d grew from 338 to")


@pytest.mark.real
def test_what_happens_to_seeds_is_told_alike_by_the_run_and_by_all_who_look(seen: Seen) -> None:
    told = happenings(seen.run)
    assert len(told) > 3
    for observer in (seen.early, seen.again, seen.stopped):
        assert happenings(observer) == told


@pytest.mark.real
def test_who_came_late_has_every_epoch_as_the_report_has_it(seen: Seen) -> None:
    lines = seen.late.json
    assert (lines[0]["kind"], lines[0]["run_id"]) == ("start", seen.folder.name)
    assert lines[-1]["kind"] == "end"
    assert lines[-1]["ended"]["kind"] == "finished"
    epochs = [line for line in lines if line["kind"] == "epoch"]
    assert [line["epoch"] for line in epochs] == list(range(1, EPOCHS + 1))
    for line, facts in zip(epochs, seen.report.epochs, strict=True):
        assert (line["train_loss"], line["val_loss"]) == (facts.train_loss, facts.val_loss)
        assert (line["val_accuracy"], line["params"]) == (facts.val_accuracy, facts.params)
        assert line["train_flops"] == facts.train_flops
        assert facts.boundary_ms is None or line["boundary_ms"]["total"] == facts.boundary_ms.total


@pytest.mark.real
def test_the_picture_of_a_run_that_is_over_is_still_there(seen: Seen) -> None:
    (line,) = seen.once.json
    picture, report = line["picture"], seen.report
    assert (picture["phase"], picture["epoch"], picture["params"]) == (
        "finished",
        EPOCHS,
        report.epochs[-1].params,
    )
    grown = [
        seed for site in picture["sites"] for seed in (*site["fossils"], site["seed"]) if seed is not None
    ]
    assert {seed["record"]["seed_id"] for seed in grown} <= {graft.seed_id for graft in report.grafts}
    assert grown


@pytest.mark.real
def test_no_observer_held_up_the_run(seen: Seen) -> None:
    """Among them one that was stopped all the time, and one that was killed."""
    report = seen.report
    assert report.ended.kind == "finished"
    assert report.commands.late == 0
    rows = {
        name: row for name, row in report.bus.items() if isinstance(row, dict) and name.endswith("/normal")
    }
    nissas = {name.split("/")[0]: row for name, row in rows.items() if "/nissa/" in name}
    assert {"system-state", "adaptation-command", "field-report", "telemetry"} <= set(nissas)
    for row in nissas.values():
        assert row["published"] == row["acked"]
        assert [row[kind] for kind in ("refused", "shed", "dropped", "pending")] == [0, 0, 0, 0]


@pytest.mark.real
def test_who_has_another_secret_is_told_so_and_who_has_none_that_nobody_checks(seen: Seen) -> None:
    assert seen.stranger.process.returncode == BAD_USAGE
    assert "signed with another secret; set ESPER_LEYLINE_SECRET" in seen.stranger.err
    assert seen.stranger.err.count("\n") == 1
    assert seen.unarmed.process.returncode == DONE
    assert "nobody checks that here" in seen.unarmed.out
    assert "parameters  host 338" in seen.unarmed.out


@pytest.mark.real
def test_neither_password_nor_secret_is_shown_or_left_anywhere(seen: Seen) -> None:
    texts = [child.out + child.err for child in vars(seen).values() if isinstance(child, Child)]
    texts += [file.read_bytes().decode("latin-1") for file in seen.folder.rglob("*") if file.is_file()]
    assert len(texts) > 10
    assert not any(PASSWORD in text or SECRET in text for text in texts)
    assert "redis://:***@127.0.0.1" in (seen.folder / "config.toml").read_text(encoding="utf-8")


@pytest.mark.real
def test_a_run_goes_on_without_its_redis_and_says_so_once(own_redis: RedisServer, tmp_path: Path) -> None:
    with stage(tmp_path) as scene:
        run = scene.run(own_redis.address)
        scene.training()
        observer = scene.observe(own_redis.address)
        observer.prints("\nepoch ")
        own_redis.kill()
        assert run.code() == DONE, run.err
        observer.prints("waiting for it to come back")
        observer.signal(signal.SIGINT)
        assert (observer.code(), observer.err) == (INTERRUPTED, "")
        report = read(scene.run_folder / "report.json")
    assert [facts.epoch for facts in report.epochs] == list(range(1, EPOCHS + 1))
    assert [alert.name for alert in report.alerts if alert.severity != "info"] == ["bus_lost"]
    assert run.out.count("the bus can't be reached") == 1
    assert report.final.test_accuracy is not None
    assert run.err == ""
    assert not (scene.run_folder / "esper.log").exists()


@pytest.mark.slow
@pytest.mark.parametrize("keep_data", [True, False])
def test_a_run_and_its_observer_find_back_to_a_redis_that_was_away(
    keep_data: bool, own_redis: RedisServer, tmp_path: Path
) -> None:
    with stage(tmp_path) as scene:
        run = scene.run(own_redis.address, "--epochs", "120")
        scene.training()
        observer = scene.observe(own_redis.address)
        observer.prints("\nepoch ")
        own_redis.kill()
        run.prints("the bus can't be reached")
        own_redis.restart(keep_data=keep_data)
        run.prints("the bus is back after")
        assert run.code() == DONE, run.err
        assert observer.code() == DONE, observer.err
        report = read(scene.run_folder / "report.json")
    (alert,) = [alert for alert in report.alerts if alert.name == "bus_lost"]
    assert alert.cleared_epoch is not None
    told = happenings(observer)
    assert told
    assert happenings(run)[-1] == told[-1], "what came after is seen by both"


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["kill", "pause"])
def test_ctrl_c_ends_a_run_quickly_without_its_redis(
    fault: str, own_redis: RedisServer, tmp_path: Path
) -> None:
    with stage(tmp_path) as scene:
        run = scene.run(own_redis.address, "--epochs", "5000")
        scene.training()
        own_redis.kill() if fault == "kill" else own_redis.pause()
        run.prints("the bus can't be reached")
        began_s = time.monotonic()
        run.signal(signal.SIGINT)
        assert run.code() == INTERRUPTED
        assert time.monotonic() - began_s < 60.0
        assert run.err == ""
        assert read(scene.run_folder / "report.json").ended.kind == "interrupted"
