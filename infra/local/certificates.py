"""The CA of a stack that speaks TLS, and a certificate for each of its services."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from infra.local.ports import LOOPBACK
from infra.tls.authority import Authority

SERVICES = ("postgres", "kafka", "prefect", "dashboard", "exporter")
HOSTS = (LOOPBACK, "localhost")


@dataclass(frozen=True, slots=True)
class Pair:
    """What a service shows who it is by."""

    certificate_file: Path
    key_file: Path


@dataclass(frozen=True, slots=True)
class Certificates:
    """A folder with them, each for this machine alone; whoever trusts `ca_file` believes them."""

    ca_file: Path

    @property
    def libpq_variables(self) -> dict[str, str]:
        """What makes psql sure of whom it speaks to."""
        return {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": str(self.ca_file)}

    @property
    def libpq_query(self) -> str:
        """What an address of PostgreSQL ends with that asks for the same."""
        return f"sslmode=verify-full&sslrootcert={quote(str(self.ca_file))}"

    def pair(self, service: str) -> Pair:
        """Return the files of one of SERVICES."""
        folder = self.ca_file.parent
        return Pair(folder / f"{service}.pem", folder / f"{service}.key")


def issue_certificates(folder: Path) -> Certificates:
    """Leave a CA and every service's certificate in the folder; what ends soon is made anew."""
    authority = Authority(folder)
    for each in SERVICES:
        authority.issue(each, HOSTS)
    return Certificates(authority.certificate_file)
