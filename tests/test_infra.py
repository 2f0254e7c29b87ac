"""The files of `infra/` fit each other, what Esper serves and what Redis takes; without a container."""

import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from actors.nissa.prometheus import Page
from contracts.config import ServeConfig
from tests.actors.nissa import sample
from tests.actors.oona.redis_server import RedisServer

INFRA: Final = Path(__file__).parents[1] / "infra"
COMPOSE: Final = ("compose.yaml", "compose.observability.yaml")
DASHBOARDS: Final = sorted((INFRA / "grafana" / "dashboards").glob("*.json"))
LEFT_OUT: Final[dict[str, str]] = {}
"""Families of the bus that no panel shows, with the reason."""

TOP_KEYS: Final = {"name", "services", "volumes"}
SERVICE_KEYS: Final = {
    *("image", "command", "restart", "environment", "volumes", "healthcheck", "depends_on"),
    *("ports", "network_mode"),
}
HEALTH_KEYS: Final = {"test", "interval", "timeout", "retries", "start_period"}
LISTENS_ON_LOOPBACK: Final[dict[str, Callable[[dict[str, Any]], bool]]] = {
    "prometheus": lambda service: "--web.listen-address=127.0.0.1:9090" in service["command"],
    "grafana": lambda service: service["environment"]["GF_SERVER_HTTP_ADDR"] == "127.0.0.1",
}
"""How a service that uses the host's network is told not to be reachable from elsewhere."""
WORDS_OF_PROMQL: Final = {
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "or",
    "and",
    "unless",
}


def load(path: str) -> Any:
    return yaml.safe_load((INFRA / path).read_text(encoding="utf-8"))


def services() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """File, name and settings of every service."""
    for path in COMPOSE:
        yield from ((path, name, service) for name, service in load(path)["services"].items())


EACH_SERVICE: Final = pytest.mark.parametrize(
    ("path", "name", "service"), [pytest.param(*each, id=each[1]) for each in services()]
)


@pytest.mark.parametrize("path", COMPOSE)
def test_a_compose_file_has_keys_of_the_specification_and_declares_its_volumes(path: str) -> None:
    project = load(path)
    assert set(project) <= TOP_KEYS
    assert re.fullmatch(r"[a-z0-9][a-z0-9_-]*", project["name"])
    used = {
        volume.split(":")[0]
        for service in project["services"].values()
        for volume in service.get("volumes", ())
    }
    assert {volume for volume in used if not volume.startswith(".")} == set(project["volumes"])
    for service in project["services"].values():
        assert set(service.get("depends_on", ())) <= set(project["services"])


@EACH_SERVICE
def test_a_service_has_known_keys_and_an_image_of_one_version(
    path: str, name: str, service: dict[str, Any]
) -> None:
    assert set(service) <= SERVICE_KEYS
    assert re.fullmatch(r"(?:[\w.-]+/)*[\w.-]+:v?\d+\.\d+\.\d+(?:-\w+)?", service["image"])
    assert set(service.get("healthcheck", ())) <= HEALTH_KEYS
    assert all(isinstance(word, str) for word in service.get("command", ()))
    assert all(isinstance(value, str) for value in service.get("environment", {}).values())


@EACH_SERVICE
def test_a_service_can_be_reached_from_this_machine_alone(
    path: str, name: str, service: dict[str, Any]
) -> None:
    if service.get("network_mode") == "host":
        assert "ports" not in service, "the host's network maps none"
        assert LISTENS_ON_LOOPBACK[name](service)
    else:
        assert service["ports"]
        assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in service["ports"])


@EACH_SERVICE
def test_a_mounted_file_exists_and_can_only_be_read(path: str, name: str, service: dict[str, Any]) -> None:
    for volume in service.get("volumes", ()):
        source, target, *mode = volume.split(":")
        assert target.startswith("/")
        if source.startswith("."):
            assert (INFRA / source).exists()
            assert mode == ["ro"]


def test_a_server_takes_the_settings_of_the_compose_file_and_refuses_rather_than_forgets() -> None:
    program, *words = load("compose.yaml")["services"]["redis"]["command"]
    assert program == "redis-server"
    settings = {name.removeprefix("--"): value for name, value in zip(words[::2], words[1::2], strict=True)}
    with RedisServer(**settings) as server:
        wanted = {
            "appendonly": b"yes",
            "appendfsync": b"everysec",
            "maxmemory": b"%d" % (256 * 1024 * 1024),
            "maxmemory-policy": b"noeviction",
        }
        for name, value in wanted.items():
            assert server.execute("CONFIG", "GET", name) == [name.encode(), value]


def test_prometheus_scrapes_where_a_run_serves() -> None:
    serve = ServeConfig()
    (job,) = load("prometheus.yml")["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"{serve.host}:{serve.port}"]}]
    assert job["metrics_path"] == "/metrics"
    assert load("compose.observability.yaml")["services"]["prometheus"]["network_mode"] == "host"


def test_grafana_asks_the_prometheus_that_is_started_beside_it() -> None:
    (source,) = load("grafana/provisioning/datasources/prometheus.yaml")["datasources"]
    listen = "--web.listen-address=127.0.0.1:9090"
    assert listen in load("compose.observability.yaml")["services"]["prometheus"]["command"]
    assert (source["type"], source["url"]) == ("prometheus", f"http://{listen.split('=')[1]}")
    interval = load("prometheus.yml")["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == interval


def test_grafana_finds_the_dashboards_where_they_are_mounted() -> None:
    (provider,) = load("grafana/provisioning/dashboards/esper.yaml")["providers"]
    service = load("compose.observability.yaml")["services"]["grafana"]
    mounted = dict(volume.split(":")[:2] for volume in service["volumes"])
    assert mounted["./grafana/dashboards"] == provider["options"]["path"]
    home = Path(service["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert home.parent == Path(provider["options"]["path"])
    assert home.name in {path.name for path in DASHBOARDS}


def test_every_named_file_of_the_readme_exists() -> None:
    readme = (INFRA / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w.]+\.(?:ya?ml|json))`", readme)) | set(
        re.findall(r"infra/([\w.]+)", readme)
    )
    assert named >= set(COMPOSE)
    assert [name for name in sorted(named) if not (INFRA / name).exists()] == []


@cache
def exported() -> dict[str, set[str]]:
    """Labels of every series that a scrape shows, by its full name; a histogram's three apart."""
    page = Page(lambda: sample.reading(sample.measured()))
    text = b"".join(page.render()).decode()
    page.close()
    series: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for each in family.samples:
            series.setdefault(each.name, set()).update(each.labels)
    return series


def bus_families() -> set[str]:
    return {
        re.sub(r"_(?:bucket|count|sum)$", "", name)
        for name in exported()
        if name.startswith(("esper_bus_", "messaging_"))
    }


def targets(path: Path) -> list[tuple[str, str, str]]:
    """Title of the panel, expression and legend of every query of a dashboard."""
    panels = json.loads(path.read_text(encoding="utf-8"))["panels"]
    return [
        (panel["title"], each["expr"], each["legendFormat"])
        for panel in panels
        if panel["type"] != "row"
        for each in panel["targets"]
    ]


def metrics_of(expression: str) -> set[str]:
    """Every name in an expression of PromQL that is no function, no word of the language and no label."""
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]|\b(?:by|without|on|ignoring)\s*\([^)]*\)', " ", expression)
    names = re.findall(r"[a-zA-Z_:][\w:]*(?!\w)(?!\s*\()", bare)
    return {name for name in names if name not in WORDS_OF_PROMQL}


def labels_of(expression: str, legend: str) -> set[str]:
    grouped = re.findall(r"\b(?:by|without)\s*\(([^)]*)\)", expression)
    matched = re.findall(r"\{([^}]*)\}", expression)
    words = {word.strip() for group in grouped for word in group.split(",")}
    words |= {word.strip() for match in matched for word in re.findall(r"(\w+)\s*(?:=|!)", match)}
    return words | set(re.findall(r"\{\{(\w+)\}\}", legend))


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ('sum by (le, lane) (rate(a_bucket{x="b_c"}[$__rate_interval]))', {"a_bucket"}),
        ("histogram_quantile(0.99, sum by (le) (rate(a_bucket[5m]))) or vector(0)", {"a_bucket"}),
        ("a / on (x) b", {"a", "b"}),
    ],
)
def test_names_are_found_in_an_expression(expression: str, names: set[str]) -> None:
    assert metrics_of(expression) == names


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_a_dashboard_asks_only_for_what_is_exported(path: Path) -> None:
    queries = targets(path)
    assert len(queries) > 20
    for title, expression, legend in queries:
        names = metrics_of(expression)
        assert names, title
        assert names <= set(exported()), title
        labels = set().union(*(exported()[name] for name in names))
        assert labels_of(expression, legend) <= labels, title


def test_every_family_of_the_bus_is_in_some_panel_or_listed_as_left_out() -> None:
    shown = {
        name for path in DASHBOARDS for _, expression, _ in targets(path) for name in metrics_of(expression)
    }
    shown = {re.sub(r"_(?:bucket|count|sum)$", "", name) for name in shown}
    assert len(bus_families()) >= 12
    assert bus_families() - shown == set(LEFT_OUT)


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_a_dashboard_uses_the_provisioned_source_and_lays_no_panel_over_another(path: Path) -> None:
    (source,) = load("grafana/provisioning/datasources/prometheus.yaml")["datasources"]
    panels = json.loads(path.read_text(encoding="utf-8"))["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        if panel["type"] != "row":
            asked = [panel["datasource"], *(each["datasource"] for each in panel["targets"])]
            assert {each["uid"] for each in asked} == {source["uid"]}
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_the_boundary_panel_has_its_line_at_18_ms() -> None:
    panels = json.loads((INFRA / "grafana/dashboards/esper.json").read_text(encoding="utf-8"))["panels"]
    (panel,) = [each for each in panels if each["title"] == "Boundary"]
    defaults = panel["fieldConfig"]["defaults"]
    assert defaults["unit"] == "s"
    assert defaults["thresholds"]["steps"][-1]["value"] == 0.018
    assert defaults["custom"]["thresholdsStyle"]["mode"] == "line"
