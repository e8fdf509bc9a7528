"""Certificates for tests: made once, valid for two sites, and the ways in which they can be wrong."""

import datetime
from collections.abc import Mapping
from pathlib import Path

from prfaas.transport.certificates import (
    Authority,
    make_authority,
    make_site_certificate,
    write_authority,
    write_site_certificate,
)
from prfaas.transport.settings import TlsSettings

NAMES = {"cloud": "cloud.site.prfaas", "edge": "edge.site.prfaas"}
NOW = datetime.datetime.now(datetime.UTC)


def write_site(folder: Path, authority: Authority, site: str, *, name: str = "", age_days: int = 0) -> None:
    """Write the site's certificate and key, and the authority's certificate; older than 30 days is expired."""
    write_authority(folder, authority)
    made = NOW - datetime.timedelta(days=age_days)
    write_site_certificate(folder, site, *make_site_certificate(authority, site, [name or NAMES[site]], made, 30))


def make_sites(folder: Path) -> Authority:
    """An authority and good certificates of both sites."""
    authority = make_authority(NOW)
    for site in NAMES:
        write_site(folder, authority, site)
    return authority


def settings(folder: Path, site: str, names: Mapping[str, str] | None = None) -> TlsSettings:
    """What a mover of ``site`` is told: the edge loads from the cloud, and the gateway is at the edge."""
    return TlsSettings(
        ca=str(folder / "ca.crt"),
        cert=str(folder / f"{site}.crt"),
        key=str(folder / f"{site}.key"),
        names=names or {},
        decode_names=(NAMES["edge"],),
        report_names=(NAMES["edge"],),
    )
