"""The arrows between the packages hold, and the contracts that keep them cover all there is."""

import ast
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CONTRACTS: dict[str, dict[str, Any]] = {
    contract["name"].split()[0]: contract for contract in PROJECT["tool"]["importlinter"]["contracts"]
}
"""By the first word of the name."""
PACKAGES = ("contracts", "esper", "actors", "bench")
WIRING = {"run", "session"}
"""The modules of esper that look up."""


def imported(package: str) -> Iterator[tuple[Path, str]]:
    """Every file of a package with the top-level name of each module that it imports."""
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from ((path, alias.name.split(".")[0]) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.module is not None, f"{path}: imports are absolute"
                yield path, node.module.split(".")[0]


def test_contracts_imports_msgspec_and_the_standard_library_only_and_its_codec_protobuf() -> None:
    allowed = {"contracts", "msgspec", *sys.stdlib_module_names}
    others = [(path, name) for path, name in imported("contracts") if name not in allowed]
    assert {name for _, name in others} == {"google", "grpc_tools"}
    assert [path for path, _ in others if path.parent != ROOT / "contracts" / "leyline"] == []
    assert {path.name for path, name in others if name == "grpc_tools"} == {"generate.py"}


def test_what_the_project_installs_is_forbidden_to_contracts_by_name() -> None:
    wanted = {Requirement(line).name for line in PROJECT["project"]["dependencies"]} - {"msgspec"}
    given = {
        name
        for name, distributions in packages_distributions().items()
        if wanted & {distribution.lower().replace("_", "-") for distribution in distributions}
        and name.isidentifier()
        and not name.startswith("_")
    }
    assert {"torch", "tomli_w", "opentelemetry"} <= given, "the names were found"
    own = {"torchgen", "functorch"}  # torch brings these along
    assert given - own <= set(CONTRACTS["contracts"]["forbidden_modules"])


def test_the_contract_on_the_wiring_names_every_module_of_esper() -> None:
    modules = {
        path.stem
        for path in (ROOT / "esper").iterdir()
        if (path.suffix == ".py" and path.stem != "__init__") or (path / "__init__.py").exists()
    }
    named = {f"esper.{name}" for name in modules - WIRING} | {"contracts", "actors"}
    contract = CONTRACTS["the"]
    assert set(contract["source_modules"]) == named
    assert set(contract["forbidden_modules"]) == {f"esper.{name}" for name in WIRING}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The packages and their contracts, to be broken."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint(folder: Path) -> tuple[int, str]:
    """Exit code of `lint-imports` and all that it printed."""
    script = Path(sys.executable).with_name("lint-imports")
    made = subprocess.run([script, "--no-cache"], cwd=folder, capture_output=True, text=True, timeout=60.0)
    return made.returncode, made.stdout + made.stderr


def test_the_arrows_hold(copy: Path) -> None:
    code, told = lint(copy)
    assert code == 0, told


FORBIDDEN = (
    ("contracts/config.py", "import torch", "contracts.config -> torch"),
    ("contracts/config.py", "import threading", "contracts.config -> threading"),
    ("esper/kasmina/slot.py", "import asyncio", "esper.kasmina.slot -> asyncio"),
    ("esper/kasmina/slot.py", "from http.server import HTTPServer", "esper.kasmina.slot -> http"),
    ("esper/kasmina/slot.py", "from rich.text import Text", "esper.kasmina.slot -> rich"),
    ("esper/kasmina/slot.py", "import actors.lane", "esper.kasmina.slot -> actors.lane"),
    ("esper/kasmina/slot.py", "import esper.session", "esper.kasmina.slot -> esper.session"),
    ("actors/lane.py", "import bench.measure", "actors.lane -> bench.measure"),
    ("actors/lane.py", "import tests.hosts", "actors.lane -> tests"),
)
"""A file, a statement that it may not hold, and how `lint-imports` names it."""


def add(folder: Path, file: str, statement: str) -> None:
    with (folder / file).open("a", encoding="utf-8") as source:
        source.write(f"\n{statement}\n")


def test_every_forbidden_import_is_found_and_named(copy: Path) -> None:
    for file, statement, _ in FORBIDDEN:
        add(copy, file, statement)
    code, told = lint(copy)
    assert code == 1
    said = " ".join(told.split())
    assert [named for _, _, named in FORBIDDEN if named not in said] == []


@pytest.mark.slow
@pytest.mark.parametrize(("file", "statement", "named"), FORBIDDEN)
def test_one_forbidden_import_is_enough(copy: Path, file: str, statement: str, named: str) -> None:
    add(copy, file, statement)
    code, told = lint(copy)
    assert code == 1
    assert named in " ".join(told.split())
