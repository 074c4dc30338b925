"""What infra/compose.yaml mounts, run by this machine's own programs.

Places in a container become places here, and fixed ports free ones; all else is as it is mounted.
"""

import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from deployments.certificates import CERTIFICATES, hand_out
from deployments.secrets import Places, make_secrets
from infra.local.environment import inherit_environment
from infra.local.identity import choose_identity
from infra.local.ports import LOOPBACK
from infra.local.process import Child, Launch
from tests.deployment.compose import CHECKOUT, DOMAIN, mounts_of, read_compose

TLS_PLACE = "/etc/sluiceway/tls"


def localize(text: str, places: Mapping[str, str]) -> str:
    """Return the text with each place of a container, or port, changed for one of this machine.

    A place that does not occur is a test of something else than what is mounted.
    """
    for there in places:
        assert there in text, f"{there} is not in what is mounted"
    # All at once: what was put in for one may look like another.
    pattern = "|".join(re.escape(each) for each in sorted(places, key=len, reverse=True))
    return re.sub(pattern, lambda found: places[found[0]], text)


def read_mounted(service: str, place: str) -> str:
    """Return the text that compose mounts for the service at that place."""
    found = mounts_of(read_compose(), service)
    return found[place].read_text(encoding="utf-8")


def describe(service: str) -> dict[str, Any]:
    """Return the service as compose has it."""
    found: dict[str, Any] = read_compose()["services"][service]
    return found


def make_certificates(folder: Path) -> Path:
    """Return the folder in which each service's own folder with certificates is."""
    handed = folder / "handed"
    hand_out(folder / "authority", handed, DOMAIN, dict.fromkeys(CERTIFICATES))
    return handed


def renew_certificates(handed: Path, service: str) -> None:
    """Leave another certificate of the same CA, as the command does when one ends soon."""
    (handed.parent / "authority" / f"{service}.pem").unlink()
    made = hand_out(handed.parent / "authority", handed, DOMAIN, {service: None})
    assert made[0].endswith("made now")
    # As before, whoever the service runs as may read it.
    choose_identity().hand_over(handed)


def serial_of(port: int, context: ssl.SSLContext, name: str, question: bytes = b"") -> int:
    """Return the number of the certificate that is shown; question: what asks for TLS first."""
    with socket.create_connection((LOOPBACK, port), timeout=60) as plain:
        if question:
            plain.sendall(question)
            assert plain.recv(1) == b"S"
        with context.wrap_socket(plain, server_hostname=name) as peer:
            shown = peer.getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown).serial_number


def make_all_secrets(folder: Path, *, postgres_port: int, ca_file: Path) -> Path:
    """Return the folder of the installation's secrets."""
    secrets = folder / "secrets"
    make_secrets(secrets, Places(f"postgres.{DOMAIN}:{postgres_port}", str(ca_file)))
    return secrets


def resolve_names(patch: pytest.MonkeyPatch) -> None:
    """Let this process find the services' names on loopback, as containers do by their network."""
    ask = socket.getaddrinfo

    def find(host: Any, *arguments: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        is_ours = isinstance(name, str) and name.endswith(f".{DOMAIN}")
        return ask(LOOPBACK if is_ours else host, *arguments, **options)

    patch.setattr(socket, "getaddrinfo", find)


@contextmanager
def run(
    name: str, command: list[str], folder: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Child]:
    """Run it as an ordinary user, and leave none of it."""
    identity = choose_identity()
    identity.hand_over(folder)
    child = Child(
        Launch(
            name=name,
            command=[*identity.prefix, *command],
            environment={**inherit_environment(str(folder)), **(environment or {})},
            log=folder / f"{name}.log",
            working_folder=CHECKOUT,
            user_id=identity.user_id,
            group_id=identity.group_id,
        )
    )
    try:
        yield child
    finally:
        child.stop()


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    """Leave the text in a file of that mode."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path
