"""Certificates as they are made: who they speak for, what they may be used for, who can read the keys."""

import datetime
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from prfaas.errors import ConfigError
from prfaas.transport.certificates import make_authority, make_site_certificate, read_authority, write_authority
from tests.transport.site_certificates import NOW, make_sites


def test_a_site_certificate_says_who_it_is_and_no_more() -> None:
    """Its names are those asked for, it may dial and be dialed, sign nothing, and ends on its day."""
    certificate, key = make_site_certificate(
        make_authority(NOW), "edge", ["edge.site", "kv.example", "10.0.0.1"], NOW, 90
    )
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["edge.site", "kv.example"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.1"]
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usage) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert certificate.not_valid_after_utc - NOW.replace(microsecond=0) == datetime.timedelta(days=90)
    assert certificate.public_key() == key.public_key()


def test_openssl_believes_them(tmp_path: Path) -> None:
    """Another implementation verifies the chain strictly, for both purposes."""
    make_sites(tmp_path)
    for purpose in ("sslserver", "sslclient"):
        command = ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile", "ca.crt", "edge.crt"]
        assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 0


def test_keys_are_for_their_owner_alone(tmp_path: Path) -> None:
    """No key file can be read by others, and no drafts are left behind."""
    make_sites(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        *("ca.crt", "ca.key", "edge.crt", "edge.key", "cloud.crt", "cloud.key")
    }
    for path in tmp_path.glob("*.key"):
        assert path.stat().st_mode & 0o777 == 0o600


def test_an_authority_is_read_back(tmp_path: Path) -> None:
    """What was written signs again; an empty folder has none."""
    assert read_authority(tmp_path) is None
    written = make_authority(NOW)
    write_authority(tmp_path, written)
    read = read_authority(tmp_path)
    assert read is not None
    assert read.certificate == written.certificate


def test_half_an_authority_is_refused(tmp_path: Path) -> None:
    """A lost key, another's key and nonsense stop with the way out, and overwrite nothing."""
    write_authority(tmp_path, make_authority(NOW))
    write_authority(tmp_path / "other", make_authority(NOW))
    for content in (b"", (tmp_path / "other" / "ca.key").read_bytes()):
        (tmp_path / "ca.key").write_bytes(content)
        with pytest.raises(ConfigError, match="choose another folder"):
            read_authority(tmp_path)
    (tmp_path / "ca.key").unlink()
    with pytest.raises(ConfigError, match="cannot be used"):
        read_authority(tmp_path)
