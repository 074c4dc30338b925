"""Makes or renews the certificates of a folder: `python -m infra.tls FOLDER postgres=db.example`.

Without services it renews what ends within thirty days, and lists all. Services take a renewed
certificate when they are told: docs/encryption.md says how each is.
"""

import argparse
import sys
from pathlib import Path

from infra.tls.authority import Authority
from schemas.errors import SettingError, SluicewayError


def _run(folder: Path, services: list[str]) -> None:
    authority = Authority(folder)
    issued = authority.renew()
    for each in services:
        name, _, hosts = each.partition("=")
        if not hosts:
            raise SettingError(f"'{each}' names no host: write it as {name}=host,other-host.")
        made = authority.issue(name, hosts.split(","))
        issued = [other for other in issued if other.name != made.name] + [made]
    print(f"CA  {authority.certificate_file}  ends {authority.certificate.not_valid_after_utc:%F}")  # noqa: T201 - the command's answer
    for one in issued:
        said = "made now" if one.is_new else "kept"
        print(f"{one.name}  for {', '.join(one.hosts)}  ends {one.ends_at:%F}  {said}")  # noqa: T201


def main() -> None:
    """Make or renew certificates; exits with a sentence when it cannot."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.tls", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("folder", type=Path, help="of the CA and its certificates; private")
    parser.add_argument("services", nargs="*", metavar="NAME=HOST[,HOST]")
    given = parser.parse_args()
    try:
        _run(given.folder, given.services)
    except SluicewayError as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(f"{given.folder} cannot be used ({error}): name a folder that you may write.")


if __name__ == "__main__":
    main()
