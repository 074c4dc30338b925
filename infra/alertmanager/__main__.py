"""python -m infra.alertmanager FOLDER: write Alertmanager's configuration for this installation."""

import argparse
import sys
from pathlib import Path

from infra.alertmanager.configuration import write_configuration
from infra.settings import read_settings
from schemas.errors import SluicewayError


def main() -> None:
    """Write it, and say where; a setting that cannot be used is one sentence and exit code 1."""
    parser = argparse.ArgumentParser(prog="python -m infra.alertmanager", description=__doc__)
    parser.add_argument("folder", type=Path, help="where alertmanager.yml is to stand")
    parser.add_argument(
        "--password-file", type=Path, help="where the SMTP password stands already, as a secret"
    )
    given = parser.parse_args()
    try:
        settings = read_settings()
        path = write_configuration(settings, given.folder, password_file=given.password_file)
    except SluicewayError as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(f"{given.folder} cannot be used ({error}): name a folder that you may write.")
    whom = (
        ", ".join(settings.mail_to)
        if settings.smtp_host
        else "nobody, as SLUICEWAY_SMTP_HOST is not set"
    )
    sys.stdout.write(f"{path} is written; mails go to {whom}.\n")


if __name__ == "__main__":
    main()
