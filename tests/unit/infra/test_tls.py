"""The private CA: whom its certificates convince, and when they are made anew."""

import datetime as dt
import socket
import ssl
import stat
import threading
from pathlib import Path

import pytest
from cryptography import x509

from infra.tls.authority import CA_RENEW_DAYS, RENEW_DAYS, SERVICE_DAYS, Authority, Issued
from schemas.errors import SettingError

NOW = dt.datetime.now(dt.UTC)


def greet(folder: Path, name: str, *, ca_file: Path, host: str) -> str:
    """Speak TLS with a server that has this certificate; returns what it said."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
    ours, theirs = socket.socketpair()

    def serve() -> None:
        try:
            with server.wrap_socket(theirs, server_side=True) as connection:
                connection.sendall(b"hello")
        except OSError:
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    client = ssl.create_default_context(cafile=ca_file)
    try:
        with client.wrap_socket(ours, server_hostname=host) as connection:
            return connection.recv(5).decode()
    finally:
        ours.close()
        thread.join()


def ends_of(issued: list[Issued]) -> list[tuple[str, bool]]:
    return [(each.name, each.is_new) for each in issued]


def test_who_trusts_the_ca_is_convinced_by_its_certificates_for_their_hosts(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue("kafka", ["kafka.example", "127.0.0.1"])
    for host in ("kafka.example", "127.0.0.1"):
        assert greet(tmp_path, "kafka", ca_file=authority.certificate_file, host=host) == "hello"
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        greet(tmp_path, "kafka", ca_file=authority.certificate_file, host="other.example")


def test_nobody_else_is_convinced(tmp_path: Path) -> None:
    Authority(tmp_path / "ours").issue("kafka", ["kafka.example"])
    other = Authority(tmp_path / "theirs")
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer"):
        greet(tmp_path / "ours", "kafka", ca_file=other.certificate_file, host="kafka.example")


def test_an_expired_certificate_convinces_nobody(tmp_path: Path) -> None:
    long_ago = NOW - dt.timedelta(days=SERVICE_DAYS + 1)
    authority = Authority(tmp_path, now=long_ago)
    authority.issue("kafka", ["kafka.example"])
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        greet(tmp_path, "kafka", ca_file=authority.certificate_file, host="kafka.example")


def test_keys_are_for_their_owner_alone(tmp_path: Path) -> None:
    Authority(tmp_path / "tls").issue("kafka", ["kafka.example"])
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode) & 0o077
        for path in (tmp_path / "tls").glob("*.key")
    }
    assert modes == {"ca.key": 0, "kafka.key": 0}


def test_a_certificate_is_made_anew_only_when_it_has_to_be(tmp_path: Path) -> None:
    first = Authority(tmp_path).issue("kafka", ["kafka.example", "a.example"])
    again = Authority(tmp_path).issue("kafka", ["a.example", "kafka.example"])
    assert (first.is_new, again.is_new, again.ends_at) == (True, False, first.ends_at)
    assert Authority(tmp_path).issue("kafka", ["b.example"]).is_new
    late = NOW + dt.timedelta(days=SERVICE_DAYS - RENEW_DAYS + 1)
    assert ends_of(Authority(tmp_path).renew()) == [("kafka", False)]
    assert ends_of(Authority(tmp_path, now=late).renew()) == [("kafka", True)]


def test_a_lost_key_is_made_anew_with_its_certificate(tmp_path: Path) -> None:
    Authority(tmp_path).issue("kafka", ["kafka.example"])
    (tmp_path / "kafka.key").unlink()
    assert Authority(tmp_path).issue("kafka", ["kafka.example"]).is_new
    assert greet(tmp_path, "kafka", ca_file=tmp_path / "ca.pem", host="kafka.example") == "hello"


def test_while_the_ca_changes_clients_trust_the_old_and_the_new(tmp_path: Path) -> None:
    before = Authority(tmp_path)
    before.issue("kafka", ["kafka.example"])
    old = before.certificate
    late = old.not_valid_after_utc - dt.timedelta(days=CA_RENEW_DAYS - 1)
    after = Authority(tmp_path, now=late)
    bundle = x509.load_pem_x509_certificates((tmp_path / "ca.pem").read_bytes())
    assert bundle == [after.certificate, old]
    assert after.certificate.not_valid_after_utc > old.not_valid_after_utc
    assert greet(tmp_path, "kafka", ca_file=tmp_path / "ca.pem", host="kafka.example") == "hello"
    assert ends_of(after.renew()) == [("kafka", True)]
    gone = Authority(tmp_path, now=after.certificate.not_valid_after_utc - dt.timedelta(days=9))
    bundle = x509.load_pem_x509_certificates((tmp_path / "ca.pem").read_bytes())
    assert bundle == [gone.certificate, after.certificate]


@pytest.mark.parametrize(
    ("name", "hosts", "said"),
    [
        ("ca", ["a.example"], "'ca' is no name"),
        ("../kafka", ["a.example"], "'../kafka' is no name"),
        ("kafka", [], "is for no host"),
    ],
)
def test_what_cannot_be_issued_is_refused(
    tmp_path: Path, name: str, hosts: list[str], said: str
) -> None:
    with pytest.raises(SettingError, match=said):
        Authority(tmp_path).issue(name, hosts)


def test_a_broken_folder_is_said_in_a_sentence(tmp_path: Path) -> None:
    Authority(tmp_path)
    (tmp_path / "ca.key").write_text("rubbish")
    with pytest.raises(SettingError, match="holds no private key"):
        Authority(tmp_path)
    (tmp_path / "ca.pem").write_text("rubbish")
    with pytest.raises(SettingError, match="holds no certificate"):
        Authority(tmp_path)


@pytest.mark.parametrize("host", ["a b", "", "ü.example", "bad;x", "-a.example", "a" * 64, "a..b"])
def test_what_is_no_host_is_refused_with_a_sentence(tmp_path: Path, host: str) -> None:
    with pytest.raises(SettingError, match=r"is no name of a host: write db\.example"):
        Authority(tmp_path).issue("postgres", ["db.example", host])
    Authority(tmp_path).issue("postgres", ["*.db.example", "db_1", "127.0.0.1", "::1"])
