"""The README's table names every setting with its default and its meaning."""

from esper import schema
from esper.report.configtable import config_table


def test_the_table_has_one_row_for_every_setting() -> None:
    rows = config_table().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == [setting.name for setting in schema.SETTINGS.values()]
    assert all(row.count(" | ") == 3 for row in rows)


def test_a_row_says_default_what_it_takes_and_the_docstring() -> None:
    assert (
        "| `train.epoch_steps` | `40` | a whole number of at least 1 "
        "| Optimizer steps from one boundary to the next. |"
    ) in config_table()
