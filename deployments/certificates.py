"""Makes the certificates of infra/compose.yaml and hands each to the container that may read it.

    python -m deployments.certificates AUTHORITY HANDED --domain data.example

AUTHORITY is the folder of `python -m infra.tls`: its CA's key is for this command alone. In HANDED
each service finds a folder of its own: its certificate and key, and the CA's certificate, which
also stands in `ca` for clients. Run it again to renew what ends within thirty days:
`docker compose --file infra/compose.yaml run --rm certificates`. On a host without containers
`--owner postgres=postgres --owner proxy=root` says which services there are, and who reads the key.
"""

import argparse
import os
import pwd
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deployments.secrets import CONTAINER_USERS, DOMAIN
from infra.tls.authority import Authority
from schemas.errors import SettingError, SluicewayError

CLIENTS = "ca"
_KEY_MODE = 0o400
_OPEN_MODE = 0o444
_FOLDER_MODE = 0o755


@dataclass(frozen=True, slots=True)
class Certificate:
    """For which names it is, and who reads its key."""

    names: tuple[str, ...]
    """Within the domain."""
    reader: str
    is_local: bool = False
    """Whether it is good for `localhost` too."""


CERTIFICATES: Mapping[str, Certificate] = {
    "postgres": Certificate(("postgres",), "postgres"),
    # Its controller listens on loopback, and is spoken to by TLS all the same.
    "kafka": Certificate(("kafka",), "kafka", is_local=True),
    "proxy": Certificate(("dashboard", "prefect", "grafana"), "proxy"),
}


Owner = tuple[int, int]
"""Numbers of a user and a group."""
CONTAINER_OWNERS: Mapping[str, Owner | None] = {
    name: (CONTAINER_USERS[each.reader],) * 2 for name, each in CERTIFICATES.items()
}


def find_owners(given: Sequence[str]) -> dict[str, Owner | None]:
    """Return the owners that SERVICE=USER names; raises SettingError for one that is unknown."""
    found: dict[str, Owner | None] = {}
    for each in given:
        service, _, user = each.partition("=")
        if service not in CERTIFICATES:
            raise SettingError(
                f"'{each}' names no service: take one of {', '.join(CERTIFICATES)}, as in "
                "postgres=postgres."
            )
        try:
            known = pwd.getpwnam(user)
        except KeyError:
            raise SettingError(
                f"This host has no user '{user}': name in {service}=USER who reads its key."
            ) from None
        found[service] = (known.pw_uid, known.pw_gid)
    return found


def hand_out(
    authority_folder: Path,
    handed: Path,
    domain: str,
    owners: Mapping[str, Owner | None],
) -> list[str]:
    """Leave each service's certificate and key in its folder; returns a sentence for each.

    owners: who owns the key, by service, which needs the right to give files away; None: whoever
    runs this. Services that are not named get none.
    """
    authority = Authority(authority_folder)
    said = []
    for service, owner in owners.items():
        certificate = CERTIFICATES[service]
        hosts = [f"{name}.{domain}" for name in certificate.names]
        issued = authority.issue(
            service, [*hosts, *(["localhost"] if certificate.is_local else [])]
        )
        folder = handed / service
        # The key first, as the authority does: who reads in between tries again.
        _copy(authority_folder / f"{service}.key", folder / "key.pem", _KEY_MODE, owner)
        _copy(authority_folder / f"{service}.pem", folder / "certificate.pem", _OPEN_MODE, owner)
        _copy(authority.certificate_file, folder / "ca.pem", _OPEN_MODE, owner)
        verb = "made now" if issued.is_new else "kept"
        said.append(f"{service}  for {', '.join(issued.hosts)}  ends {issued.ends_at:%F}  {verb}")
    _copy(authority.certificate_file, handed / CLIENTS / "ca.pem", _OPEN_MODE, None)
    return said


def _copy(source: Path, target: Path, mode: int, owner: Owner | None) -> None:
    """Leave the file there whole, with its mode and owner before it has its name."""
    target.parent.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
    draft = target.with_name(f"{target.name}.new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(source.read_bytes())
    if owner is not None:
        os.chown(draft, *owner)
    draft.chmod(mode)
    draft.replace(target)


def main() -> None:
    """Make, renew and hand out; exits with a sentence when it cannot."""
    parser = argparse.ArgumentParser(
        prog="python -m deployments.certificates",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("authority", type=Path)
    parser.add_argument("handed", type=Path)
    parser.add_argument("--domain", default=DOMAIN)
    parser.add_argument(
        "--owner",
        action="append",
        metavar="SERVICE=USER",
        help="of this host; by default the users of the containers",
    )
    given = parser.parse_args()
    try:
        owners = find_owners(given.owner) if given.owner else CONTAINER_OWNERS
        for line in hand_out(given.authority, given.handed, given.domain, owners):
            sys.stdout.write(f"{line}\n")
    except SluicewayError as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(f"The certificates cannot be handed out ({error}): run it as root.")


if __name__ == "__main__":
    main()
