"""Makes a private CA and the services' certificates in a folder, and renews them before they end.

The CA's own certificate is renewed long before its end too: for as long as certificates of the old
one are about, `ca.pem` holds both, so that clients which read it trust either.
"""

import datetime as dt
import ipaddress
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from schemas.errors import SettingError

CA_DAYS = 3650
SERVICE_DAYS = 397
"""What browsers still take."""
RENEW_DAYS = 30
"""A certificate that ends within so many days is made anew."""
CA_RENEW_DAYS = SERVICE_DAYS + RENEW_DAYS
"""No certificate outlives the CA that signed it."""

_CA = "ca"
_MAX_HOST = 253
_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"(\*\.)?{_LABEL}(\.{_LABEL})*")
_PRIVATE_FILE = 0o600
_SKEW = dt.timedelta(minutes=5)
"""Clocks of other machines may be behind by this."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate as it lies in the folder."""

    name: str
    hosts: tuple[str, ...]
    ends_at: dt.datetime
    is_new: bool


class Authority:
    """The CA of a folder: `ca.pem` for clients, `ca.key` for nobody but it."""

    def __init__(self, folder: Path, *, now: dt.datetime | None = None) -> None:
        """Open the folder's CA, or make one where there is none.

        now: what the CA takes for the time; by default the clock's.
        """
        self.folder = folder
        self._now = now or dt.datetime.now(dt.UTC)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._path(_CA, "key").exists():
            self._make(kept=[])
        known = self._read(_CA)
        if _ends_within(known[0], self._now, CA_RENEW_DAYS):
            self._make(kept=[each for each in known if not _ends_within(each, self._now, 0)])
            known = self._read(_CA)
        self.certificate = known[0]
        self._key = self._read_key()

    @property
    def certificate_file(self) -> Path:
        """What clients trust: `sslrootcert`, `SLUICEWAY_SMTP_CA_FILE` and so on."""
        return self._path(_CA, "pem")

    def issue(self, name: str, hosts: Sequence[str], *, days: int = SERVICE_DAYS) -> Issued:
        """Leave `<name>.pem`, a certificate for those hosts, and `<name>.key` in the folder.

        hosts: DNS names and IP addresses. What is there already stays where it is for the same
        hosts, of this CA, and good for longer than RENEW_DAYS.
        """
        if name == _CA or not name or Path(name).name != name:
            raise SettingError(
                f"'{name}' is no name for a certificate: take a service's, as kafka."
            )
        if not hosts:
            raise SettingError(f"The certificate {name} is for no host: name at least one.")
        before = self._find(name)
        wanted = tuple(sorted({check_host(each) for each in hosts}))
        if (
            before is not None
            and hosts_of(before) == wanted
            and self._has_signed(before)
            and not _ends_within(before, self._now, min(RENEW_DAYS, days // 2))
        ):
            return Issued(name, wanted, before.not_valid_after_utc, is_new=False)
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(key.public_key(), wanted, days)
        # The key first: who reads the pair in between finds one that does not fit, and tries again.
        _write(self._path(name, "key"), _encode_key(key), private=True)
        _write(self._path(name, "pem"), _encode(certificate), private=False)
        return Issued(name, wanted, certificate.not_valid_after_utc, is_new=True)

    def renew(self) -> list[Issued]:
        """Make anew what of the folder ends soon or is of an earlier CA; returns all there is."""
        names = sorted(path.stem for path in self.folder.glob("*.pem") if path.stem != _CA)
        return [self.issue(name, hosts_of(self._read(name)[0])) for name in names]

    def _sign(
        self, key: ec.EllipticCurvePublicKey, hosts: Sequence[str], days: int
    ) -> x509.Certificate:
        alternatives = x509.SubjectAlternativeName([_general_name(each) for each in hosts])
        purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = (
            self._builder(hosts[0], days)
            .issuer_name(self.certificate.subject)
            .public_key(key)
            .add_extension(alternatives, critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_others=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        return builder.sign(self._key, hashes.SHA256())

    def _make(self, kept: Sequence[x509.Certificate]) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = f"Sluiceway CA {self._now:%Y-%m-%d %H:%M:%S}"
        builder = self._builder(name, CA_DAYS)
        certificate = (
            builder.issuer_name(_name(name))
            .public_key(key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_others=True), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .sign(key, hashes.SHA256())
        )
        bundle = b"".join(_encode(each) for each in (certificate, *kept))
        _write(self._path(_CA, "key"), _encode_key(key), private=True)
        _write(self._path(_CA, "pem"), bundle, private=False)

    def _builder(self, name: str, days: int) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._now - _SKEW)
            .not_valid_after(self._now + dt.timedelta(days=days))
        )

    def _has_signed(self, certificate: x509.Certificate) -> bool:
        return certificate.issuer == self.certificate.subject

    def _find(self, name: str) -> x509.Certificate | None:
        has_both = self._path(name, "pem").exists() and self._path(name, "key").exists()
        return self._read(name)[0] if has_both else None

    def _read(self, name: str) -> list[x509.Certificate]:
        path = self._path(name, "pem")
        try:
            return x509.load_pem_x509_certificates(path.read_bytes())
        except (OSError, ValueError) as error:
            raise SettingError(
                f"{path} holds no certificate ({error}): restore it, or delete it and the key "
                "beside it to have both made anew."
            ) from error

    def _read_key(self) -> ec.EllipticCurvePrivateKey:
        path = self._path(_CA, "key")
        try:
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except (OSError, ValueError) as error:
            raise SettingError(
                f"{path} holds no private key ({error}): restore it, or delete {_CA}.key and "
                f"{_CA}.pem to have a new CA made."
            ) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise SettingError(f"{path} is no key that this CA has made: restore the one that was.")
        return key

    def _path(self, name: str, kind: str) -> Path:
        return self.folder / f"{name}.{kind}"


def hosts_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the DNS names and IP addresses that a certificate is good for, sorted."""
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    names = found.get_values_for_type(x509.DNSName)
    addresses = found.get_values_for_type(x509.IPAddress)
    return tuple(sorted([*names, *map(str, addresses)]))


def check_host(host: str) -> str:
    """Return the host; raises SettingError where it is neither a DNS name nor an IP address."""
    if not (_is_address(host) or (len(host) <= _MAX_HOST and _HOST.fullmatch(host))):
        raise SettingError(
            f"'{host[:_MAX_HOST]}' is no name of a host: write db.example, or an IP address."
        )
    return host


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _general_name(host: str) -> x509.GeneralName:
    if _is_address(host):
        return x509.IPAddress(ipaddress.ip_address(host))
    return x509.DNSName(host)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])])


def _usage(*, signs_others: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_others,
        key_cert_sign=signs_others,
        crl_sign=signs_others,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _ends_within(certificate: x509.Certificate, now: dt.datetime, days: int) -> bool:
    return certificate.not_valid_after_utc <= now + dt.timedelta(days=days)


def _encode(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _encode_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    # PKCS8, which Kafka reads as PEM too.
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write(path: Path, content: bytes, *, private: bool) -> None:
    """Leave that content in the file; who reads it meanwhile reads the old or the new, whole."""
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    mode = _PRIVATE_FILE if private else 0o644
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    draft.replace(path)
