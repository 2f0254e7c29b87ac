"""What the README says is true: its tables are generated, its files exist, its examples run."""

import re
from pathlib import Path

import pytest
import torch

from actors.nissa.instruments import metrics_table
from contracts.growth import Layout, SiteInfo
from contracts.lifecycle import diagram
from contracts.report import KernelFacts
from contracts.view import RunFacts
from esper.karn.catalogue import CATALOGUE, Catalogue
from esper.karn.query import Query
from esper.report.configtable import config_table
from esper.report.headline import kernels
from esper.report.oneline import opening
from esper.report.screen import summary
from esper.session import Grown
from tests.esper.report.made_up import a_report

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def section(name: str) -> str:
    """The text between the marks of a generated section."""
    return README.split(f"<!-- {name} -->\n")[1].split(f"<!-- /{name} -->")[0]


def test_the_configuration_table_is_the_configurations() -> None:
    assert section("configuration") == config_table()


def test_the_metrics_table_is_the_instruments() -> None:
    assert section("metrics") == metrics_table()


def test_the_lifecycle_diagram_is_the_tables() -> None:
    assert section("lifecycle") == f"```mermaid\n{diagram().rstrip()}\n```\n"


def test_every_file_that_is_named_exists() -> None:
    named = set(re.findall(r"`((?:contracts|esper|actors|bench|tests)/[\w./]*)`", README))
    assert len(named) > 30
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"`?make (?:\w+=\S+ )*(\w+)", README)) <= targets


def test_the_demo_is_shown_as_a_run_prints_it() -> None:
    printed = section("demo").split("```")[1].strip().splitlines()
    folder = printed[-1].removeprefix("report  ").removesuffix("/report.html")
    facts = RunFacts("mnist1d", "heuristic", 0, "runs", budget_flops=12 * 10**9, folder=folder)
    assert printed[0] == f"Esper  {opening(facts)}"
    summed_up = [line.plain for line in summary(a_report(), folder)]
    for line in printed:
        if line.startswith(("  ", "seed ", "report ")):
            assert line in summed_up
        if line.startswith("kernels "):
            used, fetched = (int(re.findall(r"\d+", line)[n]) for n in (0, -1))
            assert line == f"kernels {kernels(KernelFacts(used=used, fetched=fetched))}"
        if line.startswith("epoch ") and "  probe  " not in line:
            assert re.fullmatch(r"epoch \d+  (\w+)  .* \(\d+ parameters\) at relu\d#\d: \1( \(.*\))?", line)


@pytest.mark.real
def test_the_examples_of_a_model_of_ones_own_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("esper.session._pipeline", lambda job, parts: None)
    shared: dict[str, object] = {}
    for example in PYTHON[:2]:
        exec(compile(example, "README.md", "exec"), shared)
    grown, same, points = shared["grown"], shared["same"], shared["points"]
    assert isinstance(grown, Grown)
    assert isinstance(same, torch.nn.Module)
    assert grown.report.final.params > grown.report.host.params
    assert torch.equal(same.eval()(points), grown.model.eval()(points))


def test_the_example_blueprint_keeps_what_every_blueprint_promises() -> None:
    shared: dict[str, object] = {}
    exec(compile(PYTHON[2], "README.md", "exec"), shared)
    blueprint = shared["Places"]()  # type: ignore[operator]
    assert len(Catalogue((*CATALOGUE, blueprint))) == len(CATALOGUE) + 1
    site = SiteInfo("relu1", Layout.SEQUENCE, (4, 19), 4, 0)
    offered = Catalogue((*CATALOGUE, blueprint)).query(Query(site=site, max_params=76, max_stage=1))
    assert blueprint in offered
    module = blueprint.build(site, {}, torch.Generator())
    assert sum(p.numel() for p in module.parameters()) == blueprint.params(site, {}) == 76
    h = torch.randn(3, 4, 19)
    assert torch.equal(h + module(h), h)
