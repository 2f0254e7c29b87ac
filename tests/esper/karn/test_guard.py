"""Claims about what a certificate assumes."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from msgspec.structs import replace

from contracts.growth import Layout
from contracts.kernels import Design
from esper.karn import guard
from esper.karn.blueprint import Blueprint, BlueprintError
from esper.karn.blueprints.bottleneck import Bottleneck
from esper.karn.blueprints.dilated_convolution import DilatedConvolution
from esper.karn.catalogue import CATALOGUE, Catalogue, UnknownBlueprint
from esper.karn.guard import code_digest, guard_digest

DESIGN = Design("BP008", Layout.VECTOR, (4,), 4, {"width": 3.0})


def test_equal_designs_have_equal_digests_and_others_do_not() -> None:
    digests = {
        guard_digest(DESIGN),
        guard_digest(replace(DESIGN, parameters={"width": 4.0})),
        guard_digest(replace(DESIGN, shape=(5,), channels=5)),
        guard_digest(replace(DESIGN, blueprint_id="BP004")),
    }
    assert len(digests) == 4
    assert guard_digest(replace(DESIGN)) in digests
    assert all(len(digest) == 64 for digest in digests)


def test_another_version_below_is_another_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    before = guard_digest(DESIGN)
    assert set(guard.guarded_versions()) == {"esper-grow", "torch"}
    monkeypatch.setattr(guard, "guarded_versions", lambda: {"esper-grow": "0.1", "torch": "1.0"})
    assert guard_digest(DESIGN) != before


def test_every_blueprint_of_the_catalogue_has_a_digest_of_its_own() -> None:
    digests = {code_digest(type(blueprint)) for blueprint in CATALOGUE}
    assert len(digests) == len(CATALOGUE)


def test_an_unknown_blueprint_has_none() -> None:
    with pytest.raises(UnknownBlueprint):
        guard_digest(replace(DESIGN, blueprint_id="BP999"))


SOURCE = """
from esper.karn.blueprints.bottleneck import Bottleneck
import esper.karn.layers

class Own(Bottleneck):
    \"\"\"One's own.\"\"\"
"""


def module_of(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)
    return module


def own(tmp_path: Path, name: str, source: str) -> type[Blueprint]:
    file = tmp_path / f"{name}.py"
    file.write_text(source, encoding="utf-8")
    made: type[Blueprint] = module_of(file).Own
    return made


def test_a_change_in_a_blueprints_own_file_is_another_digest(tmp_path: Path) -> None:
    first = own(tmp_path, "guarded_first", SOURCE)
    second = own(tmp_path, "guarded_second", SOURCE)
    changed = own(tmp_path, "guarded_third", SOURCE.replace("One's own", "Another"))
    names = {name.replace("guarded_second", "guarded_first") for name in guard._files(second)}
    assert names == set(guard._files(first))
    assert {"esper.karn.layers", "esper.karn.blueprint", "esper.karn.blueprints.bottleneck"} < names
    assert len({code_digest(first), code_digest(second), code_digest(changed)}) == 3
    catalogue = Catalogue([first()])
    assert guard_digest(DESIGN, catalogue) != guard_digest(DESIGN), "another class under the same id"


def test_the_layers_and_the_blueprint_that_one_is_derived_from_count_too() -> None:
    files = guard._files(DilatedConvolution)
    assert {"esper.karn.layers", "esper.karn.blueprints.convolution"} < set(files)
    assert "esper.karn.blueprints.bottleneck" not in files


def test_a_blueprint_that_is_in_no_file_is_refused() -> None:
    made = type("Made", (Bottleneck,), {"__module__": "nowhere"})
    with pytest.raises(BlueprintError, match="put it in one"):
        code_digest(made)
