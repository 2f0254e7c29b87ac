"""No damaged checkpoint is taken for a good one: each is named, and the one before it is loaded."""

import random
from collections.abc import Callable

import pytest

from esper.checkpoint.store import FOLDER, CheckpointStore
from tests.esper.checkpoint.crashing import RUN, Content, DiskFiles, Folder, a_disk
from tests.esper.checkpoint.world import a_checkpoint, same

OLD, NEW = "00000001", "00000002"
MANIFEST, TENSORS = f"{NEW}.json", f"{NEW}.safetensors"
ALL = (MANIFEST, TENSORS, f"{OLD}.json", f"{OLD}.safetensors")
PAGE_BYTES = 512

Contents = dict[str, bytes]
"""Of every file, by name."""
Damage = Callable[[random.Random, Contents], str]
"""Spoils a file and says which."""


def flipped(draw: random.Random, files: Contents) -> str:
    """A few bits are others."""
    name = draw.choice(ALL[:2])
    content = bytearray(files[name])
    for _ in range(draw.choice((1, 1, 1, 2, 8))):
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    files[name] = bytes(content)
    return name


def cut_off(draw: random.Random, files: Contents) -> str:
    name = draw.choice(ALL[:2])
    files[name] = files[name][: draw.randrange(len(files[name]))]
    return name


def zeroed(draw: random.Random, files: Contents) -> str:
    """A page, or all from one on, never arrived."""
    name = draw.choice(ALL[:2])
    content = files[name]
    begin = draw.randrange(0, len(content), PAGE_BYTES)
    end = draw.choice((min(begin + PAGE_BYTES, len(content)), len(content)))
    files[name] = content[:begin] + bytes(end - begin) + content[end:]
    return name


def appended(draw: random.Random, files: Contents) -> str:
    name = draw.choice(ALL[:2])
    files[name] += draw.choice((b"\0", b"\n", b" ", draw.randbytes(8), files[name]))
    return name


def moved(draw: random.Random, files: Contents) -> str:
    """Some bytes went missing, came twice, or came in another order."""
    name = draw.choice(ALL[:2])
    content = files[name]
    one, two, three = sorted(draw.sample(range(len(content) + 1), 3))
    files[name] = draw.choice(
        (
            content[:one] + content[two:],
            content[:two] + content[one:],
            content[:one] + content[two:three] + content[one:two] + content[three:],
        )
    )
    return name


def swapped(draw: random.Random, files: Contents) -> str:
    """A file has another one's content, or both have the other's."""
    name, other = draw.choice(ALL[:2]), draw.choice(ALL)
    both = draw.random() < 0.5
    files[name], files[other] = files[other], files[name] if both else files[other]
    return name


def of_another(draw: random.Random, files: Contents) -> str:
    """Both files are the old checkpoint's, whole."""
    for name in ALL[:2]:
        files[name] = files[name.replace(NEW, OLD)]
    return MANIFEST


def gone(draw: random.Random, files: Contents) -> str:
    del files[TENSORS]
    return TENSORS


DAMAGES: tuple[Damage, ...] = (
    flipped, flipped, flipped, cut_off, cut_off, zeroed, appended, moved, moved, swapped, of_another, gone
)  # fmt: skip


def accepted_wrongly(count: int, seed: int) -> dict[str, int]:
    """Damage so many times; how often each damage was done. Whatever is taken is what was saved."""
    draw, done = random.Random(seed), dict.fromkeys((damage.__name__ for damage in DAMAGES), 0)
    sound, size = saved()
    while sum(done.values()) < count:
        damage, files = draw.choice(DAMAGES), dict(sound)
        name = damage(draw, files)
        if all(files.get(one) == sound[one] for one in ALL[:2]):
            continue  # it was zeros before, or the same twice
        done[damage.__name__] += 1
        store = CheckpointStore(RUN, 2, DiskFiles(disk_with(files)))
        found = store.newest()
        told = found.passed_over[0] if found.passed_over else ""
        assert told.startswith("checkpoint 2 is passed over: "), (damage.__name__, name, told)
        assert MANIFEST in told or TENSORS in told
        old = a_checkpoint(0, size=size) if all(files[one] == sound[one] for one in ALL[2:]) else None
        assert same(found.checkpoint, old), damage.__name__
        assert len(found.passed_over) == (1 if old else 2)
    return done


def saved() -> tuple[Contents, int]:
    """The files of two checkpoints of a few pages each, and how many values one tensor has."""
    size = 300
    files = DiskFiles(a_disk())
    store = CheckpointStore(RUN, 2, files)
    for epoch in range(2):
        store.save(a_checkpoint(epoch, size=size))
    names = files.names(RUN / FOLDER)
    assert set(names) == set(ALL)
    return {name: bytes(files.read(RUN / FOLDER / name, 1 << 20)) for name in names}, size


def disk_with(files: Contents) -> Folder:
    inside = Folder({name: Content(content) for name, content in files.items()})
    return Folder({RUN.parent.name: Folder({RUN.name: Folder({FOLDER: inside})})})


def test_no_damaged_file_is_accepted() -> None:
    done = accepted_wrongly(500, seed=1)
    assert all(done.values()), "each damage was done"


@pytest.mark.slow
def test_none_of_ten_thousand_damaged_files_is_accepted(capsys: pytest.CaptureFixture[str]) -> None:
    done = accepted_wrongly(10_000, seed=2)
    with capsys.disabled():
        print(f"\ndamaged files: {sum(done.values()):,}, accepted: 0 ({done})")
    assert sum(done.values()) == 10_000
