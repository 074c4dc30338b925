"""The certificates that are handed out: each key to one reader, renewed, of one CA."""

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509

from deployments.certificates import CERTIFICATES, CONTAINER_OWNERS, find_owners, hand_out
from deployments.secrets import CONTAINER_USERS
from infra.tls.authority import hosts_of
from schemas.errors import SettingError

DOMAIN = "data.example"
NOBODY: dict[str, tuple[int, int] | None] = dict.fromkeys(CERTIFICATES)


def load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_each_service_finds_its_own(tmp_path: Path) -> None:
    handed = tmp_path / "handed"
    said = hand_out(tmp_path / "authority", handed, DOMAIN, NOBODY)
    assert [each.split()[0] for each in said] == list(CERTIFICATES)
    for service, certificate in CERTIFICATES.items():
        folder = handed / service
        assert {each.name for each in folder.iterdir()} == {"certificate.pem", "key.pem", "ca.pem"}
        assert (folder / "key.pem").stat().st_mode & 0o777 == 0o400
        expected = {f"{name}.{DOMAIN}" for name in certificate.names}
        if certificate.is_local:
            expected.add("localhost")
        shown = load(folder / "certificate.pem")
        assert set(hosts_of(shown)) == expected
        shown.verify_directly_issued_by(load(handed / "ca" / "ca.pem"))
    keys = {(handed / service / "key.pem").read_bytes() for service in CERTIFICATES}
    assert len(keys) == len(CERTIFICATES)
    assert {each.name for each in (handed / "ca").iterdir()} == {"ca.pem"}


def test_again_they_are_kept(tmp_path: Path) -> None:
    def read() -> dict[str, bytes]:
        found = sorted((tmp_path / "handed").rglob("*.pem"))
        return {str(each): each.read_bytes() for each in found}

    hand_out(tmp_path / "authority", tmp_path / "handed", DOMAIN, NOBODY)
    before = read()
    said = hand_out(tmp_path / "authority", tmp_path / "handed", DOMAIN, NOBODY)
    assert read() == before
    assert all(each.endswith("kept") for each in said)
    hand_out(tmp_path / "authority", tmp_path / "handed", "other.example", NOBODY)
    changed = {Path(name).name for name, each in read().items() if before[name] != each}
    assert changed == {"certificate.pem", "key.pem"}


def test_keys_belong_to_who_reads_them(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    hand_out(tmp_path / "authority", tmp_path / "handed", DOMAIN, CONTAINER_OWNERS)
    for service, certificate in CERTIFICATES.items():
        state = (tmp_path / "handed" / service / "key.pem").stat()
        number = CONTAINER_USERS[certificate.reader]
        assert (state.st_uid, state.st_gid, state.st_mode & 0o777) == (number, number, 0o400)


def test_a_host_names_its_own_users() -> None:
    someone = pwd.getpwall()[-1]
    assert find_owners([f"postgres={someone.pw_name}"]) == {
        "postgres": (someone.pw_uid, someone.pw_gid)
    }
    with pytest.raises(SettingError, match="names no service: take one of postgres, kafka, proxy"):
        find_owners(["postgresql=root"])
    with pytest.raises(SettingError, match="has no user 'nobody-here'"):
        find_owners(["postgres=nobody-here"])


def test_only_services_that_are_there_get_one(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "deployments.certificates"),
            *(str(tmp_path / "authority"), str(tmp_path / "handed")),
            *("--domain", DOMAIN, "--owner", f"proxy={pwd.getpwuid(os.geteuid()).pw_name}"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("proxy  for dashboard.data.example")
    assert {each.name for each in (tmp_path / "handed").iterdir()} == {"proxy", "ca"}
