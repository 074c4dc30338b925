"""What a request says of itself, none of which is trusted."""

import ipaddress
import re
from urllib.parse import quote, urlencode, urlsplit

from starlette.types import Scope

from dash_app.access.accounts import is_loopback

_LONGEST_ADDRESS = 2000
_SAFE_METHODS = frozenset({"GET", "HEAD"})
_PORTS = {"http": "80", "https": "443", "ws": "80", "wss": "443"}
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\s\[\]:/@?#\\,]+)(?::(\d{1,5}))?", re.IGNORECASE | re.ASCII)
# What browsers leave out of an address, or take for another sign, can turn one into another.
_UNSEEMLY = re.compile(r"[\x00-\x20\x7f\\]")


class RefusedRequestError(Exception):
    """A request that is not handed on; str() is one sentence for who sent it."""

    def __init__(self, status: int, sentence: str, **headers: str) -> None:
        """Keep the status and the headers of the answer."""
        super().__init__(sentence)
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def read_header(scope: Scope, name: str) -> str | None:
    """Return a header's value; raises RefusedRequestError where there are several."""
    wanted = name.lower().encode()
    found = [value for key, value in scope["headers"] if key.lower() == wanted]
    if len(found) > 1:
        raise RefusedRequestError(400, f"The request has several headers {name}.")
    return found[0].decode("latin-1") if found else None


def read_cookie(scope: Scope, name: str) -> str | None:
    """Return a cookie's value; None where there is not exactly one of the name."""
    pairs = [
        pair.strip().partition("=")
        for key, value in scope["headers"]
        if key.lower() == b"cookie"
        for pair in value.decode("latin-1").split(";")
    ]
    found = [value for key, _, value in pairs if key == name]
    return found[0] if len(found) == 1 else None


def client_of(scope: Scope) -> str:
    """Return the address the request came from; empty where that is not known."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def is_secure(scope: Scope) -> bool:
    """Return whether the request came encrypted."""
    return scope.get("scheme") in {"https", "wss"}


def check_origin(scope: Scope) -> None:
    """Raise RefusedRequestError for what another site's page sends, or names no host."""
    host = read_header(scope, "Host")
    if host is None or not _HOST.fullmatch(host):
        raise RefusedRequestError(400, "The request's header Host names no host.")
    is_socket = scope["type"] == "websocket"
    if not is_socket and scope["method"] in _SAFE_METHODS:
        return
    origin = read_header(scope, "Origin")
    if origin is None and not is_socket:
        return  # no browser
    scheme, divider, netloc = (origin or "").partition("://")
    if not divider or _with_port(netloc, scheme) != _with_port(host, scheme):
        raise RefusedRequestError(
            403,
            "The request comes from a page of another host than it goes to; a proxy has to pass "
            "the header Host on as it is.",
        )


def check_local(scope: Scope) -> None:
    """Raise RefusedRequestError for what did not come from this machine to this machine.

    The header Host is looked at because any site can let its own name lead here.
    """
    found = _HOST.fullmatch(read_header(scope, "Host") or "")
    name = found[1].lower().strip("[]") if found else ""
    if name not in {"127.0.0.1", "localhost", "::1"} or not _is_local_client(scope):
        raise RefusedRequestError(
            403,
            "Without users the dashboard answers this machine alone, as 127.0.0.1 or localhost: "
            "set SLUICEWAY_DASHBOARD_USERS for others.",
        )


def wants_page(scope: Scope) -> bool:
    """Return whether a person waits for a page."""
    accepted = read_header(scope, "Accept") or ""
    return scope["type"] == "http" and scope["method"] == "GET" and "text/html" in accepted


def address_of(scope: Scope) -> str:
    """Return the request's path and query."""
    path = quote(scope["path"], safe="/:@!$&'()*+,;=~")
    query = scope.get("query_string", b"").decode("latin-1")
    return f"{path}?{query}" if query else path


def own_address(given: str) -> str:
    """Return the address where it leads to a page of the dashboard, else the first page's."""
    path = given.partition("?")[0].partition("#")[0]
    if len(given) > _LONGEST_ADDRESS or not path.startswith("/") or "//" in path:
        return "/"
    if _UNSEEMLY.search(given) or path in {"/login", "/logout"}:
        return "/"
    try:
        parts = urlsplit(given)
    except ValueError:
        return "/"
    return "/" if parts.scheme or parts.netloc else given


def login_address(then: str) -> str:
    """Return where to log in, and to be led on from there."""
    address = own_address(then)
    return "/login" if address == "/" else f"/login?{urlencode({'next': address})}"


def _with_port(host: str, scheme: str) -> tuple[str, str]:
    found = _HOST.fullmatch(host)
    if not found:
        return "", ""
    return found[1].lower(), (found[2] or _PORTS.get(scheme.lower(), "")).lstrip("0")


def _is_local_client(scope: Scope) -> bool:
    client = client_of(scope)
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return is_loopback(str(mapped or address))
