"""The dashboard: who is let in, and what those may do who are."""

from collections.abc import Callable

from tests.security import dashboard_paths, dashboard_script, dashboard_sql
from tests.security.claim import Area, Claim
from tests.security.dashboard_acts import Act, export, guess, lead_away, set_window
from tests.security.dashboard_doors import (
    find_doors,
    name_me,
    open_socket,
    reach,
    send_from_elsewhere,
    try_doors,
)
from tests.security.dashboard_stage import Site, Stage, open_stage
from tests.security.weak_dashboard import OTHER_SITE


def _with_cookie(address: str, cookie: Callable[[Stage], str]) -> Callable[[Stage], Site]:
    return lambda stage: Site(getattr(stage, address), cookie(stage))


def _as(address: str, name: str, **headers: str) -> Callable[[Stage], Site]:
    return lambda stage: Site(getattr(stage, address), stage.cookie_of(name), headers)


def _cookie_claim(name: str, tried: str, cookie: Callable[[Stage], str]) -> Claim:
    return Claim(
        name,
        tried,
        name_me,
        _with_cookie("guarded", cookie),
        _with_cookie("weak", cookie),
        saying="401",
    )


CLAIMS = (
    _cookie_claim(
        "forged-cookie",
        "a cookie that names an operator, signed with another secret",
        lambda stage: stage.cookie_of("otto", secret="another secret, and as long as the one"),
    ),
    _cookie_claim(
        "altered-cookie",
        "a viewer's cookie with an operator's name put into it",
        lambda stage: stage.altered_cookie(),
    ),
    _cookie_claim(
        "expired-cookie",
        "an operator's cookie of more than twelve hours ago",
        lambda stage: stage.expired_cookie(),
    ),
    Claim(
        "no-cookie",
        "every route and every callback without a session",
        try_doors,
        lambda stage: find_doors(stage, stage.guarded),
        lambda stage: find_doors(stage, stage.unlocked),
        saying="were all refused",
    ),
    Claim(
        "no-cookie-websocket",
        "the WebSocket without a session",
        open_socket,
        lambda stage: Site(stage.guarded),
        lambda stage: Site(stage.unlocked),
        saying="401",
    ),
    Claim(
        "other-sites-page",
        "a page of another site lets a user's browser send",
        send_from_elsewhere,
        _as("guarded", "otto"),
        _as("weak", "otto"),
        saying="page of another host",
    ),
    Claim(
        "other-sites-websocket",
        "a page of another site lets a user's browser open the WebSocket",
        open_socket,
        _as("guarded", "otto", Origin=OTHER_SITE),
        _as("weak", "otto", Origin=OTHER_SITE),
        saying="403",
    ),
    *(
        Claim(
            f"no-users-{name}",
            f"a dashboard without users, asked {tried}",
            reach,
            lambda stage, headers=headers: Site(stage.unlocked, headers=headers),
            lambda stage, headers=headers: Site(stage.weak_unlocked, headers=headers),
            saying="this machine alone",
        )
        for name, tried, headers in (
            ("other-host", "by a name that somebody else's DNS gives it", {"Host": "evil.example"}),
            ("through-a-proxy", "for another machine", {"X-Forwarded-For": "192.0.2.7"}),
        )
    ),
    Claim(
        "viewer-sets-maintenance",
        "a viewer sends what an operator's form sends",
        set_window,
        lambda stage: Act(stage.site(stage.guarded, "ada"), stage.owner),
        lambda stage: Act(stage.site(stage.weak, "ada"), stage.owner),
        saying="Only operators",
    ),
    Claim(
        "viewer-exports-quarantine",
        "a viewer asks for the quarantine as a file",
        export,
        _as("guarded", "ada"),
        _as("weak", "ada"),
        saying="Only an operator",
    ),
    Claim(
        "guessed-password",
        "a client tries one password after the other",
        guess,
        lambda stage: Site(stage.guarded),
        lambda stage: Site(stage.weak),
        saying="has to wait",
    ),
    Claim(
        "login-leads-away",
        "a link to the login that names another site to go on to",
        lead_away,
        lambda stage: Site(stage.guarded),
        lambda stage: Site(stage.weak),
        saying="own first page",
    ),
    *dashboard_paths.CLAIMS,
    *dashboard_sql.CLAIMS,
    *dashboard_script.CLAIMS,
)
AREA = Area("dashboard", "The dashboard", open_stage, CLAIMS)
