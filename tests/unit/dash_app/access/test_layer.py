"""The layer around an application of five lines; the dashboard itself is in tests/integration."""

from typing import Any

import pytest
from pydantic import SecretStr
from starlette.responses import PlainTextResponse
from structlog.testing import capture_logs

from dash_app.access.accounts import read_accounts
from dash_app.access.layer import AccessLayer
from dash_app.access.sessions import COOKIE, Sessions
from dash_app.access.users import OPEN_USER, User, current_user
from infra.settings import DashboardUser, Settings

HASH = "scrypt:14:8:1:AAECAwQFBgcICQoLDA0ODw:" + "A" * 43
OPEN = Settings()
CLOSED = Settings(
    dashboard_users={"ada": DashboardUser(password_hash=SecretStr(HASH))},
    dashboard_secret=SecretStr("s" * 32),
)


class Inner:
    """Remembers who it answered."""

    def __init__(self) -> None:
        self.users: list[User] = []
        self.scopes: list[str] = []
        self.received: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope["type"])
        if scope["type"] == "lifespan":
            return
        self.users.append(current_user())
        if scope["type"] == "http":
            await PlainTextResponse("inside")(scope, receive, send)
            return
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] != "websocket.disconnect":
            self.received.append(message.get("text"))


class Peer:
    """The server's side of one connection."""

    def __init__(self, *incoming: dict[str, Any]) -> None:
        self.incoming = list(incoming)
        self.sent: list[dict[str, Any]] = []

    async def receive(self) -> dict[str, Any]:
        return self.incoming.pop(0)

    async def send(self, message: Any) -> None:
        self.sent.append(dict(message))

    async def ask(self, layer: AccessLayer, scope: dict[str, Any]) -> Any:
        await layer(scope, self.receive, self.send)
        return self.sent[0].get("status", self.sent[0]["type"])


def make(kind: str = "http", **more: Any) -> dict[str, Any]:
    return {
        "type": kind,
        "path": "/runs",
        "scheme": "http",
        "client": ("127.0.0.1", 4000),
        "headers": [(b"host", b"127.0.0.1:8050"), (b"origin", b"http://127.0.0.1:8050")],
        **({"method": "GET"} if kind == "http" else {}),
    } | more


def cookie_of(settings: Settings) -> tuple[bytes, bytes]:
    accounts = read_accounts(settings)
    sessions = Sessions(accounts, settings.dashboard_secret.get_secret_value())
    return b"cookie", f"{COOKIE}={sessions.begin(accounts['ada'])}".encode()


def guard(inner: Any, settings: Settings) -> AccessLayer:
    return AccessLayer(inner, settings, inline_scripts=tuple)


@pytest.fixture
def inner() -> Inner:
    return Inner()


async def test_open_to_this_machine_everybody_is_an_operator_without_a_name(inner) -> None:
    assert await Peer().ask(guard(inner, OPEN), make()) == 200
    assert inner.users == [OPEN_USER]
    assert OPEN_USER.is_operator


@pytest.mark.parametrize("path", ["/login", "/logout"])
async def test_where_nobody_logs_in_the_login_leads_to_the_first_page(inner, path) -> None:
    peer = Peer()
    assert await peer.ask(guard(inner, OPEN), make(path=path, method="POST")) == 303
    assert (b"location", b"/") in peer.sent[0]["headers"]


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize(
    "change",
    [
        {"headers": [(b"host", b"evil.example"), (b"origin", b"http://evil.example")]},
        {"client": ("192.168.1.4", 4000)},
        {"client": None},
        {"headers": []},
    ],
    ids=["name that leads here", "proxied", "unknown", "no host"],
)
async def test_open_to_this_machine_is_closed_to_others(inner, kind, change) -> None:
    answer = await Peer().ask(guard(inner, OPEN), make(kind, **change))
    assert answer in {403, 400, "websocket.close"}
    assert inner.users == []


async def test_after_a_request_there_is_no_user(inner) -> None:
    await Peer().ask(guard(inner, OPEN), make())
    with pytest.raises(PermissionError):
        current_user()


async def test_a_users_name_is_gone_even_where_the_application_fails() -> None:
    async def fail(*_: Any) -> None:
        raise ValueError(current_user().name)

    with pytest.raises(ValueError, match=r"^$"):
        await Peer().ask(guard(fail, OPEN), make())
    with pytest.raises(PermissionError):
        current_user()


async def test_the_lifespan_passes(inner) -> None:
    await guard(inner, CLOSED)({"type": "lifespan"}, Peer().receive, Peer().send)
    assert inner.scopes == ["lifespan"]


async def test_what_is_neither_http_nor_a_websocket_does_not_pass(inner) -> None:
    with pytest.raises(RuntimeError, match="does not speak webtransport"):
        await Peer().ask(guard(inner, OPEN), make("webtransport"))
    assert inner.scopes == []


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize("broken", ["path", "headers", "method"])
async def test_a_request_that_cannot_be_understood_is_refused(inner, kind, broken) -> None:
    scope = make(kind, method="GET")
    del scope[broken]
    if (kind, broken) == ("websocket", "method"):
        scope["headers"] = None  # a WebSocket has none
    assert await Peer().ask(guard(inner, OPEN), scope) in {500, "websocket.close"}
    assert inner.users == []


@pytest.mark.parametrize("settings", [OPEN, CLOSED], ids=["open", "closed"])
async def test_whatever_fails_while_a_request_is_looked_at_refuses_it(
    inner, monkeypatch, settings
) -> None:
    def fail(*_: Any) -> None:
        raise KeyError("s" * 32)

    monkeypatch.setattr("dash_app.access.layer.check_local", fail)
    monkeypatch.setattr("dash_app.access.login.read_cookie", fail)
    peer = Peer()
    assert await peer.ask(guard(inner, settings), make()) == 500
    assert b"sss" not in peer.sent[1]["body"]
    assert inner.users == []


async def test_a_form_that_breaks_off_is_no_failure_of_the_dashboard(inner) -> None:
    scope = make(path="/login", method="POST")
    scope["headers"].append((b"content-type", b"application/x-www-form-urlencoded"))
    peer = Peer(
        {"type": "http.request", "body": b"name=ada", "more_body": True},
        {"type": "http.disconnect"},
    )
    with capture_logs() as lines:
        assert await peer.ask(guard(inner, CLOSED), scope) == 400
    assert lines == []


@pytest.mark.parametrize(
    ("extensions", "answer"),
    [({"websocket.http.response": {}}, 401), ({}, "websocket.close"), (None, "websocket.close")],
)
async def test_strangers_websockets_are_refused_before_they_are_accepted(
    inner, extensions, answer
) -> None:
    peer = Peer()
    scope = make("websocket") | ({} if extensions is None else {"extensions": extensions})
    assert await peer.ask(guard(inner, CLOSED), scope) == answer
    assert not any(each["type"] == "websocket.accept" for each in peer.sent)
    assert inner.users == []


async def test_a_websocket_ends_with_its_session(inner, monkeypatch) -> None:
    layer = guard(inner, CLOSED)
    scope = make("websocket")
    scope["headers"] = [*scope["headers"], cookie_of(CLOSED)]
    peer = Peer(
        {"type": "websocket.connect"},
        {"type": "websocket.receive", "text": "within the session"},
        {"type": "websocket.receive", "text": "after it"},
    )
    receive = peer.receive

    async def receive_and_end() -> dict[str, Any]:
        message = await receive()
        if message.get("text") == "after it":
            monkeypatch.setattr("dash_app.access.sessions.SESSION_SECONDS", -1)
        return message

    peer.receive = receive_and_end  # type: ignore[method-assign]
    await peer.ask(layer, scope)
    assert inner.received == [None, "within the session"]
    assert [each["type"] for each in peer.sent] == ["websocket.accept", "websocket.close"]
    assert peer.sent[1]["code"] == 1008


def test_nothing_of_a_secret_is_in_a_repr(inner) -> None:
    layer = guard(inner, CLOSED)
    assert "sss" not in repr(vars(layer))
    assert "AAAA" not in repr(vars(layer))
