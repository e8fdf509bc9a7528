"""The three files: what is read, when it is read again, and how an operator hears what is wrong."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from prfaas.errors import ConfigError, TransferFailed
from prfaas.transport.certificates import make_authority
from prfaas.transport.tls import KeyRing
from tests.transport.site_certificates import NOW, make_sites, settings, write_site

Spoil = Callable[[Path], object]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_sites(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "ca.crt").unlink(), r"tls\.ca: .*ca\.crt: No such file or directory: make one with"),
        (lambda f: (f / "edge.crt").unlink(), r"tls\.cert: .*edge\.crt: No such file"),
        (lambda f: (f / "edge.key").unlink(), r"tls\.key: .*edge\.key: No such file"),
        (lambda f: (f / "ca.crt").write_text("hello"), r"tls\.ca: .*ca\.crt: holds no certificate of an authority"),
        (
            lambda f: (f / "edge.crt").write_text("hello"),
            r"tls\.cert, tls\.key: .*edge\.crt.*not a certificate and its",
        ),
        (
            lambda f: (f / "edge.key").write_text("hello"),
            r"tls\.cert, tls\.key: .*edge\.key.*not a certificate and its",
        ),
        (
            lambda f: os.replace(f / "cloud.key", f / "edge.key"),
            r"tls\.key: .*edge\.key: is not the key of .*edge\.crt",
        ),
        (lambda f: (f / "edge.key").write_bytes(bytes(2 << 20)), r"tls\.key: .*edge\.key: larger than 1 MiB"),
    ],
)
def test_what_cannot_be_used_is_named_with_the_way_out(folder: Path, spoil: Spoil, message: str) -> None:
    """Each mistake names the key, the file and the reason, and stops the start."""
    spoil(folder)
    with pytest.raises(ConfigError, match=message):
        KeyRing(settings(folder, "edge"))


def test_unchanged_files_are_read_once(folder: Path) -> None:
    """As long as no file changes every handshake gets the very same keys."""
    ring = KeyRing(settings(folder, "edge"))
    assert ring.keys() is ring.keys()


def test_any_changed_file_is_noticed_at_the_next_handshake(folder: Path) -> None:
    """A renewed certificate and a new authority each give new keys, without a restart."""
    ring = KeyRing(settings(folder, "edge"))
    first = ring.keys()
    authority = make_authority(NOW)
    write_site(folder, authority, "edge")
    second = ring.keys()
    assert first.cert_pem != second.cert_pem
    assert second.ca_pem == (folder / "ca.crt").read_bytes() != first.ca_pem


def test_half_a_renewal_changes_nothing_until_it_is_whole(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A key without its certificate leaves the earlier pair in use, and says so once; the whole pair is taken."""
    ring = KeyRing(settings(folder, "edge"))
    first = ring.keys()
    make_sites(folder / "next")
    os.replace(folder / "next" / "edge.key", folder / "edge.key")
    assert ring.keys() is first
    assert ring.keys() is first
    assert caplog.text.count("the earlier ones stay in use") == 1
    os.replace(folder / "next" / "edge.crt", folder / "edge.crt")
    assert ring.keys().cert_pem != first.cert_pem


def test_an_address_without_a_known_name_cannot_be_dialed(folder: Path) -> None:
    """Whom to expect is known beforehand, or nobody is called."""
    tls = replace(settings(folder, "edge"), names={"cloud:7102": "cloud.site.prfaas"})
    assert tls.name_at("cloud:7102") == "cloud.site.prfaas"
    with pytest.raises(TransferFailed, match=r"cloud:7103 is the kv endpoint of no engine"):
        tls.name_at("cloud:7103")
