"""A certificate authority and the certificates of sites: what ``prfaas certs`` makes.

Needs the ``cryptography`` library (extra ``certs``); nothing that runs with these certificates does.
"""

import contextlib
import datetime
import ipaddress
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from prfaas.errors import ConfigError

CA_DAYS = 3_650
"""Replacing the authority means touching every site at once; replacing a site's certificate does not."""
CLOCK_SKEW = datetime.timedelta(hours=1)
"""Certificates are valid from so long ago, for hosts whose clocks are late."""

Name = x509.DNSName | x509.IPAddress


@dataclass(frozen=True)
class Authority:
    """Whoever signs certificates; the key stays in ``prfaas certs``' folder and on no server."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def make_authority(now: datetime.datetime, days: int = CA_DAYS) -> Authority:
    """A new authority that may sign servers and clients and no further authorities."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _subject("prfaas CA")
    builder = (
        _builder(name, name, key.public_key(), now, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
    )
    return Authority(builder.sign(key, hashes.SHA256()), key)


def make_site_certificate(
    authority: Authority, site: str, names: Sequence[str], now: datetime.datetime, days: int
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A certificate with which engines and gateway of ``site`` dial and are dialed.

    Args:
        names: what peers may find in it: the site's certificate name first, then hosts and addresses.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = (
        _builder(_subject(f"prfaas {site}"[:64]), authority.certificate.subject, key.public_key(), now, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
    )
    return builder.sign(authority.key, hashes.SHA256()), key


def write_authority(folder: Path, authority: Authority) -> None:
    """Write ``ca.crt``, which every site gets, and ``ca.key``, which none does."""
    _write(folder / "ca.key", _key_pem(authority.key), mode=0o600)
    _write(folder / "ca.crt", _pem(authority.certificate), mode=0o644)


def read_authority(folder: Path) -> Authority | None:
    """The authority of an earlier ``write_authority``; None when there is none.

    Raises:
        ConfigError: half of it is there, or it cannot be used.
    """
    certificate_path, key_path = folder / "ca.crt", folder / "ca.key"
    if not certificate_path.exists() and not key_path.exists():
        return None
    try:
        certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
        key = serialization.load_pem_private_key(key_path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"{folder}: its certificate authority cannot be used: {error}; give back both ca.crt and ca.key, or choose "
            "another folder for a new one"
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise ConfigError(f"{key_path}: is not the key of {certificate_path}; choose another folder for a new one")
    return Authority(certificate, key)


def write_site_certificate(
    folder: Path, site: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> None:
    """Write ``SITE.crt`` and ``SITE.key``; each replaces an earlier one at once, so that a reader never sees half."""
    _write(folder / f"{site}.key", _key_pem(key), mode=0o600)
    _write(folder / f"{site}.crt", _pem(certificate), mode=0o644)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime.datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> Name:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        return x509.DNSName(name)
    except ValueError as error:
        raise ConfigError(f"{name!r} cannot stand in a certificate: {error}") from None


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes, *, mode: int) -> None:
    """Replace a file at once; it never exists with more rights than ``mode``."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(content)
            os.chmod(draft, mode)
            os.replace(draft, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(draft)
            raise
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}") from None


def issue(folder: Path, names: Mapping[str, Sequence[str]], now: datetime.datetime, days: int) -> bool:
    """Make a certificate for each site of ``names`` (site -> names in its certificate), by the authority in ``folder``,
    which is made at the first call. A site's earlier certificate is replaced: that is how it is renewed.

    Returns:
        Whether the authority is new.

    Raises:
        ConfigError: a file cannot be used or written, or a name cannot stand in a certificate.
    """
    authority = read_authority(folder)
    is_new = authority is None
    if authority is None:
        authority = make_authority(now)
    made = {site: make_site_certificate(authority, site, listed, now, days) for site, listed in names.items()}
    if is_new:
        write_authority(folder, authority)
    for site, (certificate, key) in made.items():
        write_site_certificate(folder, site, certificate, key)
    return is_new
