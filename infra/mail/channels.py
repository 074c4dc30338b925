"""Which channels the settings ask for, and whether what they say can work."""

import hashlib
import ssl
from typing import Literal

from infra.mail.apprise import check_urls
from infra.mail.message import address_of
from infra.mail.smtp import make_tls
from infra.postgres.connection import LOOPBACK
from infra.settings import Settings
from schemas.errors import SettingError

Channel = Literal["mail", "apprise"]


def check_channels(settings: Settings) -> tuple[Channel, ...]:
    """Return the channels that are set up, mail first; raises SettingError for one that is wrong.

    Asks no server.
    """
    channels: list[Channel] = []
    if settings.smtp_host:
        _check_mail(settings)
        channels.append("mail")
    if settings.notify_urls:
        check_urls(addresses_of("apprise", settings))
        channels.append("apprise")
    return tuple(channels)


def addresses_of(channel: Channel, settings: Settings) -> tuple[str, ...]:
    """Return whom the channel reaches: mail addresses, or URLs with their secrets."""
    if channel == "mail":
        return settings.mail_to
    return tuple(each.get_secret_value() for each in settings.notify_urls)


def digest_of(address: str) -> str:
    """Return what stands for the address in the database, where it is nobody's business."""
    return hashlib.sha256(address.strip().lower().encode()).hexdigest()[:16]


def _check_mail(settings: Settings) -> None:
    if not settings.mail_to:
        raise SettingError(
            "SLUICEWAY_SMTP_HOST is set, and SLUICEWAY_MAIL_TO names nobody: set it to a list as "
            '["ops@example.com"].'
        )
    for name, given in (("MAIL_FROM", (settings.mail_from,)), ("MAIL_TO", settings.mail_to)):
        for each in given:
            if not each.isprintable() or "@" not in address_of(each):
                raise SettingError(
                    f"SLUICEWAY_{name} holds something that is no mail address: write "
                    "ops@example.com or Operations <ops@example.com>."
                )
    if settings.smtp_security == "none" and settings.smtp_host not in LOOPBACK:
        raise SettingError(
            f"SLUICEWAY_SMTP_SECURITY=none would send mail and password in clear to "
            f"{settings.smtp_host}: only this machine is spoken to so; set it to starttls or tls."
        )
    if settings.smtp_user and not settings.smtp_password.get_secret_value():
        raise SettingError(
            "SLUICEWAY_SMTP_USER is set without SLUICEWAY_SMTP_PASSWORD: set both, or neither."
        )
    try:
        make_tls(settings)
    except (OSError, ssl.SSLError) as error:
        raise SettingError(
            f"SLUICEWAY_SMTP_CA_FILE cannot be used ({error}): name a file with the certificate of "
            "the CA in PEM."
        ) from None
