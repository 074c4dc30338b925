import pytest
from pydantic import SecretStr

from dash_app.access.accounts import read_accounts
from dash_app.access.users import Role, User
from infra.settings import DashboardUser, Settings
from schemas.errors import SettingError

HASH = "scrypt:14:8:1:AAECAwQFBgcICQoLDA0ODw:" + "A" * 43
SECRET = "s" * 32
EVERYWHERE = "0.0.0.0"  # noqa: S104 - nothing is bound to it here


def make(
    host: str = "127.0.0.1", users: dict[str, str] | None = None, secret: str = ""
) -> Settings:
    known = {
        name: DashboardUser(password_hash=SecretStr(text), role="operator")
        for name, text in (users or {}).items()
    }
    return Settings(dashboard_host=host, dashboard_users=known, dashboard_secret=SecretStr(secret))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.53", "::1", "localhost", "LOCALHOST"])
def test_without_users_a_loopback_address_is_open(host) -> None:
    assert read_accounts(make(host)) == {}


@pytest.mark.parametrize(
    "host",
    [
        EVERYWHERE,
        "::",
        "",
        "192.168.1.4",
        "dashboard.example",
        "localhost.example",
        "127.0.0.1.nip",
    ],
)
def test_without_users_any_other_address_is_refused_with_what_to_do(host) -> None:
    with pytest.raises(SettingError) as told:
        read_accounts(make(host))
    for part in (host, "SLUICEWAY_DASHBOARD_USERS", "python -m dash_app.access.passwords"):
        assert part in str(told.value)


@pytest.mark.parametrize("host", ["127.0.0.1", EVERYWHERE])
@pytest.mark.parametrize("secret", ["", "s" * 31])
def test_users_need_a_secret(host, secret) -> None:
    with pytest.raises(SettingError) as told:
        read_accounts(make(host, {"ada": HASH}, secret))
    for part in ("SLUICEWAY_DASHBOARD_SECRET", "32", "secrets.token_urlsafe(32)"):
        assert part in str(told.value)


@pytest.mark.parametrize("text", ["", "my password", "$2b$12$x", HASH + "A"])
def test_a_hash_that_is_none_is_refused_by_its_users_name(text) -> None:
    with pytest.raises(SettingError) as told:
        read_accounts(make(users={"ada": HASH, "otto": text}, secret=SECRET))
    assert "password_hash of otto" in str(told.value)
    assert "python -m dash_app.access.passwords" in str(told.value)
    assert not text or text not in str(told.value)
    assert told.value.__cause__ is None


def test_nobody_is_called_nothing() -> None:
    """That is the name of whoever looks where nobody logs in."""
    with pytest.raises(SettingError, match="no name"):
        read_accounts(make(users={"": HASH}, secret=SECRET))


def test_accounts_have_their_roles() -> None:
    settings = Settings(
        dashboard_users={
            "ada": DashboardUser(password_hash=SecretStr(HASH)),
            "otto": DashboardUser(password_hash=SecretStr(HASH), role="operator"),
        },
        dashboard_secret=SecretStr(SECRET),
    )
    found = read_accounts(settings)
    assert [each.user for each in found.values()] == [
        User("ada", Role.VIEWER),
        User("otto", Role.OPERATOR),
    ]
    assert HASH[-43:] not in repr(found)
