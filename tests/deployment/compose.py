"""infra/compose.yaml as an engine would read it, and the rules that its services keep.

There is no engine here: variables are put in and merges resolved as Compose does, and each rule
returns sentences, so that a test sees them for a file that breaks it too.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from deployments.secrets import CONTAINER_USERS, SECRETS
from infra.settings import OTHER_VARIABLES, Settings

CHECKOUT = Path(__file__).parents[2]
COMPOSE_FILE = CHECKOUT / "infra" / "compose.yaml"
SECRETS_PLACE = "/run/secrets"
DOMAIN = "sluiceway.internal"
LOOPBACK = "127.0.0.1"
ANYWHERE = "0.0.0.0"  # noqa: S104 - what no service may listen on

_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?:(?P<kind>:[-?])(?P<other>[^{}]*))?\}")
_FIXED_TAG = re.compile(r"[\w./-]+:v?\d+\.\d+[\w.-]*")
_ONE_SHOT = "service_completed_successfully"
_FRONT = "front"
_ROOT = "certificates"
"""Gives keys away, which root alone may."""
Services = Mapping[str, Mapping[str, Any]]
Rule = Callable[[Mapping[str, Any]], Iterator[str]]


def read_compose(**variables: str) -> dict[str, Any]:
    """Return the file with its variables put in, and no merge left."""
    given = {"SECRETS": "/etc/sluiceway/secrets", **variables}
    found: dict[str, Any] = interpolate(_load(), given)
    return found


@lru_cache(maxsize=1)
def _load() -> Any:
    return yaml.safe_load(COMPOSE_FILE.read_text(encoding="utf-8"))


def interpolate(value: Any, given: Mapping[str, str]) -> Any:
    """Put variables in the place of ${NAME}, ${NAME:-other} and ${NAME:?sentence}."""
    if isinstance(value, dict):
        return {key: interpolate(each, given) for key, each in value.items()}
    if isinstance(value, list):
        return [interpolate(each, given) for each in value]
    if not isinstance(value, str):
        return value

    def put_in(found: re.Match[str]) -> str:
        name, kind, other = found["name"], found["kind"], found["other"]
        if given.get(name):
            return given[name]
        if kind == ":-":
            return str(other)
        raise AssertionError(f"{name} is not set: {other}")

    return _VARIABLE.sub(put_in, value)


def mounts_of(compose: Mapping[str, Any], service: str) -> dict[str, Path]:
    """Return what a service finds at which place: files and folders of the checkout alone."""
    return {
        each["target"]: (COMPOSE_FILE.parent / each["source"]).resolve()
        for each in compose["services"][service].get("volumes", ())
        if each["type"] == "bind"
    }


def is_one_shot(compose: Mapping[str, Any], name: str) -> bool:
    """Tell whether the service ends by itself."""
    return bool(compose["services"][name].get("restart") == "no")


def check_confinement(compose: Mapping[str, Any]) -> Iterator[str]:
    """Each service has no rights that it does not need, and cannot write its root."""
    for name, service in compose["services"].items():
        if service.get("read_only") is not True:
            yield f"{name} may write its root file system"
        if service.get("cap_drop") != ["ALL"]:
            yield f"{name} keeps capabilities"
        if service.get("cap_add") and name != _ROOT:
            yield f"{name} is given capabilities"
        if "no-new-privileges:true" not in service.get("security_opt", ()):
            yield f"{name} may gain privileges"
        for wrong in ("privileged", "pid", "ipc", "devices", "userns_mode", "cgroup_parent"):
            if wrong in service:
                yield f"{name} has {wrong}"
        user = str(service.get("user", ""))
        if not re.fullmatch(r"\d+:\d+", user):
            yield f"{name} has no numeric user"
        elif user.startswith("0:") and name != _ROOT:
            yield f"{name} runs as root"


def check_limits(compose: Mapping[str, Any]) -> Iterator[str]:
    """Each service, and its log, has bounds."""
    for name, service in compose["services"].items():
        limits = service.get("deploy", {}).get("resources", {}).get("limits", {})
        for each in ("cpus", "memory", "pids"):
            if each not in limits:
                yield f"{name} has no limit of {each}"
        if "max-size" not in service.get("logging", {}).get("options", {}):
            yield f"the log of {name} has no bound"


def check_lives(compose: Mapping[str, Any]) -> Iterator[str]:
    """Each service is started again, or is meant to end; each that stays is looked at."""
    for name, service in compose["services"].items():
        policy = service.get("restart")
        if policy not in {"always", "no"}:
            yield f"{name} has no restart policy"
        is_disabled = service.get("healthcheck", {}).get("disable") is True
        if policy == "no" and not is_disabled:
            yield f"{name} ends by itself and has a health check"
        if policy != "no" and not service.get("healthcheck", {}).get("test"):
            yield f"{name} has no health check"


def check_images(compose: Mapping[str, Any]) -> Iterator[str]:
    """Each image is pinned."""
    for name, service in compose["services"].items():
        if not _FIXED_TAG.fullmatch(service.get("image", "")):
            yield f"{name} has no fixed version: {service.get('image')}"


def check_ports(compose: Mapping[str, Any]) -> Iterator[str]:
    """One port is published, the proxy's, and by default to this host alone."""
    for name, service in compose["services"].items():
        for port in service.get("ports", ()):
            if name != _FRONT or port.get("target") != 8443:
                yield f"{name} publishes {port}"
            elif port.get("host_ip") != LOOPBACK:
                yield f"{name} publishes to {port.get('host_ip')}"
        if service.get("network_mode") == "host":
            yield f"{name} shares the host's network"
    if not any(service.get("ports") for service in compose["services"].values()):
        yield "nothing is published"


def check_mounts(compose: Mapping[str, Any]) -> Iterator[str]:
    """What is mounted from the checkout exists and is read-only; each volume is declared."""
    for name, service in compose["services"].items():
        for each in service.get("volumes", ()):
            if each["type"] == "volume":
                if each["source"] not in compose["volumes"]:
                    yield f"{name} mounts the unknown volume {each['source']}"
            elif not each.get("read_only"):
                yield f"{name} may write {each['source']}"
        for target, source in mounts_of(compose, name).items():
            if not source.exists():
                yield f"{name} mounts {source} at {target}, which is not there"
        for network in service.get("networks", ()):
            if network not in compose["networks"]:
                yield f"{name} is in the unknown network {network}"


def check_secrets(compose: Mapping[str, Any]) -> Iterator[str]:
    """Each secret is a file that deployments.secrets makes, for the user that reads it."""
    for name, secret in compose["secrets"].items():
        if name not in SECRETS or not secret["file"].endswith(f"/{name}"):
            yield f"the secret {name} is made by nobody"
    for name, service in compose["services"].items():
        granted = service.get("secrets", ())
        user = str(service["user"]).partition(":")[0]
        for each in granted:
            if each not in compose["secrets"]:
                yield f"{name} wants the unknown secret {each}"
            elif each in SECRETS and str(CONTAINER_USERS[SECRETS[each].reader]) != user:
                yield f"{name} runs as {user} and cannot read {each}"
        named = set(re.findall(rf"{SECRETS_PLACE}/(\w+)", yaml.safe_dump(dict(service))))
        for each in sorted(named - set(granted)):
            yield f"{name} names {each} and is not given it"
        for variable, value in service.get("environment", {}).items():
            looks_secret = re.search(
                r"(PASSWORD|SECRET|_KEYS?|AUTH_STRING|DATABASE_URL)$", variable
            )
            if looks_secret and value:
                yield f"{name} has {variable} in its environment"


def check_settings(compose: Mapping[str, Any]) -> Iterator[str]:
    """Each SLUICEWAY_ variable is a setting; what opens personal data goes to flows alone."""
    known = {f"SLUICEWAY_{name}".upper() for name in Settings.model_fields}
    known |= {f"{name}_FILE" for name in known} | OTHER_VARIABLES
    keys = {"SLUICEWAY_CELL_KEYS_FILE", "SLUICEWAY_INDEX_KEYS_FILE"}
    for name, service in compose["services"].items():
        environment = service.get("environment", {})
        for variable in environment:
            if variable.startswith("SLUICEWAY_") and variable not in known:
                yield f"{name} has {variable}, which is no setting"
        has_keys = {*environment, *service.get("secrets", ())} & {*keys, "cell_keys", "index_keys"}
        if has_keys and not name.startswith("worker-"):
            yield f"{name} runs no flow and is given {sorted(has_keys)}"
        if name.startswith("worker-") and not keys <= environment.keys():
            yield f"{name} runs flows and has no keys"


def check_order(compose: Mapping[str, Any]) -> Iterator[str]:
    """Whoever waits, waits for what can come, and in no circle."""
    waits = {
        name: dict(service.get("depends_on", {})) for name, service in compose["services"].items()
    }
    for name, others in waits.items():
        mode = str(compose["services"][name].get("network_mode", ""))
        if mode.startswith("service:") and mode.partition(":")[2] not in others:
            yield f"{name} is in the network of {mode.partition(':')[2]} and does not wait for it"
        for other, how in others.items():
            if other not in waits:
                yield f"{name} waits for {other}, which is not there"
            elif is_one_shot(compose, other) != (how["condition"] == _ONE_SHOT):
                yield f"{name} waits for {other} by {how['condition']}"
    left = {name: set(others) for name, others in waits.items()}
    while free := {name for name, others in left.items() if not others & left.keys()}:
        left = {name: others for name, others in left.items() if name not in free}
    if left:
        yield f"these wait for each other: {sorted(left)}"


def check_encryption(compose: Mapping[str, Any]) -> Iterator[str]:
    """Nobody speaks in clear but on the loopback of the shared namespace."""
    for name, service in compose["services"].items():
        shares = service.get("network_mode") == f"service:{_FRONT}"
        words = [*service.get("command", ()), *_texts(service.get("environment", {}))]
        for word in words:
            for host in re.findall(r"http://([^/:\s\"]+)", word):
                if host not in {LOOPBACK, "localhost"} or not shares:
                    yield f"{name} speaks HTTP in clear with {host}"
            if re.search(r"sslmode=(?!verify-full)|plaintext", word, re.IGNORECASE):
                yield f"{name} may speak in clear: {word}"
            if re.search(r"listen-address=(?!127\.0\.0\.1:|$)", word) or ANYWHERE in word:
                yield f"{name} listens in clear: {word}"
        environment = service.get("environment", {})
        if (
            "SLUICEWAY_KAFKA_BOOTSTRAP_SERVERS" in environment
            and environment.get("SLUICEWAY_KAFKA_SECURITY") != "sasl_ssl"
        ):
            yield f"{name} speaks with Kafka in clear"
    if "ssl=on" not in compose["services"]["postgres"]["command"]:
        yield "PostgreSQL speaks no TLS"


def _texts(environment: Mapping[str, Any]) -> list[str]:
    return [str(each) for each in environment.values()]


RULES: tuple[Rule, ...] = (
    check_confinement,
    check_limits,
    check_lives,
    check_images,
    check_ports,
    check_mounts,
    check_secrets,
    check_settings,
    check_order,
    check_encryption,
)
