"""Tells by its exit code whether a service is well, for a container's health check.

    python -m deployments.probe url http://127.0.0.1:8050/healthz
    python -m deployments.probe worker batch/worker-1
    python -m deployments.probe process flows.send_mail

`worker` asks the Prefect server of PREFECT_API_URL whether the worker of that pool and name gave a
sign of life. `process` looks for a process of that module which is neither frozen
nor dead. Prints what is wrong, if anything is.
"""

import argparse
import os
import ssl
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import httpx

SECONDS = 8.0
_BAD_STATES = "TtZX"
_ONLINE = "ONLINE"
_INITS = {"docker-init", "tini", "catatonit"}
"""What engines put before a container's process; their arguments name the process too."""


def check_url(url: str) -> str:
    """Return what is wrong with what the address answers; empty where nothing is."""
    try:
        answer = httpx.get(url, timeout=SECONDS)
    except httpx.HTTPError as error:
        return f"{url} does not answer: {error!r}."
    return "" if answer.is_success else f"{url} answers {answer.status_code}."


def check_worker(pool: str, name: str) -> str:
    """Return why the Prefect server does not take the worker for alive; empty where it does."""
    url = os.environ.get("PREFECT_API_URL", "")  # Prefect's variables, of which none is a setting
    ca_file = os.environ.get("PREFECT_API_SSL_CERT_FILE") or None
    user, _, password = _read_login().partition(":")
    try:
        answer = httpx.post(
            f"{url}/work_pools/{pool}/workers/filter",
            json={"limit": 200},
            auth=(user, password) if user else None,
            verify=ssl.create_default_context(cafile=ca_file),
            timeout=SECONDS,
        )
        answer.raise_for_status()
    except httpx.HTTPError as error:
        return f"The Prefect server does not say: {error!r}."
    found = [each["status"] for each in answer.json() if each["name"] == name]
    return "" if _ONLINE in found else f"The pool {pool} has no live worker {name}."


def _read_login() -> str:
    """Return what Prefect's own programs would log in with.

    Prefect itself is not imported for it: that takes a second, for each service and each minute.
    """
    profiles = os.environ.get("PREFECT_PROFILES_PATH", "")
    if profiles:
        known = tomllib.loads(Path(profiles).read_text(encoding="utf-8"))
        profile = known.get("profiles", {}).get(known.get("active", ""), {})
        return str(profile.get("PREFECT_API_AUTH_STRING", ""))
    return os.environ.get("PREFECT_API_AUTH_STRING", "")


def check_process(module: str, processes: Path = Path("/proc")) -> str:
    """Return why no process of that module can be at work; empty where one can."""
    states = [state for command, state in _processes(processes) if module in command]
    if not states:
        return f"No process runs {module}."
    return "" if any(each not in _BAD_STATES for each in states) else f"{module} is frozen."


def _processes(folder: Path) -> Iterator[tuple[list[str], str]]:
    """Yield each other process's arguments and state."""
    for place in folder.glob("[0-9]*"):
        if place.name == str(os.getpid()):
            continue
        try:
            command = (place / "cmdline").read_bytes().decode(errors="replace").split("\0")
            # pid (name) state …, and the name may hold blanks and brackets.
            state = (place / "stat").read_text(errors="replace").rpartition(") ")[2][:1]
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we looked
        if Path(command[0]).name not in _INITS:
            yield command, state


def main() -> None:
    """Exit with 0 where all is well, else with a sentence."""
    parser = argparse.ArgumentParser(
        prog="python -m deployments.probe",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("kind", choices=("url", "worker", "process"))
    parser.add_argument("what")
    given = parser.parse_args()
    if given.kind == "url":
        wrong = check_url(given.what)
    elif given.kind == "worker":
        wrong = check_worker(*given.what.split("/", 1))
    else:
        wrong = check_process(given.what)
    sys.exit(wrong or 0)


if __name__ == "__main__":
    main()
