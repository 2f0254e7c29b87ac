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


@pytest.mark.parametrize(
    ("line", "file", "named"),
    [
        ("import a.b as c, d", "places.py", ("a.b", "d")),
        ("from a.b import c", "places.py", ("a.b", "a.b.c")),
        ("from . import c", "places.py", ("top.inner", "top.inner.c")),
        ("from ..b import c", "places.py", ("top.b", "top.b.c")),
        ("from .b import c", "__init__.py", ("top.inner.places.b", "top.inner.places.b.c")),
        ("def f():\n    from a import b", "places.py", ("a", "a.b")),
    ],
)
def test_imports_are_named_in_full(tmp_path: Path, line: str, file: str, named: tuple[str, ...]) -> None:
    path = tmp_path / file
    path.write_text(line)
    assert guard._imports("top.inner.places", path) == named


def test_what_somebody_else_looks_after_does_not_count(tmp_path: Path) -> None:
    installed = tmp_path / "site-packages"
    installed.mkdir()
    lone, beside = installed / "lone_blueprint.py", tmp_path / "own_blueprint.py"
    assert guard._home("lone_blueprint", lone) is None, "nor what lies beside it"
    assert guard._home("own_blueprint", beside) == tmp_path
    assert guard._home("own.deep.blueprint", tmp_path / "own" / "deep" / "blueprint.py") == tmp_path / "own"
    assert guard._home("own.deep", tmp_path / "own" / "deep" / "__init__.py") == tmp_path / "own"
    assert guard._home("own", tmp_path / "own" / "__init__.py") == tmp_path / "own"
    assert guard._home("esper.karn.layers", tmp_path / "layers.py") is None
    homes = {"own_blueprint": tmp_path}
    assert guard._is_at_home(tmp_path / "beside.py", homes)
    assert not guard._is_at_home(installed / "other.py", homes)
    assert not guard._is_at_home(tmp_path.parent / "above.py", homes)
    assert not guard._is_at_home(None, homes)
    assert not guard._counts("torch.nn", homes)


def test_what_is_imported_is_found_without_running_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    for folder in ("unrun", "unrun/inner", "unmarked/inner"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "module.py").touch()
    for folder in ("unrun", "unrun/inner"):
        (tmp_path / folder / "__init__.py").write_text("raise RuntimeError('it was run')")
    found = {
        "unrun": "unrun/__init__.py",
        "unrun.module": "unrun/module.py",
        "unrun.inner": "unrun/inner/__init__.py",
        "unrun.inner.module": "unrun/inner/module.py",
        "unmarked.inner.module": "unmarked/inner/module.py",
    }
    assert {name: guard._origin(name) for name in found} == {
        name: tmp_path / file for name, file in found.items()
    }
    for name in (
        "unrun.module.inner",
        "unrun.other",
        "unmarked",
        "unmarked.inner",
        "",
        ".unrun",
        "sys.inner",
    ):
        assert guard._origin(name) is None
    assert not {"unrun", "unmarked"} & {name.partition(".")[0] for name in sys.modules}


def test_what_another_s_finder_fails_at_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing:
        def find_spec(self, name: str, path: object, target: object = None) -> None:
            raise RuntimeError(name)

    monkeypatch.setattr(sys, "meta_path", [Failing()])
    assert guard._origin("no_such_thing_at_all") is None


@pytest.mark.parametrize(
    "content", [b"def (", b"\0", b"# coding: nonsense", b"x = " + b"(" * 300 + b")" * 300]
)
def test_what_counts_but_is_no_python_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    source = f"{SOURCE}    def ask(self):\n        import guarded_broken\n"
    blueprint = own(tmp_path, "guarded_asking", source)
    (tmp_path / "guarded_broken.py").write_bytes(content)
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(tmp_path)
        with pytest.raises(
            BlueprintError, match=r"guarded_broken\.py counts with a blueprint, but is no Python"
        ):
            code_digest(blueprint)
        (tmp_path / "guarded_broken.py").write_text("answer = 42")
        assert len(code_digest(blueprint)) == 64


def test_a_file_that_can_not_be_read_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BlueprintError, match=r"gone\.py counts with a blueprint, but can't be read: No such"):
        guard._content(tmp_path / "gone.py")
