"""The configuration's structs keep their promises by themselves."""

import msgspec
import pytest

from contracts.config import Config
from esper import schema


def test_every_default_keeps_its_own_bounds() -> None:
    for setting in schema.SETTINGS.values():
        assert setting.accepts(msgspec.to_builtins(setting.default)), setting.name


def test_a_configuration_survives_json() -> None:
    config = Config()
    assert msgspec.json.decode(msgspec.json.encode(config), type=Config) == config


@pytest.mark.parametrize("path", schema.SECTIONS)
def test_a_key_that_a_section_does_not_have_is_refused(path: tuple[str, ...]) -> None:
    table: dict[str, object] = {"no_such_key": 1}
    for key in reversed(path):
        table = {key: table}
    with pytest.raises(msgspec.ValidationError, match="no_such_key"):
        msgspec.convert(table, Config)


def test_every_setting_has_words_for_what_it_takes() -> None:
    for setting in schema.SETTINGS.values():
        assert schema.takes(msgspec.inspect.type_info(setting.annotation))
