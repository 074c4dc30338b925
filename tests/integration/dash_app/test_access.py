"""The login around the whole dashboard, over a real server. PostgreSQL is not asked for it."""

import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import uvicorn
from itsdangerous import TimestampSigner
from pydantic import SecretStr
from starlette.routing import Route, WebSocketRoute
from structlog.testing import capture_logs
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from dash_app.__main__ import configure_server, listen, main
from dash_app.access import login, passwords
from dash_app.access.accounts import read_accounts
from dash_app.access.headers import SECURITY_HEADERS, script_hash
from dash_app.access.layer import AccessLayer
from dash_app.access.passwords import PasswordHash, derive
from dash_app.access.sessions import COOKIE, SESSION_SECONDS, Sessions, make_serializer
from dash_app.application import build
from infra.settings import DashboardUser, Settings
from schemas.errors import SettingError

SECRET = "only for tests, and long enough to sign with"
TLS = ssl.create_default_context()  # made once: that takes longer than a request, and none uses it
PASSWORDS = {"ada": "the viewer's password", "otto": "the operator's password"}


def make_hash(password: str) -> SecretStr:
    """Return a hash of the least cost that is allowed: these tests check many."""
    salt = b"only for tests !"
    return SecretStr(PasswordHash(14, 1, salt, derive(password, salt, 14, 1)).text)


USERS = {
    "ada": DashboardUser(password_hash=make_hash(PASSWORDS["ada"])),
    "otto": DashboardUser(password_hash=make_hash(PASSWORDS["otto"]), role="operator"),
}
OPEN = Settings(
    reader_database_url=SecretStr("postgresql://sluiceway_reader:x@127.0.0.1:1/x"),
    dashboard_port=0,
)
CLOSED = OPEN.model_copy(update={"dashboard_users": USERS, "dashboard_secret": SecretStr(SECRET)})


@dataclass(frozen=True)
class Running:
    """A dashboard that answers."""

    server: uvicorn.Server
    thread: threading.Thread
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        with httpx.Client(base_url=self.url, trust_env=False, verify=TLS) as client:
            return client.request(method, path, **more)

    def connect(self, **headers: str) -> Any:
        given = {"Origin": self.url} | headers
        origin = given.pop("Origin")
        return connect(
            f"ws://127.0.0.1:{self.port}/_dash-ws-callback",
            origin=origin,  # type: ignore[arg-type]
            additional_headers=given,
            proxy=None,
        )

    def send_raw(self, *parts: bytes) -> bytes:
        """Send exactly this, and return all that is answered."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as peer:
            for part in parts:
                peer.sendall(part)
            answer = b""
            try:
                while piece := peer.recv(65536):
                    answer += piece
            except ConnectionResetError:
                pass  # the rest of what was sent is not waited for
            return answer


@contextmanager
def serve(application: Any) -> Iterator[Running]:
    listening = listen(OPEN)
    server = uvicorn.Server(configure_server(application))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield Running(server, thread, listening.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(timeout=60)


@pytest.fixture(scope="module")
def application() -> AccessLayer:
    built = build(CLOSED)
    assert isinstance(built, AccessLayer)
    return built


@pytest.fixture(scope="module")
def inside(application) -> Any:
    """The dashboard without its login."""
    return vars(application)["_app"]


@pytest.fixture(scope="module")
def running(application) -> Iterator[Running]:
    with serve(application) as found:
        yield found


@pytest.fixture(scope="module")
def open_running(inside) -> Iterator[Running]:
    with serve(AccessLayer(inside, OPEN)) as found:
        yield found


def begin(name: str, settings: Settings = CLOSED) -> str:
    accounts = read_accounts(settings)
    secret = settings.dashboard_secret.get_secret_value()
    return Sessions(accounts, secret).begin(accounts[name])


def change(**update: Any) -> Settings:
    return CLOSED.model_copy(update=update)


def make_expired() -> str:
    class Then(TimestampSigner):
        def get_timestamp(self) -> int:
            return int(time.time()) - SESSION_SECONDS - 2

    payload = make_serializer(SECRET).loads(begin("otto"))
    return str(make_serializer(SECRET, signer=Then).dumps(payload))


def tamper(token: str) -> str:
    payload, dot, rest = token.partition(".")
    return f"{payload[:-1]}{'A' if payload[-1] != 'A' else 'B'}{dot}{rest}"


STRANGERS: dict[str, Callable[[], str | None]] = {
    "stranger": lambda: None,
    "empty": lambda: f"{COOKIE}=",
    "forged": lambda: f"{COOKIE}=otto",
    "forged in shape": lambda: f"{COOKIE}=WyJvdHRvIiwiIiwiIl0.aaaaaa." + "A" * 43,
    "unsigned": lambda: f"{COOKIE}={begin('otto').rpartition('.')[0]}",
    "expired": lambda: f"{COOKIE}={make_expired()}",
    "tampered": lambda: f"{COOKIE}={tamper(begin('otto'))}",
    "other secret": lambda: (
        f"{COOKIE}=" + begin("otto", change(dashboard_secret=SecretStr(SECRET + "!")))
    ),
    "removed user": lambda: (
        f"{COOKIE}=" + begin("eve", change(dashboard_users={**USERS, "eve": USERS["otto"]}))
    ),
    "changed password": lambda: (
        f"{COOKIE}="
        + begin(
            "otto",
            change(dashboard_users={"otto": DashboardUser(password_hash=make_hash("another one"))}),
        )
    ),
    "twice": lambda: f"{COOKIE}={begin('otto')}; {COOKIE}={begin('otto')}",
    "another name": lambda: f"X{COOKIE}={begin('otto')}",
    "huge": lambda: f"{COOKIE}=" + "A" * 6_000,
}
CALLBACK = {
    "output": "who.children",
    "outputs": {"id": "who", "property": "children"},
    "inputs": [{"id": "address", "property": "pathname", "value": "/"}],
    "changedPropIds": ["address.pathname"],
    "state": [],
}
PAGE, REST = "text/html,*/*;q=0.8", "*/*"
ROUTES = [
    ("GET", "/", PAGE),
    ("GET", "/runs?state=FAILED", PAGE),
    ("GET", "/no-such-page", PAGE),
    ("GET", "/login/", PAGE),
    ("GET", "/LOGIN", PAGE),
    ("GET", "//login", PAGE),
    ("GET", "/healthz/", PAGE),
    ("GET", "/assets/%2e%2e/login", PAGE),
    ("GET", "/", REST),
    ("HEAD", "/", PAGE),
    ("OPTIONS", "/", PAGE),
    ("PUT", "/", PAGE),
    ("PROPFIND", "/", PAGE),
    ("GET", "/_dash-layout", REST),
    ("GET", "/_dash-dependencies", REST),
    ("POST", "/_dash-update-component", REST),
    ("GET", "/_dash-component-suites/dash/dash-renderer/build/dash_renderer.min.js", REST),
    ("GET", "/_dash-component-suites/dash/dcc/dash_core_components.js", REST),
    ("GET", "/assets/sluiceway.css", REST),
    ("GET", "/assets/%2e%2e/__init__.py", REST),
    ("GET", "/_favicon.ico", REST),
    ("GET", "/favicon.ico", REST),
    ("GET", "/_reload-hash", REST),
    ("GET", "/docs", REST),
    ("GET", "/openapi.json", REST),
    ("GET", "/_dash-ws-callback", REST),
    ("GET", "/_mcp", REST),
]


@pytest.fixture(scope="module", params=STRANGERS)
def stranger(request) -> dict[str, str]:
    cookie = STRANGERS[request.param]()
    return {"Cookie": cookie} if cookie else {}


@pytest.mark.parametrize(("method", "path", "accept"), ROUTES)
def test_a_stranger_reaches_nothing(running, stranger, method, path, accept) -> None:
    answer = running.ask(
        method,
        path,
        headers=stranger | {"Accept": accept},
        json=CALLBACK if method == "POST" else None,
    )
    if method == "GET" and accept == PAGE:
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/login")
        assert not answer.content
    else:
        assert answer.status_code == 401
        assert method == "HEAD" or list(answer.json()) == ["error"]
    assert "set-cookie" not in answer.headers


def test_a_stranger_reaches_no_route_that_the_server_knows(running, inside) -> None:
    routes = [each for each in vars(inside)["_app"].routes if isinstance(each, Route)]
    assert len(routes) >= 8
    for route in routes:
        path = route.path_format.replace("{path}", "x").replace("{", "").replace("}", "")
        for method in route.methods or ():
            asked = running.ask(method, f"/{path.lstrip('/')}")
            assert asked.status_code == 401, route


def test_a_strangers_websocket_is_refused_before_it_is_accepted(running, stranger) -> None:
    with pytest.raises(InvalidStatus) as told:
        running.connect(**stranger)
    assert told.value.response.status_code == 401
    assert told.value.response.headers["X-Content-Type-Options"] == "nosniff"


def test_every_websocket_route_is_known_here(inside) -> None:
    found = [each.path for each in vars(inside)["_app"].routes if isinstance(each, WebSocketRoute)]
    assert set(found) <= {"/_dash-ws-callback"}


@pytest.fixture(params=["ada", "otto"])
def user(request) -> str:
    return str(request.param)


@pytest.fixture
def session(user) -> dict[str, str]:
    return {"Cookie": f"theme=dark; {COOKIE}={begin(user)}"}


@pytest.mark.parametrize(("method", "path", "accept"), ROUTES)
def test_a_user_is_answered_by_the_dashboard(running, session, method, path, accept) -> None:
    answer = running.ask(
        method,
        path,
        headers=session | {"Accept": accept},
        json=CALLBACK if method == "POST" else None,
    )
    assert answer.status_code in {200, 404, 405}
    assert "login" not in answer.headers.get("location", "")


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html"),
        ("/_dash-layout", "application/json"),
        ("/assets/sluiceway.css", "text/css"),
        ("/_dash-component-suites/dash/dash-renderer/build/dash_renderer.min.js", "javascript"),
    ],
)
def test_a_user_gets_what_they_ask_for(running, session, path, kind) -> None:
    answer = running.ask("GET", path, headers=session)
    assert answer.status_code == 200
    assert kind in answer.headers["content-type"]
    assert len(answer.content) > 500


def test_callbacks_know_who_asks(running, session, user) -> None:
    answer = running.ask("POST", "/_dash-update-component", headers=session, json=CALLBACK)
    role = {"ada": "viewer", "otto": "operator"}[user]
    assert f"{user} ({role})" in answer.text


def test_a_users_websocket_is_accepted(running, session) -> None:
    with running.connect(**session) as peer:
        peer.send('{"type": "heartbeat"}')
        assert "heartbeat_ack" in str(peer.recv(timeout=60))


def log_in(running: Running, *, client: str, **fields: str) -> httpx.Response:
    """Try to log in, as a client whose address a proxy on this machine names."""
    return running.ask("POST", "/login", data=fields, headers={"X-Forwarded-For": client})


def test_logging_in_and_out(running, user) -> None:
    begun = log_in(
        running, client="10.0.0.1", name=user, password=PASSWORDS[user], next="/runs?state=FAILED"
    )
    assert begun.status_code == 303
    assert begun.headers["location"] == "/runs?state=FAILED"
    cookie = begun.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Path=/" in cookie
    assert f"Max-Age={SESSION_SECONDS}" in cookie
    assert "Secure" not in cookie
    session = {"Cookie": cookie.partition(";")[0]}
    assert running.ask("GET", "/", headers=session).status_code == 200
    assert running.ask("GET", "/login?next=/data", headers=session).headers["location"] == "/data"
    ended = running.ask("POST", "/logout", headers=session)
    assert ended.status_code == 303
    assert ended.headers["location"] == "/login"
    assert 'sluiceway_session=""' in ended.headers["set-cookie"]
    assert "Max-Age=0" in ended.headers["set-cookie"]
    assert running.ask("GET", "/", headers=session).status_code == 401
    with pytest.raises(InvalidStatus):
        running.connect(**session)


def test_a_session_begun_by_https_is_for_https_alone(running) -> None:
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "10.0.0.2"}
    form = {"name": "ada", "password": PASSWORDS["ada"]}
    answer = running.ask("POST", "/login", data=form, headers=headers)
    assert "; Secure" in answer.headers["set-cookie"]


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("ada", "wrong"),
        ("ada", ""),
        ("ada", PASSWORDS["otto"]),
        ("", ""),
        ("", PASSWORDS["ada"]),
        ("nobody", PASSWORDS["ada"]),
        ("ADA", PASSWORDS["ada"]),
        ("a" * 3000, "x"),
        ("<script>alert(1)</script>", "x"),
        ("\U0001f600\0", "x"),
    ],
)
def test_a_wrong_name_or_password_is_told_alike(running, name, password) -> None:
    answer = running.ask(
        "POST",
        "/login",
        content=str(httpx.QueryParams({"name": name, "password": password})),
        headers={
            "Content-Type": "application/x-www-form-urlencoded",
            "X-Forwarded-For": f"10.1.0.{len(name) % 250}",
        },
    )
    assert answer.status_code == 401
    assert "The name or the password is wrong." in answer.text
    assert "set-cookie" not in answer.headers
    assert answer.headers["cache-control"] == "no-store"
    assert "<script" not in answer.text


def test_a_name_that_is_not_known_costs_as_much_as_one_that_is(running, monkeypatch) -> None:
    costs = []
    scrypt = passwords.hashlib.scrypt

    def count(password: bytes, **given: Any) -> bytes:
        costs.append({name: given[name] for name in ("n", "r", "p", "dklen")})
        return scrypt(password, **given)

    monkeypatch.setattr(passwords.hashlib, "scrypt", count)
    for name in ("ada", "nobody", ""):
        log_in(running, client="10.0.0.3", name=name, password="x")
    assert costs == [{"n": 2**14, "r": 8, "p": 1, "dklen": 32}] * 3


def test_after_five_failures_a_client_has_to_wait(running, monkeypatch) -> None:
    tries = [log_in(running, client="10.0.0.4", name="ada", password="x") for _ in range(5)]
    assert [each.status_code for each in tries] == [401] * 5
    monkeypatch.setattr(passwords.hashlib, "scrypt", None)  # it is not even asked
    late = log_in(running, client="10.0.0.4", name="ada", password=PASSWORDS["ada"])
    assert late.status_code == 429
    assert 0 < int(late.headers["retry-after"]) <= 300
    assert "Too many tries" in late.text
    monkeypatch.undo()
    right = PASSWORDS["ada"]
    assert log_in(running, client="10.0.0.5", name="ada", password=right).status_code == 303


def test_names_that_nobody_has_are_slowed_down_alike(running) -> None:
    tries = [log_in(running, client="10.0.0.6", name="nobody", password="x") for _ in range(6)]
    assert [each.status_code for each in tries] == [401] * 5 + [429]


def test_no_more_logins_wait_than_there_is_room_for(running, monkeypatch) -> None:
    monkeypatch.setattr(login, "MOST_WAITING", 0)
    answer = log_in(running, client="10.0.0.7", name="ada", password=PASSWORDS["ada"])
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "10"


@pytest.mark.parametrize(
    "then",
    ["//evil.example", "https://evil.example", "/\\evil.example", "/\t/evil.example", "/login", ""],
)
def test_a_login_leads_to_own_pages_alone(running, then) -> None:
    form = {"name": "ada", "password": PASSWORDS["ada"], "next": then}
    assert log_in(running, client="10.0.0.8", **form).headers["location"] == "/"
    shown = running.ask("GET", "/login", params={"next": then})
    assert 'name="next" value="/"' in shown.text


def test_the_login_remembers_where_a_stranger_wanted_to_go(running) -> None:
    asked = running.ask("GET", "/runs?state=FAILED&text=%26x", headers={"Accept": PAGE})
    shown = running.ask("GET", asked.headers["location"])
    assert shown.status_code == 200
    assert 'value="/runs?state=FAILED&amp;text=%26x"' in shown.text


FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        (FORM, b"name=ada&password=x&" + b"y" * 4096, 413),
        (FORM, b"x" * 10_000_000, 413),
        (FORM, b"&".join(b"a%d=1" % n for n in range(50)), 400),
        (FORM, b"name=ada&name=otto&password=x", 400),
        (FORM, b"name=ada&password=\xff\xfe", 400),
        (FORM, b"", 401),
        (FORM, b"%%%&===&;;;", 401),
        ("application/json", b'{"name": "ada"}', 415),
        ("multipart/form-data; boundary=x", b"--x--", 415),
        ("", b"name=ada", 415),
    ],
    ids=lambda each: str(each)[:20],
)
def test_a_form_that_is_none_is_refused(running, kind, body, status) -> None:
    head = (
        f"POST /login HTTP/1.1\r\nHost: 127.0.0.1:{running.port}\r\nContent-Type: {kind}\r\n"
        f"X-Forwarded-For: 10.0.0.9\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    answer = running.send_raw(head, body[:20_000])
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b"set-cookie" not in answer


def test_a_form_that_does_not_come_is_not_waited_for(running, monkeypatch) -> None:
    monkeypatch.setattr(login, "FORM_SECONDS", 0.01)
    answer = running.send_raw(
        f"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {FORM}\r\n"
        "Content-Length: 100\r\n\r\nname=ada".encode()
    )
    assert answer.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", ""])
@pytest.mark.parametrize("path", ["/login", "/logout", "/_dash-update-component"])
def test_other_sites_pages_cannot_send(running, session, origin, path) -> None:
    answer = running.ask("POST", path, headers=session | {"Origin": origin}, json=CALLBACK)
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1"])
def test_other_sites_pages_cannot_open_a_websocket(running, session, origin) -> None:
    with pytest.raises(InvalidStatus) as told:
        running.connect(**session, Origin=origin)
    assert told.value.response.status_code == 403


@pytest.mark.parametrize("host", ["", "a b", "evil.example/", "a@b"])
def test_a_request_for_no_host_is_refused(running, host) -> None:
    answer = running.send_raw(
        f"GET / HTTP/1.1\r\nHost: {host}\r\nCookie: {COOKIE}={begin('otto')}\r\n"
        "Connection: close\r\n\r\n".encode()
    )
    assert answer.startswith(b"HTTP/1.1 400 ")


def test_a_request_for_two_hosts_is_refused(running) -> None:
    answer = running.send_raw(
        f"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n"
        f"Cookie: {COOKIE}={begin('otto')}\r\nConnection: close\r\n\r\n".encode()
    )
    assert answer.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/login", "GET, HEAD, POST"),
        ("GET", "/logout", "POST"),
        ("POST", "/healthz", "GET, HEAD"),
    ],
)
def test_own_pages_take_their_methods(running, session, method, path, allowed) -> None:
    answer = running.ask(method, path, headers=session)
    assert answer.status_code == 405
    assert answer.headers["allow"] == allowed


@pytest.mark.parametrize("host", ["127.0.0.1", "evil.example"])
def test_anyone_may_ask_whether_the_dashboard_lives(running, open_running, host) -> None:
    for each in (running, open_running):
        answer = each.ask("GET", "/healthz", headers={"Host": host, "X-Forwarded-For": "10.0.0.1"})
        assert (answer.status_code, answer.text) == (200, "ok")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/healthz"),
        ("GET", "/login"),
        ("POST", "/login"),
        ("POST", "/logout"),
        ("GET", "/"),
        ("GET", "/assets/sluiceway.css"),
        ("GET", "/assets/none.css"),
        ("POST", "/_dash-update-component"),
        ("GET", "/_dash-component-suites/none/none.js"),
    ],
)
@pytest.mark.parametrize("name", [None, "otto"])
def test_every_answer_has_the_security_headers(running, method, path, name) -> None:
    headers = {"Cookie": f"{COOKIE}={begin(name)}"} if name else {}
    answer = running.ask(method, path, headers=headers, content=b"")
    assert {each: answer.headers.get(each) for each in SECURITY_HEADERS} == SECURITY_HEADERS
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert "server" not in answer.headers
    assert "public" not in answer.headers["cache-control"]


def test_the_policy_knows_each_inline_script_of_a_page(running) -> None:
    """Chromium would refuse to run any other."""
    session = {"Cookie": f"{COOKIE}={begin('ada')}"}
    answer = running.ask("GET", "/", headers=session)
    found = re.findall(r"<script([^>]*)>(.*?)</script>", answer.text, re.DOTALL)
    inline = [text for attributes, text in found if text and "application/json" not in attributes]
    assert len(inline) >= 2
    for each in inline:
        assert script_hash(each) in answer.headers["content-security-policy"]


def test_no_log_line_has_a_password_or_what_was_typed_for_a_name(running) -> None:
    with capture_logs() as lines:
        log_in(running, client="10.0.1.0", name="my secret", password="typed secret")
        log_in(running, client="10.0.1.0", name="ada", password="typed secret")
        log_in(running, client="10.0.1.0", name="ada", password=PASSWORDS["ada"])
    assert [(each["event"], each["user"]) for each in lines] == [
        ("a login failed", "unknown"),
        ("a login failed", "ada"),
        ("a user logged in", "ada"),
    ]
    assert {each["client"] for each in lines} == {"10.0.1.0"}
    told = repr(lines)
    for secret in ("secret", PASSWORDS["ada"], SECRET, make_hash("x").get_secret_value()[:30]):
        assert secret not in told


def test_open_to_this_machine_needs_no_login(open_running) -> None:
    assert open_running.ask("GET", "/", headers={"Accept": PAGE}).status_code == 200
    assert open_running.ask("GET", "/login?next=/data").headers["location"] == "/"
    answer = open_running.ask("POST", "/_dash-update-component", json=CALLBACK)
    assert answer.status_code == 200
    assert "Log out" not in answer.text
    with open_running.connect() as peer:
        peer.send('{"type": "heartbeat"}')
        assert "heartbeat_ack" in str(peer.recv(timeout=60))


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:8050", "Origin": "http://evil.example:8050"},
        {"Host": "127.0.0.1.evil.example"},
        {"X-Forwarded-For": "192.168.1.4"},
    ],
)
@pytest.mark.parametrize(("method", "path", "accept"), ROUTES)
def test_open_to_this_machine_is_closed_to_others(
    open_running, headers, method, path, accept
) -> None:
    answer = open_running.ask(method, path, headers=headers | {"Accept": accept})
    assert answer.status_code == 403


def test_open_to_this_machine_another_sites_page_opens_no_websocket(open_running) -> None:
    with pytest.raises(InvalidStatus) as told:
        open_running.connect(Origin="http://evil.example")
    assert told.value.response.status_code == 403


def test_a_dashboard_that_strangers_could_enter_is_not_built() -> None:
    with pytest.raises(SettingError, match="SLUICEWAY_DASHBOARD_USERS"):
        build(OPEN.model_copy(update={"dashboard_host": "192.0.2.1"}))
    with pytest.raises(SettingError, match="SLUICEWAY_DASHBOARD_SECRET"):
        build(change(dashboard_secret=SecretStr("short")))


def test_a_port_that_is_taken_is_told() -> None:
    with listen(OPEN) as taken:
        settings = OPEN.model_copy(update={"dashboard_port": taken.getsockname()[1]})
        with pytest.raises(SettingError, match="SLUICEWAY_DASHBOARD_PORT"):
            listen(settings)


def test_the_server_ends_with_websockets_open(inside) -> None:
    with serve(AccessLayer(inside, OPEN)) as found, found.connect() as peer:
        peer.send('{"type": "heartbeat"}')
        peer.recv(timeout=60)
        found.server.should_exit = True
        found.thread.join(timeout=60)
        assert not found.thread.is_alive()
        with pytest.raises(ConnectionClosed):
            peer.recv(timeout=60)


def test_the_command_refuses_to_start_with_a_sentence(monkeypatch, tmp_path) -> None:
    settings = OPEN.model_copy(update={"dashboard_host": "192.0.2.1", "log_folder": tmp_path})
    monkeypatch.setattr("dash_app.__main__.read_settings", lambda: settings)
    monkeypatch.setattr("dash_app.__main__.configure_logging", lambda *_, **__: None)
    monkeypatch.setattr("sys.argv", ["dash_app"])
    with pytest.raises(SystemExit, match="SLUICEWAY_DASHBOARD_USERS"):
        main()
