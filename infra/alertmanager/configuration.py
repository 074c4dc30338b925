"""Writes Alertmanager's configuration with the mail server and the addresses of the settings.

Alertmanager reads no environment, so the committed `alertmanager.yml` names a server that does not
exist. Its routes and inhibitions are taken as they are, and secrets stay outside of it.
"""

import shutil
from pathlib import Path
from typing import Any

import yaml

from infra.local.folder import PRIVATE_FOLDER, write_privately
from infra.settings import Settings
from schemas.errors import SettingError

SOURCE_FOLDER = Path(__file__).parent
CONFIGURATION = "alertmanager.yml"
PASSWORD = "smtp_password"  # noqa: S105 - the file's name
TEMPLATES = "templates"
IMPLICIT_TLS_PORT = 465
"""Alertmanager speaks TLS from the first byte on this port, and on no other."""


def write_configuration(
    settings: Settings, folder: Path, *, password_file: Path | None = None
) -> Path:
    """Leave alertmanager.yml and all it names in the folder; returns the file's path.

    password_file: where the SMTP password stands, as a secret that a container mounts; by default
    the setting's is written beside the configuration, readable by its owner only.
    Without a mail server in the settings, alerts are shown by Alertmanager and mailed to nobody.
    Raises SettingError for settings that Alertmanager cannot follow.
    """
    own = (folder / PASSWORD).absolute()
    configuration = compose_configuration(settings, password_file or own)
    folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    if settings.smtp_host and settings.smtp_user and password_file is None:
        write_privately(own, settings.smtp_password.get_secret_value())
    else:
        own.unlink(missing_ok=True)
    shutil.copytree(SOURCE_FOLDER / TEMPLATES, folder / TEMPLATES, dirs_exist_ok=True)
    path = folder / CONFIGURATION
    text = yaml.safe_dump(configuration, sort_keys=False, allow_unicode=True)
    write_privately(path, f"# Written by `python -m infra.alertmanager`.\n{text}")
    return path


def compose_configuration(settings: Settings, password_file: Path) -> dict[str, Any]:
    """Return the configuration as Alertmanager's YAML has it.

    password_file: an absolute path. Alertmanager 0.25 looks for a relative one in the folder that
    it was started in, and says so at its first mail only.
    """
    given: dict[str, Any] = yaml.safe_load((SOURCE_FOLDER / CONFIGURATION).read_text("utf-8"))
    overall = given["global"]
    for name in [each for each in overall if each.startswith("smtp_")]:
        del overall[name]
    if not settings.smtp_host:
        for receiver in given["receivers"]:
            receiver.pop("email_configs", None)
        return given
    _check_mail(settings)
    overall["smtp_smarthost"] = f"{settings.smtp_host}:{settings.smtp_port}"
    overall["smtp_from"] = settings.mail_from
    overall["smtp_require_tls"] = settings.smtp_security == "starttls"
    if settings.smtp_user:
        overall["smtp_auth_username"] = settings.smtp_user
        overall["smtp_auth_password_file"] = str(password_file)
    for receiver in given["receivers"]:
        for mail in receiver["email_configs"]:
            mail["to"] = ", ".join(settings.mail_to)
            if settings.smtp_ca_file is not None:
                mail["tls_config"] = {"ca_file": str(settings.smtp_ca_file.absolute())}
    return given


def _check_mail(settings: Settings) -> None:
    if not settings.mail_to:
        raise SettingError(
            "SLUICEWAY_SMTP_HOST is set and SLUICEWAY_MAIL_TO is not: say who gets the mails, as "
            'in SLUICEWAY_MAIL_TO=["ops@example.com"].'
        )
    if (settings.smtp_security == "tls") != (settings.smtp_port == IMPLICIT_TLS_PORT):
        raise SettingError(
            f"Alertmanager speaks TLS from the first byte on port {IMPLICIT_TLS_PORT} and on no "
            f"other: set SLUICEWAY_SMTP_PORT={IMPLICIT_TLS_PORT} with SLUICEWAY_SMTP_SECURITY=tls, "
            "and another port, as 587, with starttls."
        )
