"""The layer before everything: it lets through who may pass, and nothing else."""

from collections.abc import Callable, Sequence

import structlog
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dash_app.access.accounts import read_accounts
from dash_app.access.headers import dash_scripts, with_headers
from dash_app.access.login import Login
from dash_app.access.requests import (
    RefusedRequestError,
    address_of,
    check_local,
    check_origin,
    login_address,
    wants_page,
)
from dash_app.access.users import OPEN_USER, User, enter, leave
from infra.settings import Settings

log = structlog.get_logger("sluiceway.dashboard")

_OWN_METHODS = {
    "/healthz": frozenset({"GET", "HEAD"}),
    "/login": frozenset({"GET", "HEAD", "POST"}),
    "/logout": frozenset({"POST"}),
}
_NO_ACCESS = "There is no session here, or it is over: log in at /login."
_BROKEN = "The dashboard could not answer: its log says why."
_POLICY_VIOLATION = 1008


class AccessLayer:
    """An ASGI application around another, which is asked only by who may.

    Whatever is not expected is refused. A WebSocket is looked at again with each message, so that
    it lives no longer than its session.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings,
        *,
        inline_scripts: Callable[[], Sequence[str]] = dash_scripts,
    ) -> None:
        """Read the users; inline_scripts: the hashes of those that pages may run.

        Raises SettingError where strangers could come in.
        """
        self._app = app
        self._inline_scripts = inline_scripts
        accounts = read_accounts(settings)
        secret = settings.dashboard_secret.get_secret_value()
        self._login = Login(accounts, secret) if accounts else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] not in {"http", "websocket"}:
            raise RuntimeError(f"The dashboard does not speak {scope['type']}.")
        send = with_headers(send, self._inline_scripts)
        try:
            admitted = await self._admit(scope, receive)
        except RefusedRequestError as refusal:
            admitted = _refuse(refusal.status, str(refusal), **refusal.headers)
        except Exception:
            log.exception("a request could not be looked at")
            admitted = _refuse(500, _BROKEN)
        if isinstance(admitted, Response):
            await _answer(admitted, scope, receive, send)
            return
        if scope["type"] == "websocket":
            receive = self._watch(scope, receive, send)
        enter(admitted)
        try:
            await self._app(scope, receive, send)
        finally:
            leave()

    async def _admit(self, scope: Scope, receive: Receive) -> User | Response:
        """Return who passes, or what they are answered."""
        is_http, path = scope["type"] == "http", scope["path"]
        if is_http and path in _OWN_METHODS and scope["method"] not in _OWN_METHODS[path]:
            allowed = ", ".join(sorted(_OWN_METHODS[path]))
            raise RefusedRequestError(405, f"{path} takes {allowed}.", Allow=allowed)
        if is_http and path == "/healthz":
            return PlainTextResponse("ok", headers={"Cache-Control": "no-store"})
        check_origin(scope)
        if is_http and path in _OWN_METHODS:
            return await self._answer_own(scope, receive)
        user = self._find_user(scope)
        if user is not None:
            return user
        if wants_page(scope):
            return RedirectResponse(
                login_address(address_of(scope)), 303, {"Cache-Control": "no-store"}
            )
        return _refuse(401, _NO_ACCESS)

    async def _answer_own(self, scope: Scope, receive: Receive) -> Response:
        if self._login is None:
            check_local(scope)
            return RedirectResponse("/", 303)
        if scope["path"] == "/logout":
            return self._login.log_out(scope)
        if scope["method"] == "POST":
            return await self._login.log_in(scope, receive)
        return self._login.show(scope)

    def _find_user(self, scope: Scope) -> User | None:
        if self._login is not None:
            return self._login.find_user(scope)
        check_local(scope)
        return OPEN_USER

    def _watch(self, scope: Scope, receive: Receive, send: Send) -> Receive:
        """Return a receive that ends the connection when its session is over."""

        async def receive_watched() -> Message:
            message = await receive()
            if message["type"] != "websocket.receive" or self._find_user(scope) is not None:
                return message
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
            return {"type": "websocket.disconnect", "code": _POLICY_VIOLATION}

        return receive_watched


def _refuse(status: int, sentence: str, **headers: str) -> Response:
    # What is left of a refused request's body is not waited for.
    fixed = {"Cache-Control": "no-store", "Connection": "close"}
    return JSONResponse({"error": sentence}, status, {**fixed, **headers})


async def _answer(answer: Response, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket" and "websocket.http.response" not in scope.get(
        "extensions", {}
    ):
        await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
        return
    await answer(scope, receive, send)
