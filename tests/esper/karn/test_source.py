"""Claims about blueprints of a user's own: how they are found, and found again by another process."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from contracts.growth import Layout
from contracts.kernels import Design
from esper.karn import guard
from esper.karn.blueprint import Blueprint
from esper.karn.blueprints.bottleneck import Bottleneck
from esper.karn.catalogue import CATALOGUE, Catalogue
from esper.karn.source import (
    NotImportable,
    Source,
    absolute,
    blueprint_at,
    gathered,
    own_in,
    source_of,
)
from tests.esper.karn.own import imports_forgotten, write_package, write_places

DESIGN = Design("BP051", Layout.VECTOR, (4,), 4)


@pytest.fixture(autouse=True)
def _forgetful() -> Iterator[None]:
    with imports_forgotten():
        yield


def works(blueprint: Blueprint) -> bool:
    module = blueprint.build(DESIGN.site, {}, torch.Generator())
    return bool(torch.equal(module(torch.ones(2, 4)), torch.zeros(2, 4)))


def test_a_file_gives_its_blueprints_wherever_it_is_named_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_places(tmp_path, "own_by_file")
    monkeypatch.chdir(tmp_path)
    (places,) = gathered([absolute(file.name)])
    assert absolute(file.name) == str(file)
    assert works(places)
    assert own_in(Catalogue((*CATALOGUE, places))) == (places,)


def test_a_module_gives_its_blueprints_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_package(tmp_path, "own_package")
    monkeypatch.syspath_prepend(tmp_path)
    assert absolute("own_package.places") == "own_package.places"
    (places,) = gathered(["own_package.places"])
    assert works(places)
    assert source_of(places).root == str(tmp_path)


def test_a_file_of_a_package_is_the_packages_module(tmp_path: Path) -> None:
    (places,) = gathered([str(write_package(tmp_path, "own_other"))])
    assert type(places).__module__ == "own_other.places"
    assert source_of(places) == Source(
        "own_other.places", "Places", str(tmp_path), str(tmp_path / "own_other" / "places.py")
    )


def test_what_has_a_source_is_found_there_again(tmp_path: Path) -> None:
    (places,) = gathered([str(write_places(tmp_path, "own_again"))])
    source = source_of(places)
    for name in ("own_again", "own_again_layers"):
        del sys.modules[name]
    sys.path.remove(source.root)
    again = blueprint_at(source)
    assert type(again) is not type(places)
    assert again.descriptor == places.descriptor
    assert works(again)


def test_blueprints_of_our_own_need_no_source() -> None:
    assert own_in(CATALOGUE) == ()
    assert blueprint_at(source_of(CATALOGUE.get("BP008"))).blueprint_id == "BP008"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("import no_such_thing_at_all", "can't be imported: ModuleNotFoundError: No module named"),
        ("raise SystemExit(3)", "can't be imported: SystemExit: 3"),
        ("def (", "can't be imported: SyntaxError"),
        ("answer = 42", "defines no blueprint"),
        ("from esper.karn.blueprints.bottleneck import Bottleneck", "defines no blueprint"),
    ],
)
def test_a_module_that_can_not_be_used_is_refused_with_the_reason(
    tmp_path: Path, content: str, told: str
) -> None:
    file = tmp_path / "own_useless.py"
    file.write_text(content)
    with pytest.raises(NotImportable, match=r"own_useless\.py") as refused:
        gathered([str(file)])
    assert told in str(refused.value)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotImportable, match="there is no file"):
        gathered([str(tmp_path / "own_absent.py")])
    with pytest.raises(NotImportable, match="there is no module 'own_absent'"):
        gathered(["own_absent"])


@pytest.mark.parametrize("raised", ["RuntimeError", "ValueError", "ImportError", "SystemExit", "KeyError"])
@pytest.mark.parametrize("place", ["own_raising", "own_raising.places"])
def test_a_package_that_raises_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: str, place: str
) -> None:
    write_package(tmp_path, "own_raising").with_name("__init__.py").write_text(f"raise {raised}('one\\ntwo')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(NotImportable, match=rf"own_raising.* can't be imported: {raised}: ") as refused:
        gathered([place])
    assert "\n" not in str(refused.value)


def test_what_a_package_lacks_is_not_the_place_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    init = write_package(tmp_path, "own_lacking").with_name("__init__.py")
    init.write_text("import no_such_thing_at_all")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(NotImportable, match="No module named 'no_such_thing_at_all'"):
        gathered(["own_lacking.places"])
    init.write_text("")
    with pytest.raises(NotImportable, match=r"there is no module 'own_lacking\.other'"):
        gathered(["own_lacking.other"])


@pytest.mark.parametrize("place", ["os", "sys", "os.path"])
def test_what_python_has_in_no_file_is_refused_and_searched_nowhere(place: str) -> None:
    path = list(sys.path)
    with pytest.raises(NotImportable, match=rf"{place} is a part of Python that is read from no file"):
        gathered([place])
    assert sys.path == path


def test_a_blueprint_with_two_names_is_one(tmp_path: Path) -> None:
    file = write_places(tmp_path, "own_alias")
    file.write_text(file.read_text() + "\n\nAlias = Places\n")
    assert len(gathered([str(file)])) == 1


def test_a_class_that_others_are_derived_from_is_passed_over(tmp_path: Path) -> None:
    file = write_places(tmp_path, "own_derived")
    source = file.read_text().replace("class Places(Blueprint):", "class Places(Base):")
    methods = source[source.index("    def _build") :]
    base = f"class Base(Blueprint):\n    def __init__(self, width=None):\n        pass\n\n{methods}\n\n"
    file.write_text(source.replace("class Places(Base):", f"{base}class Places(Base):"))
    (places,) = gathered([str(file)])
    assert [one.__name__ for one in type(places).__mro__[:2]] == ["Places", "Base"]
    file.write_text(file.read_text().split("class Places(Base):", maxsplit=1)[0])
    del sys.modules["own_derived"]
    with pytest.raises(NotImportable, match="defines no blueprint"):
        gathered([str(file)])


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("def __init__(self): raise RuntimeError('one\\ntwo')", "RuntimeError: one two"),
        ("def __init__(self): raise SystemExit(3)", "SystemExit: 3"),
        ("def __init__(self, width): pass", "TypeError: .*width"),
        ("descriptor = 'BP051'", "AttributeError: .*blueprint_id"),
    ],
)
def test_a_blueprint_that_can_not_be_made_is_refused_with_its_place(
    tmp_path: Path, lines: str, told: str
) -> None:
    file = write_places(tmp_path, "own_unmade")
    file.write_text(f"{file.read_text()}\n    {lines}\n")
    with pytest.raises(NotImportable, match=rf"Places of .*own_unmade\.py can't be made: {told}"):
        gathered([str(file)])


def test_a_name_that_stands_for_another_module_is_refused(tmp_path: Path) -> None:
    write_places(tmp_path, "colorsys").rename(tmp_path / "colorsys.py")
    with pytest.raises(NotImportable, match=r"colorsys is .* here; call it something else"):
        gathered([str(tmp_path / "colorsys.py")])


class Knobbed(Bottleneck):
    """With a value that its source does not say."""

    def __init__(self) -> None:
        self.depth = 3


class Outer:
    class Inner(Bottleneck):
        """Not to be had by its name alone."""


def test_what_no_other_process_finds_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotImportable, match=r"values of its own \(depth\)"):
        source_of(Knobbed())
    with pytest.raises(NotImportable, match="top level"):
        source_of(Outer.Inner())
    monkeypatch.setattr(Knobbed, "__module__", "__main__")
    with pytest.raises(NotImportable, match="put it in a module of its own"):
        source_of(Knobbed())


def test_what_a_blueprint_imports_of_its_own_counts_in_its_digest(tmp_path: Path) -> None:
    for file, names in (
        (write_places(tmp_path, "own_guarded"), {"own_guarded", "own_guarded_layers"}),
        (write_package(tmp_path, "own_deep"), {"own_deep.places", "own_deep.layers"}),
    ):
        (places,) = gathered([str(file)])
        files = guard._files(type(places))
        assert {name for name in files if name.startswith("own")} == names
        assert "esper.karn.blueprint" in files
        assert not any(name.startswith(("torch", "math", "contracts")) for name in files)


def test_what_a_packages_own_class_imports_from_above_counts_in_its_digest(tmp_path: Path) -> None:
    digests = set()
    for number, content in enumerate(("", "# another")):
        folder = tmp_path / str(number)
        folder.mkdir()
        package = write_package(folder, "own_above").parent
        (package / "sub").mkdir()
        source = (package / "places.py").read_text().replace("from .layers", "from own_above.layers")
        (package / "sub" / "__init__.py").write_text(source)
        with (package / "layers.py").open("a") as opened:
            opened.write(content)
        with imports_forgotten():
            (places,) = gathered([str(package / "sub" / "__init__.py")])
            assert type(places).__module__ == "own_above.sub"
            digests.add(guard.code_digest(type(places)))
    assert len(digests) == 2


def test_another_source_is_another_digest(tmp_path: Path) -> None:
    digests = set()
    for number, change in enumerate((None, "own_a.py", "own_a_layers.py")):
        folder = tmp_path / str(number)
        folder.mkdir()
        file = write_places(folder, "own_a")
        if change is not None:
            with (folder / change).open("a") as opened:
                opened.write("\n# another\n")
        with imports_forgotten():
            (places,) = gathered([str(file)])
            digests.add(guard.guard_digest(DESIGN, Catalogue([places])))
        guard._imports.cache_clear()
    assert len(digests) == 3
