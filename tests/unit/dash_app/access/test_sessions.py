import base64
import string
import time
from dataclasses import replace

import pytest
from itsdangerous import TimestampSigner

from dash_app.access import sessions
from dash_app.access.accounts import Account
from dash_app.access.passwords import PasswordHash
from dash_app.access.sessions import SESSION_SECONDS, Sessions, make_serializer
from dash_app.access.users import Role, User

SECRET = "only for tests, and long enough to sign"
ADA = Account(User("ada", Role.VIEWER), PasswordHash(14, 1, b"0" * 16, b"1" * 32))
OTTO = Account(User("otto", Role.OPERATOR), PasswordHash(14, 1, b"2" * 16, b"3" * 32))
ACCOUNTS = {"ada": ADA, "otto": OTTO}


@pytest.fixture
def kept() -> Sessions:
    return Sessions(ACCOUNTS, SECRET)


def test_a_session_is_its_users(kept) -> None:
    assert kept.find(kept.begin(ADA)) == ADA.user
    assert kept.find(kept.begin(OTTO)) == OTTO.user


def test_a_session_outlives_the_process() -> None:
    token = Sessions(ACCOUNTS, SECRET).begin(ADA)
    assert Sessions(ACCOUNTS, SECRET).find(token) == ADA.user


def test_no_character_of_a_session_can_be_another(kept) -> None:
    token = kept.begin(ADA)
    for place, sign in enumerate(token[:-1]):  # the last one carries bits that mean nothing
        other = "A" if sign != "A" else "B"
        assert kept.find(f"{token[:place]}{other}{token[place + 1 :]}") is None, place


@pytest.mark.parametrize("given", ["", ".", "..", "a.b.c", "é", "\0", "x" * 10_000, ".eJw.x.y"])
def test_rubbish_is_nobodys_session(kept, given) -> None:
    assert kept.find(given) is None


def test_another_secret_signs_nothing(kept) -> None:
    assert kept.find(Sessions(ACCOUNTS, SECRET + "!").begin(ADA)) is None


def test_a_removed_user_has_no_session() -> None:
    token = Sessions(ACCOUNTS, SECRET).begin(ADA)
    assert Sessions({"otto": OTTO}, SECRET).find(token) is None


def test_a_changed_password_ends_sessions() -> None:
    token = Sessions(ACCOUNTS, SECRET).begin(ADA)
    changed = replace(ADA, password=replace(ADA.password, key=b"9" * 32))
    assert Sessions({"ada": changed}, SECRET).find(token) is None


def test_a_changed_role_holds_at_once() -> None:
    token = Sessions(ACCOUNTS, SECRET).begin(ADA)
    promoted = replace(ADA, user=User("ada", Role.OPERATOR))
    assert Sessions({"ada": promoted}, SECRET).find(token) == promoted.user


def test_another_users_mark_is_no_session(kept) -> None:
    """Two users may have the same password hash copied, and still are two."""
    twin = Account(User("otto", Role.OPERATOR), ADA.password)
    both = Sessions({"ada": ADA, "otto": twin}, SECRET)
    sign = make_serializer(SECRET)
    _, mark, serial = sign.loads(both.begin(ADA))
    assert both.find(str(sign.dumps(["ada", mark, serial]))) == ADA.user
    assert both.find(str(sign.dumps(["otto", mark, serial]))) is None


@pytest.mark.parametrize(
    ("age", "holds"),
    [(SESSION_SECONDS - 5, True), (SESSION_SECONDS + 5, False), (-3600, False)],
)
def test_a_session_holds_twelve_hours(kept, age, holds) -> None:
    class Then(TimestampSigner):
        def get_timestamp(self) -> int:
            return int(time.time()) - age

    payload = make_serializer(SECRET).loads(kept.begin(ADA))
    token = str(make_serializer(SECRET, signer=Then).dumps(payload))
    assert (kept.find(token) == ADA.user) is holds


@pytest.mark.parametrize(
    "payload",
    [None, "ada", [], ["ada"], ["ada", "x", "y"], ["ada", None, "y"], [["ada"], "x", "y"], {}, 7],
)
def test_what_was_signed_for_something_else_is_no_session(kept, payload) -> None:
    assert kept.find(str(make_serializer(SECRET).dumps(payload))) is None


def test_an_ended_session_is_over_for_every_copy(kept) -> None:
    token, other = kept.begin(ADA), kept.begin(ADA)
    kept.end(token)
    assert kept.find(token) is None
    assert kept.find(other) == ADA.user


def test_an_ended_session_is_over_however_it_is_written(kept) -> None:
    token = kept.begin(ADA)
    alphabet = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
    signature = token.rpartition(".")[2]
    same = [
        token[:-1] + each
        for each in alphabet
        if base64.urlsafe_b64decode(signature[:-1] + each + "=")
        == base64.urlsafe_b64decode(signature + "=")
    ]
    assert len(same) == 4
    kept.end(same[0])
    assert [kept.find(each) for each in same] == [None] * 4


def test_ended_sessions_are_remembered_in_bounded_memory(kept, monkeypatch) -> None:
    monkeypatch.setattr(sessions, "MOST_ENDED", 3)
    tokens = [kept.begin(ADA) for _ in range(5)]
    for each in ["rubbish", *tokens, "rubbish"]:
        kept.end(each)
    assert [kept.find(each) is None for each in tokens] == [False, False, True, True, True]


def test_nothing_of_a_secret_is_in_a_repr(kept) -> None:
    assert SECRET not in repr(kept)
    assert SECRET not in repr(ADA)
