"""Logging in and out."""

import asyncio
from collections.abc import Mapping
from urllib.parse import parse_qs

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import Receive, Scope

from dash_app.access.accounts import Account
from dash_app.access.login_page import LOGIN_POLICY, login_page
from dash_app.access.passwords import PasswordChecks
from dash_app.access.requests import (
    RefusedRequestError,
    client_of,
    is_secure,
    own_address,
    read_cookie,
    read_header,
)
from dash_app.access.sessions import COOKIE, SESSION_SECONDS, Sessions
from dash_app.access.throttle import Throttle, key_of
from dash_app.access.users import User

log = structlog.get_logger("sluiceway.dashboard")

LARGEST_FORM_BYTES = 4096
MOST_FIELDS = 10
MOST_WAITING = 20
"""Tries that wait for their turn to have the password checked."""
FORM_SECONDS = 10.0
_WRONG = "The name or the password is wrong."
_UNKEPT = {"Cache-Control": "no-store"}


class Login:
    """Knows who may come in, and lets them."""

    def __init__(self, accounts: Mapping[str, Account], secret: str) -> None:
        """Remember the accounts, of which there is at least one."""
        self._accounts = accounts
        self._sessions = Sessions(accounts, secret)
        self._throttle = Throttle()
        self._checks = PasswordChecks()
        self._waiting = 0
        costs = (each.password for each in accounts.values())
        # Whoever has no account waits as long for the answer as who has one.
        self._dummy = max(costs, key=lambda each: (1 << each.log_n) * each.parallel).dummy()

    def find_user(self, scope: Scope) -> User | None:
        """Return who sent the request; None for a stranger."""
        token = read_cookie(scope, COOKIE)
        return self._sessions.find(token) if token else None

    def show(self, scope: Scope) -> Response:
        """Return the page to log in on, or the way on for who has done so."""
        then = own_address(_read_next(scope))
        if self.find_user(scope):
            return RedirectResponse(then, 303)
        return _page(then=then)

    async def log_in(self, scope: Scope, receive: Receive) -> Response:
        """Return the way on with a session, or the page again with what was wrong."""
        form = await _read_form(scope, receive)
        name, password = form.get("name", ""), form.get("password", "")
        then = own_address(form.get("next", "/"))
        if self._waiting >= MOST_WAITING:
            raise RefusedRequestError(
                503, "Too many people log in at this moment: try again.", Retry_After="10"
            )
        client = client_of(scope)
        key = key_of(name, client)
        wait_seconds = self._throttle.wait_seconds(key)
        if wait_seconds:
            log.warning("a login was put off", client=client, wait_seconds=wait_seconds)
            minutes = -(-wait_seconds // 60)
            problem = f"Too many tries: wait {minutes} min, then try again."
            headers = {"Retry-After": str(wait_seconds)}
            return _page(429, headers, then=then, name=name, problem=problem)
        account = await self._find_account(name, password)
        if account is None:
            # Who is no user may have typed a password for a name: it is not logged.
            user = name if name in self._accounts else "unknown"
            log.warning("a login failed", client=client, user=user)
            return _page(401, then=then, name=name, problem=_WRONG)
        self._throttle.forgive(key)
        log.info("a user logged in", client=client, user=name)
        answer = RedirectResponse(then, 303, _UNKEPT)
        answer.set_cookie(
            COOKIE,
            self._sessions.begin(account),
            max_age=SESSION_SECONDS,
            httponly=True,
            secure=is_secure(scope),
            samesite="lax",
        )
        return answer

    def log_out(self, scope: Scope) -> Response:
        """Return the way to the login, and end the session for every copy of its cookie."""
        token = read_cookie(scope, COOKIE)
        if token:
            self._sessions.end(token)
        answer = RedirectResponse("/login", 303, _UNKEPT)
        answer.delete_cookie(COOKIE, httponly=True, secure=is_secure(scope), samesite="lax")
        return answer

    async def _find_account(self, name: str, password: str) -> Account | None:
        account = self._accounts.get(name)
        self._waiting += 1
        try:
            known = account.password if account else self._dummy
            fits = await self._checks.fits(known, password)
        finally:
            self._waiting -= 1
        return account if fits else None


def _page(
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    *,
    then: str,
    name: str = "",
    problem: str = "",
) -> Response:
    return HTMLResponse(
        login_page(then=then, name=name, problem=problem),
        status,
        {"Content-Security-Policy": LOGIN_POLICY, **_UNKEPT, **(headers or {})},
    )


def _read_next(scope: Scope) -> str:
    query: str = scope.get("query_string", b"").decode("latin-1")
    try:
        return parse_qs(query, max_num_fields=MOST_FIELDS).get("next", ["/"])[0]
    except ValueError:
        return "/"


async def _read_form(scope: Scope, receive: Receive) -> dict[str, str]:
    """Return the form's fields; raises RefusedRequestError for whatever is no such form."""
    kind = (read_header(scope, "Content-Type") or "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise RefusedRequestError(415, "The login takes a form.")
    try:
        async with asyncio.timeout(FORM_SECONDS):
            body = await _read_body(scope, receive)
    except TimeoutError:
        raise RefusedRequestError(408, "The form took too long to come.") from None
    except ClientDisconnect:
        raise RefusedRequestError(400, "The form broke off.") from None
    try:
        fields = parse_qs(body.decode("ascii"), keep_blank_values=True, max_num_fields=MOST_FIELDS)
    except ValueError:
        raise RefusedRequestError(400, "The form cannot be read.") from None
    if any(len(values) > 1 for values in fields.values()):
        raise RefusedRequestError(400, "The form has a field twice.")
    return {name: values[0] for name, values in fields.items()}


async def _read_body(scope: Scope, receive: Receive) -> bytes:
    body = bytearray()
    # Its own limit: Starlette's form() has none on the sum, and wants another package.
    async for part in Request(scope, receive).stream():
        body += part
        if len(body) > LARGEST_FORM_BYTES:
            raise RefusedRequestError(413, f"The form is larger than {LARGEST_FORM_BYTES} bytes.")
    return bytes(body)
