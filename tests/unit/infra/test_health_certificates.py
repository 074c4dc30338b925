"""Certificates in files: which one expires, and when it is said."""

import datetime as dt
from pathlib import Path

import pytest
import trustme

from infra.health.certificates import check_certificates
from infra.health.finding import Status

NOW = dt.datetime(2026, 11, 23, 14, 0, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def write(authority: trustme.CA, path: Path, name: str, ends: dt.datetime) -> str:
    issued = authority.issue_cert(
        f"{name}.example", common_name=name, not_before=NOW - 400 * DAY, not_after=ends
    )
    with path.open("ab") as file:
        file.write(issued.cert_chain_pems[0].bytes())
    return str(path)


async def test_a_certificate_that_lasts_is_good(authority: trustme.CA, tmp_path: Path) -> None:
    places = [
        write(authority, tmp_path / "far.pem", "far", NOW + 300 * DAY),
        write(authority, tmp_path / "near.pem", "near", NOW + 15 * DAY),
    ]
    found = await check_certificates(places, 14, seconds=5, now=NOW)
    assert found.status is Status.GOOD
    assert found.detail == f"The first to expire is that of {places[1]}, on 2026-12-08."


async def test_one_that_expires_soon_or_has_expired_is_named(
    authority: trustme.CA, tmp_path: Path
) -> None:
    far = write(authority, tmp_path / "far.pem", "far", NOW + 300 * DAY)
    soon = write(authority, tmp_path / "soon.pem", "kafka", NOW + 14 * DAY)
    over = write(authority, tmp_path / "over.pem", "ledger", NOW - DAY)
    found = await check_certificates([far, soon, over], 14, seconds=5, now=NOW)
    assert found.status is Status.BAD
    assert "CN=kafka" in found.detail
    assert f"of {soon} expires on 2026-12-07 14:00 UTC" in found.detail
    assert "CN=ledger" in found.detail
    assert f"of {over} expired on 2026-11-22 14:00 UTC" in found.detail
    assert "far" not in found.detail
    # A day earlier there was time enough for the one, and the other was over soon.
    earlier = await check_certificates([far, soon], 14, seconds=5, now=NOW - DAY)
    assert earlier.status is Status.GOOD


async def test_each_certificate_of_a_file_counts(authority: trustme.CA, tmp_path: Path) -> None:
    path = tmp_path / "chain.pem"
    for name, days in (("leaf", 300), ("middle", 3)):
        write(authority, path, name, NOW + days * DAY)
    found = await check_certificates([str(path)], 14, seconds=5, now=NOW)
    assert found.status is Status.BAD
    assert "CN=middle" in found.detail
    assert "CN=leaf" not in found.detail


async def test_a_file_that_cannot_be_read_is_bad(authority: trustme.CA, tmp_path: Path) -> None:
    far = write(authority, tmp_path / "far.pem", "far", NOW + 300 * DAY)
    no_certificate = tmp_path / "text.pem"
    no_certificate.write_text("hello")
    for place in (str(tmp_path / "gone.pem"), str(no_certificate)):
        found = await check_certificates([far, place], 14, seconds=5, now=NOW)
        assert found.status is Status.BAD
        assert found.detail.startswith(f"cannot be read: {place} (")
