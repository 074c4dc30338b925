"""A Dockerfile's instructions, and the rules that ours keeps: those of hadolint that matter here.

hadolint itself is in no package index that this project uses.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

_TAG = re.compile(r"[\w./-]+:(?=[\w.-]*\d+\.\d+)[\w.-]+(@sha256:[0-9a-f]{64})?")
_SECRET = re.compile(r"PASSWORD|PASSWD|SECRET|TOKEN|API_?KEY|CREDENTIAL|PRIVATE", re.IGNORECASE)
_URL = re.compile(r"^(https?|ftp|git)[:@]", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Instruction:
    """One of them, its lines joined."""

    line: int
    name: str
    text: str

    @property
    def words(self) -> list[str]:
        """Its arguments, without options, as a shell would part them without quotes."""
        return [each for each in self.text.split() if not each.startswith("--")]

    def option(self, name: str) -> str | None:
        """Return what --name= says."""
        found = re.search(rf"(?:^|\s)--{name}=(\S+)", self.text)
        return found[1] if found else None


def parse(text: str) -> list[Instruction]:
    """Return the instructions of a Dockerfile; comments within them are left out, as by Docker."""
    found: list[Instruction] = []
    begun: list[str] = []
    first = 0
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        first = first if begun else number
        begun.append(stripped.removesuffix("\\").strip())
        if not stripped.endswith("\\"):
            name, _, rest = " ".join(begun).partition(" ")
            found.append(Instruction(first, name.upper(), rest.strip()))
            begun = []
    return found


def last_stage(instructions: Sequence[Instruction]) -> list[Instruction]:
    """Return what the image is made of in the end."""
    begins = max(place for place, each in enumerate(instructions) if each.name == "FROM")
    return list(instructions[begins:])


def is_exec_form(text: str) -> bool:
    """Tell whether it is a JSON array: no shell stands between the engine and the program."""
    try:
        found = json.loads(text)
    except ValueError:
        return False
    return isinstance(found, list) and all(isinstance(each, str) for each in found)


def check_bases(instructions: Sequence[Instruction]) -> Iterator[str]:
    """Each base image has a full version, or is an earlier stage."""
    stages: set[str] = set()
    for each in instructions:
        if each.name != "FROM":
            continue
        if each.words[0] not in stages and not _TAG.fullmatch(each.words[0]):
            yield f"line {each.line}: the base {each.words[0]} has no full version"
        if len(each.words) == 3:
            stages.add(each.words[2])


def check_sources(instructions: Sequence[Instruction]) -> Iterator[str]:
    """Files come by COPY, from here or from a stage of a known name."""
    stages = {each.words[-1] for each in instructions if each.name == "FROM"}
    for each in instructions:
        if each.name == "ADD":
            yield f"line {each.line}: ADD"
        if each.name == "COPY" and any(_URL.match(word) for word in each.words):
            yield f"line {each.line}: COPY of an address"
        origin = each.option("from") if each.name == "COPY" else None
        if origin is not None and origin not in stages:
            yield f"line {each.line}: COPY from the unknown stage {origin}"
        if each.name == "COPY" and "." in each.words[:-1]:
            yield f"line {each.line}: COPY of everything"


def check_user(instructions: Sequence[Instruction]) -> Iterator[str]:
    """The last user is a number other than 0, and stands before what is started."""
    users = [each for each in last_stage(instructions) if each.name == "USER"]
    if not users:
        yield "no USER: it runs as root"
    elif not re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1].text):
        yield f"line {users[-1].line}: USER {users[-1].text} is no number but 0"


def check_start(instructions: Sequence[Instruction]) -> Iterator[str]:
    """There is one command, one health check, and no shell around either."""
    final = last_stage(instructions)
    for name in ("ENTRYPOINT", "CMD", "HEALTHCHECK"):
        found = [each for each in final if each.name == name]
        if len(found) != 1:
            yield f"{len(found)} times {name}"
        for each in found:
            command = each.text.partition("CMD ")[2] if name == "HEALTHCHECK" else each.text
            if not is_exec_form(command):
                yield f"line {each.line}: {name} is given to a shell"


def check_secrets(instructions: Sequence[Instruction]) -> Iterator[str]:
    """No secret is built in: whoever has the image could read it."""
    for each in instructions:
        if each.name in {"ENV", "ARG"}:
            for name in re.findall(r"(?:^|\s)([A-Za-z_]\w*)", each.text):
                if _SECRET.search(name):
                    yield f"line {each.line}: {each.name} {name}"


def check_packages(instructions: Sequence[Instruction]) -> Iterator[str]:
    """System packages come without recommendations, and their lists go in the same layer."""
    wanted = {
        "--no-install-recommends": "recommended packages are installed",
        "--yes": "apt-get waits for an answer",
        "rm -rf /var/lib/apt/lists/*": "the lists of packages stay",
        "apt-get update": "the lists of packages may be of another layer",
    }
    for each in instructions:
        if each.name == "RUN" and re.search(r"\bapt(-get)? .*install", each.text):
            for word, otherwise in wanted.items():
                if word not in each.text:
                    yield f"line {each.line}: {otherwise}"


def check_commands(instructions: Sequence[Instruction]) -> Iterator[str]:
    """What is run while the image is built takes nothing that was not named beforehand."""
    for each in instructions:
        if each.name != "RUN":
            continue
        if "pip install" in each.text:
            for option in (
                "--require-hashes",
                "--no-cache-dir",
                "--no-deps",
                "--only-binary=:all:",
            ):
                if option not in each.text:
                    yield f"line {each.line}: pip without {option}"
        if re.search(r"\bapt\s", each.text):
            yield f"line {each.line}: apt is for people, take apt-get"
        if re.search(r"\b(sudo|curl|wget)\b", each.text):
            yield f"line {each.line}: sudo, curl or wget"
        if re.search(r"(?:^|[;&|])\s*cd\s", each.text):
            yield f"line {each.line}: cd, where WORKDIR would do"


def check_folders(instructions: Sequence[Instruction]) -> Iterator[str]:
    """Work is done in folders named in full."""
    for each in instructions:
        if each.name == "WORKDIR" and not each.text.startswith("/"):
            yield f"line {each.line}: WORKDIR {each.text} depends on what was before"
    if not any(each.name == "WORKDIR" for each in last_stage(instructions)):
        yield "no WORKDIR"


def check_known(instructions: Sequence[Instruction]) -> Iterator[str]:
    """Every instruction is one, and none that is out of use."""
    known = {"FROM", "RUN", "COPY", "ADD", "ENV", "ARG", "LABEL", "USER", "WORKDIR", "ENTRYPOINT"}
    known |= {"CMD", "HEALTHCHECK", "EXPOSE", "VOLUME", "STOPSIGNAL", "SHELL"}
    for each in instructions:
        if each.name not in known:
            yield f"line {each.line}: {each.name} is no instruction"


Rule = Callable[[Sequence[Instruction]], Iterator[str]]
RULES: tuple[Rule, ...] = (
    check_bases,
    check_sources,
    check_user,
    check_start,
    check_secrets,
    check_packages,
    check_commands,
    check_folders,
    check_known,
)
