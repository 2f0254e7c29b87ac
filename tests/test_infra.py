"""The files of `infra/` fit each other, what Esper serves and what Redis takes; without a container."""

import asyncio
import json
import re
import urllib.request
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from actors.nissa.exporter import Exporter
from actors.nissa.http import INDEX, serve
from actors.nissa.prometheus import Page
from actors.oona.redis.address import Address
from actors.oona.redis.server import OLDEST
from actors.runtime.clock import LoopClock
from contracts.config import ServeConfig
from tests.actors.nissa import sample
from tests.actors.oona.patience import PATIENCE_S
from tests.actors.oona.redis_server import RedisServer

INFRA: Final = Path(__file__).parents[1] / "infra"
README: Final = (INFRA / "README.md").read_text(encoding="utf-8")
REDIS_FILE: Final = "docker-compose.redis.yaml"
OBSERVABILITY_FILE: Final = "docker-compose.observability.yaml"
COMPOSE: Final = (REDIS_FILE, OBSERVABILITY_FILE)
DASHBOARDS: Final = sorted((INFRA / "grafana" / "dashboards").glob("*.json"))
LEFT_OUT: Final[dict[str, str]] = {}
"""Families of the bus that no panel shows, with the reason."""

TOP_KEYS: Final = {"name", "services", "volumes"}
SERVICE_KEYS: Final = {
    *("image", "command", "restart", "environment", "volumes", "healthcheck", "depends_on"),
    *("ports", "network_mode"),
}
HEALTH_KEYS: Final = {"test", "interval", "timeout", "retries", "start_period"}
RESTARTS: Final = {"no", "always", "on-failure", "unless-stopped"}
CONDITIONS: Final = {"service_started", "service_healthy", "service_completed_successfully"}
NETWORKS: Final = {"bridge", "host", "none"}
SECONDS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}
HOSTS_OWN_PORTS: Final = {"prometheus": 9090, "grafana": 3000}
"""Where a service listens that uses the host's network."""
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
def test_a_service_has_values_that_an_engine_takes(path: str, name: str, service: dict[str, Any]) -> None:
    assert service["restart"] in RESTARTS
    assert service.get("network_mode", "bridge") in NETWORKS
    health = service.get("healthcheck", {})
    if health:
        assert health["test"][0] == "CMD"
        assert isinstance(health["retries"], int)
        assert seconds(health["timeout"]) <= seconds(health["interval"])
        assert all(
            seconds(health[key]) > 0 for key in ("interval", "timeout", "start_period") if key in health
        )
    for other, how in service.get("depends_on", {}).items():
        assert how["condition"] in CONDITIONS
        if how["condition"] == "service_healthy":
            assert "healthcheck" in load(path)["services"][other]


def seconds(text: str) -> float:
    """A duration as engines and Prometheus write it."""
    found = re.fullmatch(r"(\d+)(ms|s|m|h|d)", text)
    assert found is not None, f"{text!r} is no duration"
    return int(found[1]) * SECONDS[found[2]]


def test_no_two_services_want_the_same_port_or_that_of_a_run() -> None:
    mapped = [int(port.split(":")[1]) for _, _, service in services() for port in service.get("ports", ())]
    wanted = [*mapped, *HOSTS_OWN_PORTS.values(), ServeConfig().port]
    assert len(set(wanted)) == len(wanted)


def test_redis_is_reached_at_the_default_port_and_is_new_enough() -> None:
    service = load(REDIS_FILE)["services"]["redis"]
    port = Address("redis://127.0.0.1/0").connection().port
    assert service["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert "--port" not in service["command"], "it listens where the port is mapped to"
    number = re.match(r"redis:(\d+)\.(\d+)", service["image"])
    assert number is not None
    assert tuple(map(int, number.groups())) >= OLDEST
    assert service["healthcheck"]["test"] == ["CMD", "redis-cli", "ping"]
    assert f"redis://127.0.0.1:{port}/0" in README


def test_what_uses_the_hosts_network_listens_where_the_readme_says() -> None:
    watched = load(OBSERVABILITY_FILE)["services"]
    assert set(watched) == set(HOSTS_OWN_PORTS)
    port = HOSTS_OWN_PORTS["prometheus"]
    assert f"--web.listen-address=127.0.0.1:{port}" in watched["prometheus"]["command"]
    assert f"http://127.0.0.1:{port}/-/ready" in watched["prometheus"]["healthcheck"]["test"]
    assert watched["grafana"]["environment"]["GF_SERVER_HTTP_PORT"] == str(HOSTS_OWN_PORTS["grafana"])
    assert all(f"`http://127.0.0.1:{each}`" in README for each in HOSTS_OWN_PORTS.values())


def test_prometheus_is_told_of_the_configuration_that_is_mounted_and_of_the_folder_that_is_kept() -> None:
    service = load(OBSERVABILITY_FILE)["services"]["prometheus"]
    mounted = dict(volume.split(":")[:2] for volume in service["volumes"])
    assert f"--config.file={mounted['./prometheus.yml']}" in service["command"]
    assert f"--storage.tsdb.path={mounted['prometheus-data']}" in service["command"]


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
    program, *words = load(REDIS_FILE)["services"]["redis"]["command"]
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
    assert job["metrics_path"] in INDEX
    assert load(OBSERVABILITY_FILE)["services"]["prometheus"]["network_mode"] == "host"


def test_a_run_answers_at_the_path_that_is_scraped() -> None:
    async def scraped() -> tuple[int, str]:
        clock = LoopClock(asyncio.get_running_loop())
        exporter = Exporter(lambda: sample.reading(sample.measured()), lambda: False, clock, 0.01)
        async with serve(exporter, ServeConfig().host, 0) as address:
            (job,) = load("prometheus.yml")["scrape_configs"]
            return await asyncio.to_thread(fetched, address.rstrip("/") + job["metrics_path"])

    status, text = asyncio.run(scraped())
    assert status == 200
    assert {family.name for family in text_string_to_metric_families(text)} >= {"esper_training_epochs"}


def fetched(url: str) -> tuple[int, str]:
    with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
        return answer.status, answer.read().decode()


def test_prometheus_looks_no_more_often_than_a_run_renders_and_has_answers_before_it_looks_again() -> None:
    settings = load("prometheus.yml")
    assert set(settings) == {"global", "scrape_configs"}
    times = {name: seconds(text) for name, text in settings["global"].items()}
    assert set(times) == {"scrape_interval", "scrape_timeout", "evaluation_interval"}
    assert ServeConfig().render_every_s <= times["scrape_timeout"] < times["scrape_interval"]


def test_grafana_asks_the_prometheus_that_is_started_beside_it() -> None:
    (source,) = load("grafana/provisioning/datasources/prometheus.yaml")["datasources"]
    listen = "--web.listen-address=127.0.0.1:9090"
    assert listen in load(OBSERVABILITY_FILE)["services"]["prometheus"]["command"]
    assert (source["type"], source["url"]) == ("prometheus", f"http://{listen.split('=')[1]}")
    assert (source["name"], source["uid"]) == ("Prometheus", "esper-prometheus")
    assert (source["access"], source["isDefault"]) == ("proxy", True)
    interval = load("prometheus.yml")["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == interval


def test_grafana_finds_the_dashboards_where_they_are_mounted() -> None:
    (provider,) = load("grafana/provisioning/dashboards/esper.yaml")["providers"]
    service = load(OBSERVABILITY_FILE)["services"]["grafana"]
    mounted = dict(volume.split(":")[:2] for volume in service["volumes"])
    assert mounted["./grafana/dashboards"] == provider["options"]["path"]
    home = Path(service["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert home.parent == Path(provider["options"]["path"])
    assert home.name in {path.name for path in DASHBOARDS}


def test_every_named_file_of_the_readme_exists() -> None:
    named = set(re.findall(r"`([\w.-]+\.(?:ya?ml|json))`", README))
    named |= set(re.findall(r"infra/([\w.-]+)", README))
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
            assert {(each["type"], each["uid"]) for each in asked} == {(source["type"], source["uid"])}
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_a_panel_shows_its_figures_in_their_unit(path: Path) -> None:
    for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]:
        if panel["type"] != "row":
            names = set().union(*(metrics_of(each["expr"]) for each in panel["targets"]))
            units = {unit_of(name) for name in names}
            assert units == {panel["fieldConfig"]["defaults"]["unit"]}, panel["title"]


def unit_of(name: str) -> str:
    """Grafana's word for what a metric is in."""
    if re.search(r"_seconds(?:_bucket|_sum)?$", name):
        return "s"
    return "percentunit" if name.endswith("_ratio") else "short"


def test_the_boundary_panel_has_its_line_at_18_ms() -> None:
    panels = json.loads((INFRA / "grafana/dashboards/esper.json").read_text(encoding="utf-8"))["panels"]
    (panel,) = [each for each in panels if each["title"] == "Boundary"]
    defaults = panel["fieldConfig"]["defaults"]
    assert defaults["unit"] == "s"
    assert defaults["thresholds"]["steps"][-1]["value"] == 0.018
    assert defaults["custom"]["thresholdsStyle"]["mode"] == "line"
