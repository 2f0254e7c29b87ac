"""Processes' folders go with their owners, however these end."""

import subprocess
import sys
from pathlib import Path

import pytest

from actors.tezzeret.scratch import Scratch, tidy

OWNER = """
import sys, time
from pathlib import Path
from actors.tezzeret.scratch import Scratch
print(Scratch(Path(sys.argv[1])).path, flush=True)
time.sleep(600)
"""


def test_what_a_killed_process_leaves_is_removed_and_what_has_an_owner_stays(tmp_path: Path) -> None:
    mine = Scratch(tmp_path)
    (mine.path / "kept").write_text("in use")
    command = [sys.executable, "-c", OWNER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        theirs = Path(owner.stdout.readline().strip())
        (theirs / "weights").write_text("half-written")
        tidy(tmp_path)
        assert theirs.is_dir(), "its owner lives"
        owner.kill()
    tidy(tmp_path)
    assert not theirs.exists()
    assert (mine.path / "kept").read_text() == "in use"
    mine.remove()
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_folder_is_left_alone_and_no_link_is_followed(tmp_path: Path) -> None:
    elsewhere, scratch = tmp_path / "elsewhere", tmp_path / "scratch"
    elsewhere.mkdir()
    (elsewhere / "canary").write_text("alive")
    scratch.mkdir()
    (scratch / "link").symlink_to(elsewhere)
    (scratch / "file").write_text("whose?")
    tidy(scratch)
    assert (elsewhere / "canary").read_text() == "alive"
    assert sorted(one.name for one in scratch.iterdir()) == ["file", "link"]
    (tmp_path / "way").symlink_to(elsewhere)
    tidy(tmp_path / "way")
    with pytest.raises(OSError, match="way"):
        Scratch(tmp_path / "way")
    assert list(elsewhere.iterdir()) == [elsewhere / "canary"]


def test_to_tidy_where_there_was_never_anything_makes_nothing(tmp_path: Path) -> None:
    tidy(tmp_path / "scratch")
    assert list(tmp_path.iterdir()) == []
