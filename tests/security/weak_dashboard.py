"""The dashboard without its protections, for attacks that have to work on it.

    python -m tests.security.weak_dashboard

A session's cookie is read without its signature, age or mark; everybody is an operator; pages of
other sites may send; passwords may be tried without end; a login leads wherever it is told. Where
there are no users, everybody is let in, and not this machine alone.
"""

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import dash
from itsdangerous import URLSafeTimedSerializer

from dash_app.__main__ import main
from dash_app.application import build


class UncheckedSerializer(URLSafeTimedSerializer):
    """Reads what it is given."""

    def loads(self, s: str | bytes, *_: Any, **__: Any) -> Any:
        """Return the payload, whoever signed it and when."""
        return self.load_payload(str(s).partition(".")[0].encode())


OTHER_SITE = "http://evil.example"


def build_weakly(*given: Any) -> Any:
    """Return the dashboard, whose WebSocket pages of other sites may open: Dash looks too."""
    built = build(*given)
    vars(dash.get_app())["_websocket_allowed_origins"].append(OTHER_SITE)
    return built


_WEAKENED: dict[str, Callable[..., Any] | property] = {
    "dash_app.__main__.build": build_weakly,
    "dash_app.access.sessions.make_serializer": lambda secret: UncheckedSerializer(
        secret.encode(), salt="sluiceway session"
    ),
    "dash_app.access.sessions.hmac.compare_digest": lambda *_: True,
    "dash_app.access.users.User.is_operator": property(lambda _: True),
    "dash_app.access.layer.check_origin": lambda _: None,
    "dash_app.access.layer.check_local": lambda _: None,
    "dash_app.access.throttle.Throttle.wait_seconds": lambda *_: 0,
    "dash_app.access.login.own_address": lambda address: address,
}


if __name__ == "__main__":
    for name, replacement in _WEAKENED.items():
        patch(name, replacement).start()
    main()
