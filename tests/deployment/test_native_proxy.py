"""nginx with the file that infra/compose.yaml mounts, before a real dashboard: HTTPS or nothing."""

import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.sync.client import connect

from infra.local.ports import LOOPBACK, choose_port
from infra.local.process import Child, wait_until
from infra.tls.authority import Authority
from tests.conftest import skip_or_fail
from tests.deployment.compose import DOMAIN, SECRETS_PLACE
from tests.deployment.native import (
    TLS_PLACE,
    describe,
    localize,
    make_all_secrets,
    make_certificates,
    read_mounted,
    renew_certificates,
    resolve_names,
    run,
    serial_of,
    write,
)
from tests.monitoring.servers import answers

NGINX = shutil.which("nginx") or "/usr/sbin/nginx"
START_SECONDS = 60.0
OTHER = ("prefect", "grafana")


@dataclass(frozen=True)
class Proxy:
    """Where it listens, and what there is to know of the installation behind it."""

    port: int
    configuration: Path
    process: Child
    handed: Path
    ca_file: Path
    password: str

    def url(self, service: str) -> str:
        return f"https://{service}.{DOMAIN}:{self.port}"

    def trust(self, ca_file: Path | None = None) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=ca_file or self.ca_file)

    def client(self, service: str) -> httpx.Client:
        return httpx.Client(
            base_url=self.url(service), verify=self.trust(), trust_env=False, timeout=60
        )


async def _tell(request: Request) -> JSONResponse:
    told = {name: value for name, value in request.headers.items() if name.startswith("x-")}
    return JSONResponse({"host": request.headers["host"], "for": request.url.path, **told})


async def _echo(socket_: WebSocket) -> None:
    await socket_.accept()
    await socket_.send_text(f"{socket_.headers['host']} {await socket_.receive_text()}")
    await socket_.close()


def _stand_in() -> uvicorn.Config:
    """Return a server in the place of Prefect's or Grafana's: the image's cannot be run here."""
    routes = [Route("/{path:path}", _tell), WebSocketRoute("/{path:path}", _echo)]
    return uvicorn.Config(Starlette(routes=routes), log_level="warning")


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_names(monkeypatch)


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """The proxy, a dashboard as compose starts it, and two stand-ins."""
    if not Path(NGINX).exists():
        skip_or_fail("nginx is not installed: run `make system-packages`")
    folder = tmp_path_factory.mktemp("compose")
    handed = make_certificates(folder)
    ca_file = handed / "ca" / "ca.pem"
    secrets = make_all_secrets(folder, postgres_port=1, ca_file=ca_file)
    ports: list[int] = []
    for _ in range(5):
        ports.append(choose_port(avoid=ports))
    outer, dashboard, prefect, grafana, health = ports
    places = {
        TLS_PLACE: str(handed / "proxy"),
        "listen 8443": f"listen {LOOPBACK}:{outer}",
        "127.0.0.1:8050": f"{LOOPBACK}:{dashboard}",
        "127.0.0.1:4200": f"{LOOPBACK}:{prefect}",
        "127.0.0.1:3000": f"{LOOPBACK}:{grafana}",
        "127.0.0.1:8081": f"{LOOPBACK}:{health}",
        "/tmp/": f"{folder / 'tmp'}/",  # noqa: S108 - what is looked for in the file
    }
    service = describe("proxy")
    [flag, place] = service["command"]
    (folder / "tmp").mkdir()
    configuration = write(
        folder / "nginx.conf", localize(read_mounted("proxy", place), places), 0o644
    )
    environment = {
        name: value.replace(SECRETS_PLACE, str(secrets))
        for name, value in describe("dashboard")["environment"].items()
    } | {"SLUICEWAY_DASHBOARD_PORT": str(dashboard), "SLUICEWAY_LOG_FOLDER": str(folder / "logs")}
    with ExitStack() as running:
        for port in (prefect, grafana):
            running.enter_context(_serve(port))
        command = [sys.executable, "-m", *describe("dashboard")["command"]]
        board = running.enter_context(run("dashboard", command, folder, environment))
        nginx = running.enter_context(
            run("nginx", [NGINX, flag, str(configuration), "-p", str(folder)], folder)
        )
        for child, url in ((nginx, f"{health}/healthz"), (board, f"{dashboard}/healthz")):
            came = wait_until(lambda url=url: answers(f"http://{LOOPBACK}:{url}"), START_SECONDS)  # type: ignore[misc]
            assert came, child.read_log()
        yield Proxy(
            outer,
            configuration,
            nginx,
            handed,
            ca_file,
            (secrets / "dashboard_password").read_text(),
        )


@contextmanager
def _serve(port: int) -> Iterator[None]:
    """A stand-in on that port, in a thread."""
    server = uvicorn.Server(_stand_in())
    listening = socket.create_server((LOOPBACK, port))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(timeout=60)


def check(configuration: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [NGINX, "-t", "-c", configuration, "-p", configuration.parent],
        capture_output=True,
        text=True,
        check=False,
    )


def test_nginx_finds_no_mistake(proxy: Proxy) -> None:
    done = check(proxy.configuration)
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr
    broken = proxy.configuration.with_name("broken.conf")
    broken.write_text(localize(proxy.configuration.read_text(), {"proxy_pass ": "proxy_pas "}))
    assert "proxy_pas" in check(broken).stderr


def test_the_dashboard_is_reached_over_tls(proxy: Proxy) -> None:
    with proxy.client("dashboard") as client:
        answer = client.get("/healthz")
        assert (answer.status_code, answer.text) == (200, "ok")
        assert "max-age=31536000" in answer.headers["strict-transport-security"]
        page = client.get("/", headers={"Accept": "text/html"})
        assert page.status_code == 303
        assert page.headers["location"].startswith("/login")


def test_a_session_is_for_https_alone_and_opens_a_websocket(proxy: Proxy) -> None:
    with proxy.client("dashboard") as client:
        answer = client.post(
            "/login",
            data={"name": "operator", "password": proxy.password},
            headers={"Origin": proxy.url("dashboard")},
        )
        assert answer.status_code == 303, answer.text
        cookie = answer.headers["set-cookie"]
        assert "Secure" in cookie, "the dashboard was not told that it was asked over TLS"
        assert client.get("/_dash-layout").status_code == 200
    with connect(
        proxy.url("dashboard").replace("https", "wss") + "/_dash-ws-callback",
        ssl=proxy.trust(),
        origin=proxy.url("dashboard"),  # type: ignore[arg-type]
        additional_headers={"Cookie": cookie.partition(";")[0]},
        proxy=None,
        open_timeout=120,
    ) as peer:
        peer.send('{"type": "heartbeat"}')
        assert "heartbeat_ack" in str(peer.recv(timeout=60))


@pytest.mark.parametrize("service", OTHER)
def test_the_name_says_who_is_meant(proxy: Proxy, service: str) -> None:
    with proxy.client(service) as client:
        answer = client.get("/api/some?thing=1", headers={"X-Forwarded-For": "203.0.113.7"})
    assert answer.json() == {
        "host": f"{service}.{DOMAIN}:{proxy.port}",
        "for": "/api/some",
        "x-forwarded-for": LOOPBACK,
        "x-forwarded-proto": "https",
        "x-forwarded-host": f"{service}.{DOMAIN}:{proxy.port}",
    }
    assert "strict-transport-security" in answer.headers


@pytest.mark.parametrize("service", OTHER)
def test_a_websocket_passes(proxy: Proxy, service: str) -> None:
    address = proxy.url(service).replace("https", "wss") + "/api/events/out"
    with connect(address, ssl=proxy.trust(), proxy=None, open_timeout=120) as peer:
        peer.send("hello")
        assert peer.recv(timeout=60) == f"{service}.{DOMAIN}:{proxy.port} hello"


@pytest.mark.parametrize("service", ["dashboard", *OTHER])
def test_nothing_is_answered_in_clear(proxy: Proxy, service: str) -> None:
    url = proxy.url(service).replace("https", "http")
    answer = httpx.get(url, trust_env=False, timeout=60)
    assert answer.status_code == 400
    assert "HTTPS" in answer.text


def test_an_unknown_name_gets_no_handshake(proxy: Proxy) -> None:
    unsuspecting = ssl.create_default_context()
    unsuspecting.check_hostname = False
    unsuspecting.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection((LOOPBACK, proxy.port), timeout=60) as plain,
        pytest.raises(ssl.SSLError, match=r"UNRECOGNIZED_NAME|unrecognized name"),
    ):
        unsuspecting.wrap_socket(plain, server_hostname=f"other.{DOMAIN}")


def test_a_name_that_the_certificate_lacks_is_not_believed(proxy: Proxy) -> None:
    with pytest.raises(httpx.ConnectError, match="Hostname mismatch"):
        httpx.get(
            f"https://dashboard.example.{DOMAIN}:{proxy.port}/healthz",
            verify=proxy.trust(),
            trust_env=False,
        )


def test_another_ca_convinces_nobody(proxy: Proxy, tmp_path: Path) -> None:
    other = Authority(tmp_path).certificate_file
    with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
        httpx.get(f"{proxy.url('dashboard')}/healthz", verify=proxy.trust(other), trust_env=False)


@pytest.mark.parametrize("ciphers", ["ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES256-SHA"])
def test_weak_ciphers_are_refused(proxy: Proxy, ciphers: str) -> None:
    weak = proxy.trust()
    weak.maximum_version = ssl.TLSVersion.TLSv1_2
    weak.set_ciphers(ciphers)
    name = urlsplit(proxy.url("dashboard")).hostname
    with (
        socket.create_connection((LOOPBACK, proxy.port), timeout=60) as plain,
        pytest.raises(ssl.SSLError, match=r"HANDSHAKE_FAILURE|handshake failure"),
    ):
        weak.wrap_socket(plain, server_hostname=name)


def test_tls_1_2_is_still_taken(proxy: Proxy) -> None:
    older = proxy.trust()
    older.maximum_version = ssl.TLSVersion.TLSv1_2
    with httpx.Client(verify=older, trust_env=False) as client:
        assert client.get(f"{proxy.url('dashboard')}/healthz").status_code == 200


def test_a_renewed_certificate_is_shown_when_it_is_told(proxy: Proxy) -> None:
    before = serial_of(proxy.port, proxy.trust(), f"dashboard.{DOMAIN}")
    renew_certificates(proxy.handed, "proxy")
    proxy.process.send_signal(signal.SIGHUP)
    assert wait_until(
        lambda: serial_of(proxy.port, proxy.trust(), f"dashboard.{DOMAIN}") != before,
        START_SECONDS,
    )
