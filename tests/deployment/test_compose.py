"""infra/compose.yaml keeps its rules, and each rule notices who breaks it."""

import copy
import importlib.util
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from deployments.certificates import CERTIFICATES
from deployments.secrets import CONTAINER_USERS
from infra.local.kafka_jars import CHECKOUT
from tests.conftest import skip_or_fail
from tests.deployment.compose import ANYWHERE, RULES, Rule, check_order, read_compose

Compose = dict[str, Any]


@pytest.fixture
def compose() -> Compose:
    return read_compose()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rules_are_kept(compose: Compose, rule: Rule) -> None:
    assert list(rule(compose)) == []


def _service(name: str, **change: Any) -> Callable[[Compose], None]:
    return lambda compose: compose["services"][name].update(change)


def _without(name: str, key: str) -> Callable[[Compose], None]:
    return lambda compose: compose["services"][name].pop(key)


def _environment(name: str, variable: str, value: str) -> Callable[[Compose], None]:
    return lambda compose: compose["services"][name]["environment"].update({variable: value})


BROKEN = {
    "may write its root": _service("mail", read_only=False),
    "keeps capabilities": _without("kafka", "cap_drop"),
    "is given capabilities": _service("proxy", cap_add=["NET_RAW"]),
    "may gain privileges": _without("grafana", "security_opt"),
    "has privileged": _service("postgres", privileged=True),
    "has no limit": _without("prefect", "deploy"),
    "no numeric user": _service("proxy", user="nginx"),
    "runs as root": _service("dashboard", user="0:0"),
    "has no bound": _without("exporter", "logging"),
    "no restart policy": _without("keeper", "restart"),
    "no health check": _without("worker-ops", "healthcheck"),
    "no fixed version": _service("grafana", image="grafana/grafana:latest"),
    "postgres publishes": _service("postgres", ports=[{"target": 5432, "published": "5432"}]),
    "publishes to": lambda compose: compose["services"]["front"]["ports"][0].update(
        host_ip=ANYWHERE
    ),
    "shares the host's network": _service("health", network_mode="host"),
    "unknown volume": lambda compose: compose["volumes"].pop("messages"),
    "may write": lambda compose: compose["services"]["prometheus"]["volumes"][1].pop("read_only"),
    "which is not there": lambda compose: compose["services"]["proxy"]["volumes"][1].update(
        source="./compose/proxy/another.conf"
    ),
    "unknown network": _service("mail", networks=["abroad"]),
    "made by nobody": lambda compose: compose["secrets"].update(other={"file": "/s/other"}),
    "unknown secret": _service("mail", secrets=["another"]),
    "cannot read": _service("proxy", secrets=["database_url"]),
    "is not given it": _service("bootstrap", secrets=[]),
    "in its environment": _environment("mail", "SLUICEWAY_SMTP_PASSWORD", "in sight"),
    "which is no setting": _environment("mail", "SLUICEWAY_SMTP_HOTS", "mail.example"),
    "runs no flow": _environment("dashboard", "SLUICEWAY_CELL_KEYS_FILE", "/run/secrets/cell_keys"),
    "runs flows and has no keys": lambda compose: compose["services"]["worker-batch"][
        "environment"
    ].pop("SLUICEWAY_CELL_KEYS_FILE"),
    "does not wait for it": _without("dashboard", "depends_on"),
    "waits for nobody, which": _service(
        "mail", depends_on={"nobody, which": {"condition": "service_healthy"}}
    ),
    "waits for certificates by": _service(
        "postgres", depends_on={"certificates": {"condition": "service_started"}}
    ),
    "wait for each other": _service(
        "postgres", depends_on={"prefect": {"condition": "service_healthy"}}
    ),
    "speaks HTTP in clear": _environment(
        "worker-batch", "PREFECT_API_URL", "http://prefect:4200/api"
    ),
    "may speak in clear": _environment("mail", "OTHER", "postgresql://h/d?sslmode=require"),
    "listens in clear": _service("prometheus", command=["--web.listen-address=0.0.0.0:9090"]),
    "speaks with Kafka in clear": _environment("keeper", "SLUICEWAY_KAFKA_SECURITY", "ssl"),
    "speaks no TLS": _service("postgres", command=["postgres"]),
}


@pytest.mark.parametrize("sentence", BROKEN)
def test_who_breaks_a_rule_is_noticed(compose: Compose, sentence: str) -> None:
    broken = copy.deepcopy(compose)
    BROKEN[sentence](broken)
    said = [each for rule in RULES for each in rule(broken)]
    assert [each for each in said if sentence in each], said


def test_a_service_that_waits_for_itself_is_a_circle(compose: Compose) -> None:
    compose["services"]["front"]["depends_on"] = {"front": {"condition": "service_started"}}
    assert any("wait for each other" in each for each in check_order(compose))


def test_the_file_is_what_the_compose_specification_allows(compose: Compose) -> None:
    parse = _find_parser()
    parse(json.dumps(compose))


@pytest.mark.parametrize(
    "change",
    [
        {"restrat": "always"},
        {"read_only": "maybe"},
        {"depends_on": {"front": {"condition": "healthy"}}},
        {"deploy": {"resources": {"limits": {"memory": "lots"}}}},
        {"healthcheck": {"test": ["CMD", "true"], "interval": "often"}},
        {"cap_drop": "ALL"},
        {"volumes": [{"type": "bnid", "source": "./a", "target": "/b"}]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_parser_refuses_what_it_does_not_allow(
    compose: Compose, change: dict[str, Any]
) -> None:
    compose["services"]["mail"].update(change)
    with pytest.raises(ValueError, match=r"\w"):
        _find_parser()(json.dumps(compose))


def _find_parser() -> Callable[[str], object]:
    """Return the parser of the package compose-spec, which is in the extra `dev`."""
    if importlib.util.find_spec("compose_spec") is None:
        skip_or_fail("compose-spec is not installed: run `make .venv/.installed`")
    module: Any = importlib.import_module("compose_spec")
    parse: Callable[[str], object] = module.PyCompose.from_json
    return parse


def test_variables_are_put_in() -> None:
    found = read_compose(SECRETS="/s", DOMAIN="data.example", LISTEN="192.0.2.1")
    front = found["services"]["front"]
    assert front["ports"][0]["host_ip"] == "192.0.2.1"
    assert "prefect.data.example" in front["networks"]["inside"]["aliases"]
    assert found["secrets"]["database_url"]["file"] == "/s/database_url"
    with pytest.raises(AssertionError, match="SECRETS is not set"):
        read_compose(SECRETS="")


def test_versions_agree_with_what_is_tested_here(compose: Compose) -> None:
    pom = (CHECKOUT / "infra" / "kafka" / "pom.xml").read_text(encoding="utf-8")
    [kafka] = re.findall(r"<kafka\.version>([\d.]+)<", pom)
    assert compose["services"]["kafka"]["image"] == f"apache/kafka:{kafka}"
    dockerfile = (CHECKOUT / "deployments" / "Dockerfile").read_text(encoding="utf-8")
    assert f"FROM {compose['services']['postgres']['image']} AS postgres" in dockerfile
    project = (CHECKOUT / "pyproject.toml").read_text(encoding="utf-8")
    [version] = re.findall(r'^version = "([\d.]+)"$', project, re.MULTILINE)
    assert compose["services"]["dashboard"]["image"] == f"sluiceway:{version}"


def test_each_service_can_read_its_own_key_and_no_other(compose: Compose) -> None:
    for name, certificate in CERTIFICATES.items():
        volume = f"tls_{name}"
        users = {
            service
            for service, described in compose["services"].items()
            if any(each["source"] == volume for each in described.get("volumes", ()))
        }
        assert users == {name, "certificates"}
        number = str(CONTAINER_USERS[certificate.reader])
        assert compose["services"][name]["user"].split(":")[0] == number


def test_every_pool_of_the_deployments_has_a_worker(compose: Compose) -> None:
    declared = yaml.safe_load((CHECKOUT / "prefect.yaml").read_text(encoding="utf-8"))
    pools = {each["work_pool"]["name"] for each in declared["deployments"]}
    served = {
        described["command"][1]
        for described in compose["services"].values()
        if described.get("command", [""])[0] == "deployments.worker"
    }
    assert served == pools
