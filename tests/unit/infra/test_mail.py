"""What a mail says and how it looks, before any server sees it."""

import datetime as dt
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr

from infra.mail.apprise import hide_url
from infra.mail.channels import check_channels, digest_of
from infra.mail.document import (
    Document,
    Facts,
    Footer,
    Heading,
    Item,
    Items,
    Lines,
    Links,
    Paragraph,
    Quote,
    hide_private,
)
from infra.mail.html import render_html
from infra.mail.message import build_message, one_line
from infra.mail.text import render_text
from infra.redaction import hide_secrets_of
from infra.settings import Settings
from schemas.errors import SettingError

HOSTILE = "<img src=x onerror=alert(1)> & \"quoted\" 'single' \x00\x1b[0m\u202eend"
TEXTS = 17
"""So many texts has the document below, with the title that its subject becomes."""


def document(text: str) -> Document:
    return Document(
        subject=text,
        tone="bad",
        headline=text,
        blocks=(Quote(text), Paragraph(text), Facts(((text, text),)), Items((Item(text, text),))),
        details=(
            Heading(text),
            Items((Item(text, text, text),)),
            Lines(text),
            Links(((text, "javascript:alert(1)"), (text, f"https://x.example/{text}"))),
            Footer(text),
        ),
    )


def test_every_text_of_every_block_is_escaped_and_nothing_is_loaded() -> None:
    html = render_html(hide_private(document(HOSTILE)))
    assert "<img" not in html
    assert html.count("&lt;img src=x onerror=alert(1)&gt;") == TEXTS
    for control in ("\x00", "\x1b", "\u202e"):
        assert control not in html
    [address] = re.findall(r' (?:src|href|srcset|background|action)="([^"]*)"', html)
    assert address.startswith("https://x.example/&lt;img src=x onerror=alert(1)&gt; &amp; &quot;")
    assert "url(" not in html
    assert not re.search(r"<(script|link|style|iframe|img|form)", html)
    assert 'name="viewport"' in html
    assert "max-width:640px" in html


def test_every_text_of_every_block_is_without_what_is_private() -> None:
    settings = Settings(smtp_password=SecretStr("c0rrect-horse"))
    hide_secrets_of(settings)
    shown = hide_private(document("ann@example.com c0rrect-horse password=battery"))
    text, html = render_text(shown), render_html(shown)
    for private in ("ann@example.com", "c0rrect-horse", "battery"):
        assert private not in f"{text}{html}{shown.subject}"
    assert html.count("•••") == 3 * TEXTS


def test_a_brief_message_has_no_details() -> None:
    given = replace(document("x"), details=(Lines("deep"),))
    assert "deep" in render_text(given)
    assert "deep" not in render_text(given, is_brief=True)


def test_text_keeps_the_lines_whose_breaks_count_and_folds_the_others() -> None:
    line = "word " * 40
    text = render_text(
        Document(
            "s",
            "plain",
            "Headline",
            (
                Paragraph(line),
                Lines(line + "\n  indented"),
                Links((("There", "https://x.example/" + "y" * 100),)),
            ),
        )
    )
    assert f"    {line}\n      indented" in text
    assert f"There:\nhttps://x.example/{'y' * 100}\n" in text
    assert text.splitlines()[2] == ("word " * 15).strip()


def test_no_part_of_a_channel_s_url_is_shown() -> None:
    url = "slack://Bot%20Name@T1JJ3T3L2/A1BRTD4JD/TIiajkdn?format=text&key=s3cret/#channel-name"
    said = "cannot post to https://hooks.example/T1JJ3T3L2/A1BRTD4JD/TIiajkdn as Bot Name: s3cret/"
    assert hide_url(said, url) == "cannot post to https://hooks.example/•••/•••/••• as •••: •••"


def message(**more: Any) -> Any:
    given = {
        "subject": "s",
        "text": "text",
        "html": "<p>html</p>",
        "sender": "Sluiceway <sluiceway@mail.example>",
        "recipients": ("a@x.example", "b@x.example"),
        "notice": UUID(int=7),
        "created_at": dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC),
    }
    return build_message(**(given | more))


def test_the_headers_say_that_a_machine_wrote_and_are_the_same_the_next_time() -> None:
    made = message()
    assert made["Auto-Submitted"] == "auto-generated"
    assert made["List-ID"] == "Sluiceway alerts <alerts.sluiceway.mail.example>"
    assert made["Message-ID"] == "<00000000-0000-0000-0000-000000000007@mail.example>"
    assert made["Date"] == "Fri, 02 Jan 2026 03:04:05 +0000"
    assert made["To"] == "a@x.example, b@x.example"
    assert [part.get_content_type() for part in made.iter_parts()] == ["text/plain", "text/html"]


@pytest.mark.parametrize(
    "subject",
    ["a\r\nBcc: v@x.example", "a\nb", "a\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029b", "\x00", "ü" * 999],
)
def test_a_subject_is_one_line_of_at_most_200_characters(subject: str) -> None:
    made = message(subject=subject)
    assert len(made["Subject"]) <= 200
    head = made.as_bytes().split(b"\r\n\r\n")[0]
    names = {line.split(b":")[0] for line in head.split(b"\r\n") if not line.startswith(b" ")}
    assert b"Bcc" not in names
    assert names == {
        *(b"Subject", b"From", b"To", b"Date", b"Message-ID", b"List-ID", b"Auto-Submitted"),
        *(b"X-Auto-Response-Suppress", b"MIME-Version", b"Content-Type"),
    }


def test_lines_are_short_enough_for_any_server() -> None:
    made = message(text="x" * 5000, html="<p>" + "ü" * 5000 + "</p>").as_bytes()
    assert max(map(len, made.split(b"\r\n"))) <= 998


def test_a_text_that_is_cut_says_so() -> None:
    assert one_line("a " * 300, 200).endswith("a…")
    assert one_line(" a \n b ", 200) == "a b"


def settings(**more: Any) -> Settings:
    return Settings(**({"smtp_host": "mail.example", "mail_to": ("ops@x.example",)} | more))


def test_the_channels_are_those_that_are_set_up() -> None:
    assert check_channels(Settings()) == ()
    assert check_channels(settings()) == ("mail",)
    assert check_channels(settings(smtp_host="127.0.0.1", smtp_security="none")) == ("mail",)


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
def test_urls_are_those_that_apprise_knows_and_are_not_shown() -> None:
    known = Settings(notify_urls=("json://x.example/hidden-part",))
    assert check_channels(known) == ("apprise",)
    with pytest.raises(SettingError, match="URL number 2") as raised:
        check_channels(Settings(notify_urls=("json://x.example/hidden-part", "nope://hidden-part")))
    assert "hidden-part" not in str(raised.value)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"mail_to": ()}, "SLUICEWAY_MAIL_TO names nobody"),
        ({"mail_to": ("ops",)}, "SLUICEWAY_MAIL_TO"),
        ({"mail_to": ("ops@x.example\r\nBcc: v@x.example",)}, "SLUICEWAY_MAIL_TO"),
        ({"mail_from": "nobody"}, "SLUICEWAY_MAIL_FROM"),
        ({"smtp_security": "none"}, "in clear to mail.example"),
        ({"smtp_user": "u"}, "SLUICEWAY_SMTP_PASSWORD"),
        ({"smtp_ca_file": Path("/nowhere.pem")}, "SLUICEWAY_SMTP_CA_FILE"),
        ({"smtp_ca_file": Path(__file__)}, "SLUICEWAY_SMTP_CA_FILE"),
    ],
)
def test_settings_that_cannot_work_are_named(given: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingError, match=re.escape(named)):
        check_channels(settings(**given))


def test_an_address_is_known_by_its_digest_however_it_is_written() -> None:
    assert digest_of("Ops@X.example ") == digest_of("ops@x.example") != digest_of("dev@x.example")
