"""Certificates, real ones: good, and wrong in every way that is told apart."""

import datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from prfaas.config import Config, TlsConfig, parse_config
from prfaas.doctor.certificates import DAY_S, check_certificates, read_site
from prfaas.doctor.scope import Scope
from prfaas.errors import ConfigError
from prfaas.transport.certificates import (
    Authority,
    make_authority,
    make_site_certificate,
    read_authority,
    write_authority,
    write_site_certificate,
)
from tests.doctor.stage import codes, site_tree, sites
from tests.transport.site_certificates import NOW, make_sites, write_site

NOW_S = NOW.timestamp()


def issue(folder: Path, site: str, name: str, days: int) -> None:
    authority = read_authority(folder)
    assert authority is not None
    write_site_certificate(folder, site, *make_site_certificate(authority, site, [name], NOW, days))


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Both sites with certificates of one authority, those of the edge good for a year."""
    make_sites(tmp_path)
    issue(tmp_path, "edge", "edge.site.prfaas", 365)
    return sites(tmp_path)


def found(config: Config, *, after_days: float = 0, site: str = "edge") -> list[str]:
    return codes(check_certificates(Scope(config, site), NOW_S + after_days * DAY_S))


def test_good_certificates_are_fine(config: Config) -> None:
    """Nothing is found, and what is told has names and the last day."""
    checked = check_certificates(Scope(config, "edge"), NOW_S)
    assert checked.findings == ()
    ends = (NOW + datetime.timedelta(days=365)).strftime("%Y-%m-%d")
    assert "edge.site.prfaas" in checked.seen[0]
    assert ends in checked.seen[0]


@pytest.mark.parametrize(
    ("after_days", "code"),
    [
        (-2, "certificates.early"),
        (334, ""),
        (336, "certificates.ending"),
        (364.9, "certificates.ending"),
        (366, "certificates.expired"),
    ],
)
def test_dates_are_judged_by_the_clock(config: Config, after_days: float, code: str) -> None:
    """Too early, fine, within its last 30 days, and over; the authority's are judged as well."""
    of_site = [each for each in check_certificates(Scope(config, "edge"), NOW_S + after_days * DAY_S).findings
               if each.where == "sites.edge.tls.cert"]  # fmt: skip
    assert [each.code for each in of_site] == ([code] if code else [])


def test_short_certificates_are_told_in_their_last_third(config: Config, tmp_path: Path) -> None:
    """One for nine days is not told for all of them."""
    issue(tmp_path, "edge", "edge.site.prfaas", 9)
    assert found(config) == []
    assert found(config, after_days=5.5) == []
    assert found(config, after_days=6.5) == ["certificates.ending"]


def test_what_to_type_renews_it(config: Config) -> None:
    """The way out names the site, the reason the day on which it ended."""
    [one] = [e for e in check_certificates(Scope(config, "edge"), NOW_S + 400 * DAY_S).findings if ".cert" in e.where]
    assert "prfaas certs FOLDER --site edge" in one.way_out
    assert "35 days ago" in one.what


def test_an_authority_that_did_not_sign_is_found(config: Config, tmp_path: Path) -> None:
    """A ca.crt of another authority: no peer of the own site would be believed."""
    write_authority(tmp_path, make_authority(NOW))
    [one] = check_certificates(Scope(config, "edge"), NOW_S).findings
    assert one.code == "certificates.authority"
    assert str(tmp_path / "ca.crt") in one.what


def test_an_expired_authority_is_found(config: Config) -> None:
    """It outlives its certificates by years, and ends all the same."""
    far = check_certificates(Scope(config, "edge"), NOW_S + 50 * 365 * DAY_S)
    assert ("certificates.expired", "sites.edge.tls.ca") in [(each.code, each.where) for each in far.findings]


def both_authorities(config: Config, tmp_path: Path, own_of: str) -> Config:
    """In the midst of a change of authorities, old and new in ``ca``: the old one ends within the month."""
    old, new = make_authority(NOW - datetime.timedelta(days=340), days=365), make_authority(NOW)
    issued_by = {"old": old, "new": new}[own_of]
    write_site_certificate(tmp_path, "edge", *make_site_certificate(issued_by, "edge", ["edge.site.prfaas"], NOW, 365))
    pems = [each.certificate.public_bytes(serialization.Encoding.PEM) for each in (old, new)]
    (tmp_path / "ca.crt").write_bytes(b"".join(pems))
    return config


@pytest.mark.parametrize("after_days", [0, 100])
def test_an_old_authority_that_nothing_needs_is_a_note(config: Config, tmp_path: Path, after_days: float) -> None:
    """Near its end or past it: to be dropped, and by no means to be made anew."""
    changing = both_authorities(config, tmp_path, own_of="new")
    [one] = check_certificates(Scope(changing, "edge"), NOW_S + after_days * DAY_S).findings
    assert (one.code, one.level, one.where) == ("certificates.spare", "note", "sites.edge.tls.ca")
    assert one.way_out.startswith("drop it from ")


@pytest.mark.parametrize(("after_days", "code"), [(0, "certificates.ending"), (100, "certificates.expired")])
def test_an_old_authority_that_is_needed_is_left_for_the_new_one(
    config: Config, tmp_path: Path, after_days: float, code: str
) -> None:
    """The site's own certificate is of the old one still: it is renewed with the new one, which stays."""
    changing = both_authorities(config, tmp_path, own_of="old")
    [one] = check_certificates(Scope(changing, "edge"), NOW_S + after_days * DAY_S).findings
    assert (one.code, one.where) == (code, "sites.edge.tls.ca")
    assert "with the other authority's ca.key" in one.way_out
    assert "remove" not in one.way_out


def signed(name: str, days: int, above: Authority | None = None) -> Authority:
    """An authority of another one, or of itself."""
    key, subject = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(above.certificate.subject if above else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW)
        .not_valid_after(NOW + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    return Authority(builder.sign(above.key if above else key, hashes.SHA256()), key)


def test_an_intermediate_authority_that_the_site_shows_is_needed(config: Config, tmp_path: Path) -> None:
    """Peers go by it whoever believes it: when it ends every handshake fails, and that is no note."""
    root = signed("root", 3_650)
    intermediate = signed("intermediate", 20, above=root)
    own, key = make_site_certificate(intermediate, "edge", ["edge.site.prfaas"], NOW, 365)
    write_site_certificate(tmp_path, "edge", own, key)
    above = intermediate.certificate.public_bytes(serialization.Encoding.PEM)
    (tmp_path / "edge.crt").write_bytes((tmp_path / "edge.crt").read_bytes() + above)
    (tmp_path / "ca.crt").write_bytes(root.certificate.public_bytes(serialization.Encoding.PEM) + above)
    for after_days, code in ((15, "certificates.ending"), (21, "certificates.expired")):
        [one] = check_certificates(Scope(config, "edge"), NOW_S + after_days * DAY_S).findings
        assert (one.code, one.where) == (code, "sites.edge.tls.ca")


def test_another_name_is_found(config: Config, tmp_path: Path) -> None:
    """Peers expect SITE.site.prfaas, or the name that the configuration gives."""
    issue(tmp_path, "edge", "moon.example", 365)
    [one] = check_certificates(Scope(config, "edge"), NOW_S).findings
    assert one.code == "certificates.name"
    assert "moon.example" in one.what
    assert "edge.site.prfaas" in one.what
    tree = site_tree(tmp_path)
    tree["sites"]["edge"]["tls"]["name"] = "moon.example"
    assert found(parse_config(tree)) == []


def test_a_key_that_others_may_read_is_found(config: Config, tmp_path: Path) -> None:
    """Group or others: either is too many."""
    for mode in (0o640, 0o604):
        (tmp_path / "edge.key").chmod(mode)
        assert found(config) == ["certificates.open_key"]
    (tmp_path / "edge.key").chmod(0o400)
    assert found(config) == []


@pytest.mark.parametrize("file", ["ca.crt", "edge.crt", "edge.key"])
def test_files_that_are_missing_or_something_else(config: Config, tmp_path: Path, file: str) -> None:
    """Gone, empty, or no PEM: the finding names the file."""
    for spoil in (lambda path: path.write_text("nonsense"), lambda path: path.write_text(""), Path.unlink):
        spoil(tmp_path / file)
        [one] = check_certificates(Scope(config, "edge"), NOW_S).findings
        assert one.code == "certificates.unusable"
        assert str(tmp_path / file) in one.what


def test_a_key_of_another_certificate(config: Config, tmp_path: Path) -> None:
    """The pair has to be one."""
    (tmp_path / "edge.key").write_bytes((tmp_path / "cloud.key").read_bytes())
    assert found(config) == ["certificates.unusable"]


def test_the_gateways_own_https_certificate(tmp_path: Path) -> None:
    """Whoever signed it is not our matter; its dates are, and those of the gateway's site alone."""
    make_sites(tmp_path)
    front = tmp_path / "front"
    write_site(front, make_authority(NOW), "edge", name="api.example")
    tree = site_tree(tmp_path)
    tree["gateway"]["https"] = {"cert": f"{front}/edge.crt", "key": f"{front}/edge.key"}
    config = parse_config(tree)
    checked = check_certificates(Scope(config, "edge"), NOW_S + 31 * DAY_S)
    assert ("certificates.expired", "gateway.https.cert") in [(each.code, each.where) for each in checked.findings]
    assert all("https" not in each.where for each in check_certificates(Scope(config, "cloud"), NOW_S).findings)
    (front / "edge.key").write_text("")
    assert "certificates.unusable" in found(config)


def test_plain_text_has_none() -> None:
    """A site without certificates has nothing to judge."""
    checked = check_certificates(Scope(sites(), "edge"), NOW_S)
    assert checked.findings == ()
    assert "plain text" in checked.seen[0]


def test_reading_names_what_is_missing(tmp_path: Path) -> None:
    """The error of a reading is a ConfigError, for whoever starts a server."""
    with pytest.raises(ConfigError, match=r"no\.crt"):
        read_site(TlsConfig(ca=f"{tmp_path}/no.crt", cert="c", key="k"))
