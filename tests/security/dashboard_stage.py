"""Dashboards over TLS to PostgreSQL, with a login and without, as they are and weakened."""

import http.client
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import asyncpg
from itsdangerous import TimestampSigner
from pydantic import SecretStr

from dash_app.access.accounts import read_accounts
from dash_app.access.passwords import PasswordHash, derive
from dash_app.access.sessions import COOKIE, SESSION_SECONDS, Sessions, make_serializer
from infra.postgres.connection import connect
from infra.settings import DashboardUser, Settings
from tests.bench.dashboard_browser import Browser
from tests.browser.dashboards import Dashboard
from tests.browser.hostile import fill_with_hostile_text
from tests.security.session import Session

SECRET = "only for this check, and long enough to sign with"
PASSWORDS = {"ada": "the viewer's password", "otto": "the operator's password"}
ROLES = {"ada": "viewer", "otto": "operator"}
FORM = "application/x-www-form-urlencoded"
WHO = {
    "output": "who.children",
    "outputs": {"id": "who", "property": "children"},
    "inputs": [{"id": "address", "property": "pathname", "value": "/"}],
    "changedPropIds": ["address.pathname"],
    "state": [],
}
"""Asks for the name that stands at the top of each page."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a dashboard answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode(errors="replace")


@dataclass(frozen=True, slots=True)
class Site:
    """A dashboard, and the cookie that one goes to it with."""

    address: str
    cookie: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """Return the answer to exactly this path: nothing of it is tidied up."""
        given = {**self.headers, **headers}
        if self.cookie:
            given["Cookie"] = self.cookie
        connection = http.client.HTTPConnection(urlsplit(self.address).netloc, timeout=30)
        try:
            connection.putrequest(
                method, path, skip_host="Host" in given, skip_accept_encoding=True
            )
            for name, value in given.items():
                connection.putheader(name.replace("_", "-"), value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    def post(self, question: Any, **headers: str) -> Answer:
        """Return the answer to a callback's question."""
        body = json.dumps(question).encode()
        return self.ask(
            "POST", "/_dash-update-component", body, Content_Type="application/json", **headers
        )

    def log_in(self, name: str, password: str, *, client: str, then: str = "/") -> Answer:
        """Return the answer to the login's form, as a proxy passes it on for that client."""
        fields = urlencode({"name": name, "password": password, "next": then}).encode()
        return self.ask("POST", "/login", fields, Content_Type=FORM, X_Forwarded_For=client)


def expect_success(answer: Answer) -> str:
    """Return the beginning of what was answered; raises RuntimeError where that is an error."""
    if answer.status != 200:
        raise RuntimeError(f"it is answered {answer.status}: {answer.text[:100]}")
    return answer.text[:60]


class LoggedIn(Browser):
    """A browser with a session, if the site asks for one."""

    def __init__(self, site: Site) -> None:
        super().__init__(site.address)
        if site.cookie:
            self._client.headers["Cookie"] = site.cookie


@dataclass(frozen=True, slots=True)
class Stage:
    """The dashboards, and their database."""

    session: Session
    guarded: str
    """Addresses."""
    weak: str
    unlocked: str
    """Without users: for this machine alone."""
    weak_unlocked: str
    owner: asyncpg.Connection
    settings: Settings
    """Of the first two: who signs cookies needs them."""
    server_log: Path
    """PostgreSQL's own."""

    def cookie_of(self, name: str, *, secret: str = SECRET) -> str:
        """Return the cookie of that user's new session."""
        settings = self.settings.model_copy(update={"dashboard_secret": SecretStr(secret)})
        accounts = read_accounts(settings)
        return f"{COOKIE}={Sessions(accounts, secret).begin(accounts[name])}"

    def site(self, address: str, name: str) -> Site:
        """Return a dashboard as that user sees it."""
        return Site(address, self.cookie_of(name))

    def altered_cookie(self) -> str:
        """Return a viewer's cookie, in which an operator's name stands."""
        token = self.cookie_of("ada").partition("=")[2]
        payload = make_serializer(SECRET).loads(token)
        named = make_serializer("of no matter").dumps(["otto", *payload[1:]])
        _, _, signature = token.partition(".")
        return f"{COOKIE}={str(named).partition('.')[0]}.{signature}"

    def expired_cookie(self) -> str:
        """Return an operator's cookie that has been good for as long as they are."""

        class Then(TimestampSigner):
            def get_timestamp(self) -> int:
                return int(time.time()) - SESSION_SECONDS - 60

        token = self.cookie_of("otto").partition("=")[2]
        payload = make_serializer(SECRET).loads(token)
        return f"{COOKIE}={make_serializer(SECRET, signer=Then).dumps(payload)!s}"


class WeakDashboard(Dashboard):
    """The same, weakened."""

    module = "tests.security.weak_dashboard"


@asynccontextmanager
async def open_stage(session: Session) -> AsyncIterator[Stage]:
    """Start the dashboards over hostile rows, and see that who may look does."""
    server = await session.postgres()
    owner = await connect(session.url())
    try:
        await fill_with_hostile_text(owner)
        reader = session.url("sluiceway_reader")
        users = {name: _make_user(name) for name in PASSWORDS}
        given = {
            "dashboard_secret": SECRET,
            "dashboard_users": json.dumps(
                {
                    name: {
                        "password_hash": each.password_hash.get_secret_value(),
                        "role": each.role,
                    }
                    for name, each in users.items()
                }
            ),
        }
        folder = session.folder / "dashboards"
        with (
            Dashboard(folder / "guarded", reader, **given) as guarded,
            WeakDashboard(folder / "weak", reader, **given) as weak,
            Dashboard(folder / "unlocked", reader) as unlocked,
            WeakDashboard(folder / "weak-unlocked", reader) as weak_unlocked,
        ):
            stage = Stage(
                session,
                guarded.address,
                weak.address,
                unlocked.address,
                weak_unlocked.address,
                owner,
                Settings(dashboard_users=users, dashboard_secret=SecretStr(SECRET)),
                server.log,
            )
            for name, role in ROLES.items():
                said = stage.site(guarded.address, name).post(WHO).text
                if f"{name} ({role})" not in said:
                    raise RuntimeError(f"the dashboard does not know {name}: {said[:200]}")
            yield stage
    finally:
        await owner.close()


def _make_user(name: str) -> DashboardUser:
    salt = b"only for checks!"
    made = PasswordHash(14, 1, salt, derive(PASSWORDS[name], salt, 14, 1))
    return DashboardUser(password_hash=SecretStr(made.text), role=ROLES[name])
