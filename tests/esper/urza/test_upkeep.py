"""After damage to the catalogue, beside other processes, and over other file systems."""

import os
import signal
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from esper.urza.errors import Damaged, Missing, Unavailable
from esper.urza.ledger import FILE, Ledger, set_aside
from esper.urza.library import Library
from tests.esper.urza.world import a_certificate, a_spec, file_of, its_weights, published

ROOT = Path(__file__).parents[3]


def scribbled(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[200:3000] = bytes(2800)
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def not_a_database(path: Path) -> None:
    path.write_bytes(b"not a database at all" * 500)


def a_folder(path: Path) -> None:
    path.unlink()
    (path / "inner").mkdir(parents=True)


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def a_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def a_pipe_for_a_journal(path: Path) -> None:
    os.mkfifo(path.with_name(f"{path.name}-wal"))


def changed(*statements: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        connection = sqlite3.connect(path)
        with connection:
            for statement in statements:
                connection.execute(statement)
        connection.close()

    return change


OTHERWISE = changed("ALTER TABLE work ADD COLUMN more TEXT")
NEWER = changed("PRAGMA user_version = 7")
A_TRIGGER = changed("CREATE TRIGGER t AFTER INSERT ON work BEGIN DELETE FROM artifacts; END")
A_VIEW = changed("DROP TABLE tags", "CREATE VIEW tags AS SELECT ref, kind AS tag FROM artifacts")


@pytest.mark.parametrize(
    "spoil",
    [
        scribbled,
        cut_short,
        not_a_database,
        a_folder,
        a_pipe,
        a_link,
        a_pipe_for_a_journal,
        OTHERWISE,
        NEWER,
        A_TRIGGER,
        A_VIEW,
    ],
)
def test_a_damaged_catalogue_is_set_aside_and_made_anew_from_the_files(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    with Library(tmp_path) as library:
        refs = [published(library, a_spec(draw), b"program") for draw in (1, 2)]
        broken = published(library, a_spec(3))
    file_of(tmp_path, broken).write_bytes(b"broken")
    spoil(tmp_path / FILE)
    with Library(tmp_path) as library:
        assert f"{FILE}.damaged-1" in library.rebuilt
        assert os.path.lexists(tmp_path / f"{FILE}.damaged-1")
        assert library.taken_in == 4
        assert [library.fetch(a_spec(draw)).ref for draw in (1, 2)] == refs
        assert library.program(refs[0].ref) == b"program"
        assert library.certificate(a_spec(1).design) == a_certificate(a_spec(1))
        assert library.find(a_spec(3)) is None
        assert library.stats().quarantined == 1
    with Library(tmp_path) as library:
        assert library.rebuilt == ""
        assert library.taken_in == 0


def test_a_lost_catalogue_is_made_anew_and_programs_without_our_seal_are_not_taken_in(tmp_path: Path) -> None:
    with Library(tmp_path) as library:
        ref = published(library, a_spec(1), b"program")
    for file in tmp_path.glob(f"{FILE}*"):
        file.unlink()
    (tmp_path / "seal.key").write_bytes(os.urandom(32))
    with Library(tmp_path) as library:
        assert library.taken_in == 1
        assert library.fetch(a_spec(1)).ref == ref
        with pytest.raises(Missing):
            library.program(ref.ref)


def test_damaged_catalogues_do_not_pile_up(tmp_path: Path) -> None:
    for _ in range(6):
        Library(tmp_path).close()
        not_a_database(tmp_path / FILE)
    assert len(list(tmp_path.glob(f"{FILE}.damaged-?"))) == 3


def test_rows_that_make_no_sense_are_passed_over(tmp_path: Path) -> None:
    with Library(tmp_path) as library:
        library.want(a_spec(1))
        library.failed(a_spec(1, design=1), "no", final=True)
        published(library, a_spec(2))
        ledger = Ledger(tmp_path / FILE)
        for text in ("nonsense", '{"design":' + "[" * 5_000, '{"design":null,"draw":0}', "\ud7ff"):
            ledger.run("INSERT INTO work VALUES (?, '', ?, 0, 0, '')", uuid.uuid4().hex, text)
            ledger.run("INSERT INTO given_up VALUES (?, ?, '', '')", uuid.uuid4().hex, text)
        ledger.run("UPDATE designs SET certificate = '[]'")
        ledger.close()
        assert library.wanted() == (a_spec(1),)
        assert list(library.given_up()) == [a_spec(1, design=1).design.key]
        assert library.certificate(a_spec(2).design) is None


def test_two_users_of_a_store_see_what_the_other_publishes_and_wants(tmp_path: Path) -> None:
    with Library(tmp_path) as one, Library(tmp_path) as two:
        one.want(a_spec(1))
        assert two.wanted() == (a_spec(1),)
        ref = published(two, a_spec(1))
        assert published(one, a_spec(1)) == ref
        assert one.wanted() == ()
        assert one.fetch(a_spec(1)).ref == two.fetch(a_spec(1)).ref == ref
        two.hold(ref.ref, "run")
        one.let_go(ref.ref, "run")
        one.limit_bytes = 0
        one.collect()
        assert two.find(a_spec(1)) == ref, "only who holds lets go"


def test_what_was_just_published_stays_in_a_store_that_is_full_of_what_is_held(tmp_path: Path) -> None:
    with Library(tmp_path) as library:
        held = [published(library, a_spec(draw)) for draw in (1, 2)]
        for ref in held:
            library.hold(ref.ref, "run")
        library.limit_bytes = library.stats().bytes
        new = published(library, a_spec(3))
        assert library.fetch(a_spec(3)).ref == new
        newer = published(library, a_spec(4))
        assert library.find(a_spec(3)) is None, "only the newest, and what is held, are above the limit"
        assert [library.find(a_spec(draw)) for draw in (1, 2, 4)] == [*held, newer]


def test_a_user_goes_on_with_the_catalogue_that_another_has_made_anew(tmp_path: Path) -> None:
    with Library(tmp_path) as one:
        ref = published(one, a_spec(1))
        set_aside(tmp_path / FILE)
        with Library(tmp_path) as two:
            assert two.taken_in == 1
            published(one, a_spec(2))
            assert two.find(a_spec(2)) == one.find(a_spec(2)) is not None
            assert one.find(a_spec(1)) == two.find(a_spec(1)) == ref


HOLDER = """
import sys
from pathlib import Path
from esper.urza.ledger import FILE, Ledger
from esper.urza.presence import Presence
from esper.urza.records import Records
folder = Path(sys.argv[1])
presence, ledger = Presence(folder), Ledger(folder / FILE)
with ledger.transaction():
    Records(ledger).hold(sys.argv[2], "a run", presence.user)
(folder / "staged" / f"{presence.user}-1").write_bytes(b"half")
print("held", flush=True)
sys.stdin.read()
"""


def test_what_another_process_holds_stays_until_that_process_is_gone(tmp_path: Path) -> None:
    with Library(tmp_path) as library:
        ref = published(library, a_spec(1))
        with subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(tmp_path), ref.ref],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as other:  # fmt: skip
            assert other.stdout is not None
            assert other.stdout.readline() == "held\n"
            library.limit_bytes = 0
            assert library.collect() == (0, 0, ref.size, 0)
            Library(tmp_path).close()
            assert len(list(tmp_path.glob("staged/*"))) == 1, "it may still be at it"
            os.kill(other.pid, signal.SIGKILL)
        assert library.collect() == (1, ref.size, 0, 1)
        Library(tmp_path).close()
        assert list(tmp_path.glob("staged/*")) == []
        assert len(list(tmp_path.glob("users/*"))) == 1, "our own"


PUBLISHER = """
import sys
from pathlib import Path
from esper.urza.library import Library
from tests.esper.urza.world import a_spec, published
with Library(Path(sys.argv[1])) as library:
    for draw in range(int(sys.argv[2])):
        published(library, a_spec(draw))
        library.fetch(a_spec(draw))
        print(draw, flush=True)
"""


def publisher(folder: Path, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PUBLISHER, str(folder), str(count)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_processes_that_publish_the_same_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    with publisher(tmp_path, 60) as one, publisher(tmp_path, 60) as two:
        codes = [process.wait(timeout=100) for process in (one, two)]
    assert codes == [0, 0]
    with Library(tmp_path) as library:
        assert library.stats().kernels == 60
        assert library.stats().quarantined == library.taken_in == 0
        assert len(list(tmp_path.glob("objects/*/*"))) == 60


@pytest.mark.slow
@pytest.mark.parametrize("kill", range(4))
def test_what_a_killed_process_has_published_is_there(tmp_path: Path, kill: int) -> None:
    told = []
    with publisher(tmp_path, 10_000) as process:
        assert process.stdout is not None
        for line in process.stdout:
            told.append(int(line))
            if len(told) == 3 + 5 * kill:
                os.kill(process.pid, signal.SIGKILL)
    with Library(tmp_path) as library:
        for draw in told:
            library.fetch(a_spec(draw))
        assert library.stats().kernels <= len(told) + 1
        assert library.stats().quarantined == 0


def test_a_library_is_not_opened_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Unavailable):
        Library(tmp_path / "file" / "store")
    with pytest.raises(Unavailable, match="no address"):
        Library(tmp_path, objects="nosuchthing://somewhere")


@pytest.fixture(params=["memory", "local", "dir"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where the files lie, beside the catalogue or far from it."""
    return {
        "memory": f"memory://{uuid.uuid4().hex}",
        "local": f"file://{tmp_path / 'elsewhere'}",
        "dir": f"dir::memory://{uuid.uuid4().hex}",
    }[request.param]


def test_a_store_behind_an_address_keeps_the_same_promises(tmp_path: Path, address: str) -> None:
    folder = tmp_path / "store"
    with Library(folder, objects=address) as library:
        ref = published(library, a_spec(1), b"program")
        published(library, a_spec(2))
        assert library.program(ref.ref) == b"program"
        library.fetch(a_spec(1))
        assert not (folder / "objects").exists()
    (folder / FILE).write_bytes(b"spoilt" * 1000)
    with Library(folder, objects=address) as library:
        assert library.taken_in == 3
        assert library.fetch(a_spec(1)).ref == ref
        content = bytes(library._objects.read(ref.ref, 10_000))
        library._objects.place(library._objects.stage(content[:-1] + b"x"), ref.ref)
        with pytest.raises(Damaged):
            library.fetch(a_spec(1))
        assert library.wanted() == (a_spec(1),)
        assert published(library, a_spec(1)) == ref
        library._objects.remove(ref.ref)
        with pytest.raises(Damaged, match="missing"):
            library.fetch(a_spec(1))
        published(library, a_spec(1))
        library._objects.place(library._objects.stage(b"a stray"), "0" * 64 + ".kernel")
        library._objects.stage(b"left over")
        assert library._objects.sweep(lambda user: True) == 0
        assert library._objects.sweep(lambda user: False) == 1
        library.limit_bytes = 0
        assert library.collect().bytes == 0
    with Library(folder, objects=address) as library:
        assert library.stats().kernels == library.taken_in == 0
        assert library._objects.names() == []
        assert library.publish(a_spec(2), a_certificate(a_spec(2)), its_weights(a_spec(2)))
