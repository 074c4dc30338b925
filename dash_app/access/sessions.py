"""Sessions: signed cookies that say who logged in, and until when that holds."""

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from itsdangerous import BadData, URLSafeTimedSerializer

from dash_app.access.accounts import Account
from dash_app.access.users import User

COOKIE = "sluiceway_session"
SESSION_SECONDS = 12 * 3600
MOST_ENDED = 10_000


def make_serializer(secret: str, **given: Any) -> URLSafeTimedSerializer:
    """Return what signs sessions."""
    signer = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
    return URLSafeTimedSerializer(
        secret.encode(), salt="sluiceway session", signer_kwargs=signer, **given
    )


class Sessions:
    """Begins, finds and ends sessions.

    A session holds the user's name, and a mark of their password: whoever changes the password
    ends their sessions. What the user may do is looked up anew each time.
    """

    def __init__(self, accounts: Mapping[str, Account], secret: str) -> None:
        """Remember whose sessions, and what they are signed with."""
        self._accounts = accounts
        self._secret = secret.encode()
        self._serializer = make_serializer(secret)
        self._ended: OrderedDict[str, float] = OrderedDict()

    def begin(self, account: Account) -> str:
        """Return the token of a new session."""
        serial = secrets.token_urlsafe(12)
        return str(self._serializer.dumps([account.user.name, self._mark(account), serial]))

    def find(self, token: str) -> User | None:
        """Return whose session it is; None unless it is one of ours that holds."""
        found = self._open(token)
        return found[0] if found else None

    def end(self, token: str) -> None:
        """Let a session that holds be over for whoever has a copy, while this process runs."""
        found = self._open(token)
        if not found:
            return
        now = time.monotonic()
        # By its serial: the same token can be written in several ways.
        self._ended[found[1]] = now + SESSION_SECONDS
        while len(self._ended) > MOST_ENDED or next(iter(self._ended.values())) < now:
            self._ended.popitem(last=False)

    def _open(self, token: str) -> tuple[User, str] | None:
        try:
            name, mark, serial = self._serializer.loads(token, max_age=SESSION_SECONDS)
            account = self._accounts[name]
            if not hmac.compare_digest(mark, self._mark(account)) or serial in self._ended:
                return None
        except (BadData, ValueError, TypeError, KeyError):
            return None
        return account.user, serial

    def _mark(self, account: Account) -> str:
        known = f"{account.user.name}\0{account.password.text}".encode()
        return hmac.new(self._secret, known, hashlib.sha256).hexdigest()[:32]
