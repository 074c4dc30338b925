"""The accounts that the settings name, and whether the dashboard may do without any."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass

from dash_app.access.passwords import PasswordHash
from dash_app.access.users import Role, User
from infra.settings import Settings
from schemas.errors import SettingError

SHORTEST_SECRET = 32
_HASH_COMMAND = "`python -m dash_app.access.passwords`"
_SECRET_COMMAND = '`python -c "import secrets; print(secrets.token_urlsafe(32))"`'  # noqa: S105 - how to make one


@dataclass(frozen=True, slots=True)
class Account:
    """A user with what is known of their password."""

    user: User
    password: PasswordHash


def read_accounts(settings: Settings) -> Mapping[str, Account]:
    """Return the accounts by name; none where the dashboard is open to this machine alone.

    Raises SettingError where strangers could come in.
    """
    users = settings.dashboard_users
    if not users:
        if not is_loopback(settings.dashboard_host):
            raise SettingError(
                f"Without users the dashboard is open to whoever reaches "
                f"{settings.dashboard_host or 'every address'}: set SLUICEWAY_DASHBOARD_USERS to "
                '{"ada": {"password_hash": "…", "role": "operator"}} with a hash made by '
                f"{_HASH_COMMAND}, or SLUICEWAY_DASHBOARD_HOST to 127.0.0.1."
            )
        return {}
    if len(settings.dashboard_secret.get_secret_value()) < SHORTEST_SECRET:
        raise SettingError(
            f"Sessions need a secret of at least {SHORTEST_SECRET} characters: set "
            f"SLUICEWAY_DASHBOARD_SECRET to what {_SECRET_COMMAND} prints."
        )
    found = {}
    for name, given in users.items():
        if not name:
            raise SettingError("A user in SLUICEWAY_DASHBOARD_USERS has no name: give them one.")
        try:
            password = PasswordHash.parse(given.password_hash.get_secret_value())
        except ValueError:
            raise SettingError(
                f"The password_hash of {name} in SLUICEWAY_DASHBOARD_USERS is no hash of ours: "
                f"make one by {_HASH_COMMAND}."
            ) from None
        found[name] = Account(User(name, Role(given.role)), password)
    return found


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches the address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
