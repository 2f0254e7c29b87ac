"""Claims about a run's log."""

import io
import logging
from pathlib import Path

import pytest

from esper.log import FILE, logging_in_lines, logging_to


def test_warnings_go_to_the_file_and_nowhere_else(tmp_path: Path, caplog: object) -> None:
    with logging_to(tmp_path):
        logging.getLogger("actors.runtime.supervisor").warning("tamiyo failed")
        logging.getLogger("actors.runtime.supervisor").info("all is well")
    written = (tmp_path / FILE).read_text()
    assert "tamiyo failed" in written
    assert "all is well" not in written


def test_without_a_warning_there_is_no_file(tmp_path: Path) -> None:
    with logging_to(tmp_path):
        pass
    assert not (tmp_path / FILE).exists()


def test_afterwards_logging_is_as_before(tmp_path: Path) -> None:
    logger = logging.getLogger("actors")
    before = (logger.propagate, list(logger.handlers))
    with logging_to(tmp_path):
        assert logger.propagate is False
    assert (logger.propagate, logger.handlers) == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full disk")
def test_a_full_disk_costs_lines_and_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / FILE).symlink_to("/dev/full")
    with logging_to(tmp_path):
        logging.getLogger("actors").warning("tamiyo failed")
    assert capsys.readouterr().err == ""


def test_in_lines_a_warning_says_its_error_and_no_stack() -> None:
    out = io.StringIO()
    logger = logging.getLogger("esper.tolaria.rescue")
    with logging_in_lines(out):
        logger.warning("the epoch is trained again", exc_info=ValueError("the loss is not finite"))
        logger.warning("all of it")
        logger.info("nothing")
    assert out.getvalue() == "the epoch is trained again: the loss is not finite\nall of it\n"
