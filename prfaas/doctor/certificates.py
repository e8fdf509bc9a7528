"""Certificates: dates, names, who signed them. Read with OpenSSL alone: servers have no library that makes any."""

import os
import ssl
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from prfaas.config import TlsConfig, certificate_name
from prfaas.doctor.finding import Checked, Finding, finding
from prfaas.doctor.scope import Scope
from prfaas.errors import ConfigError
from prfaas.transport.settings import TlsSettings
from prfaas.transport.tls import read_keys

DAY_S = 86_400
ENDING_S = 30 * DAY_S
"""A certificate that ends sooner is told: time enough for somebody to come back from a holiday."""
ENDING_SHARE = 1 / 3
"""Of a certificate's whole time, for those that are made for less than 90 days."""
NO_CHECK_TIME = 0x20_0000
PARTIAL_CHAIN = 0x8_0000
"""OpenSSL's X509_V_FLAG_*: dates are judged here, by a given clock; a certificate may vouch for itself, to be read."""
MAX_STEPS = 10
"""Of a handshake in memory; it takes three."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What one says. Times are seconds since 1970.

    Attributes:
        path: its file.
        begins_s, ends_s: when it is valid.
        names: DNS names, and addresses.
    """

    path: str
    begins_s: float
    ends_s: float
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SiteCertificates:
    """A site's files as they are.

    Attributes:
        own: its certificate.
        authorities: those that it believes and without which ``own`` is not accepted.
        spare: the others that it believes: while authorities change, the one that is to come or the one that goes.
        objection: why ``own`` is not accepted by whoever believes ``authorities``, dates aside; empty if it is.
        is_key_open: whether others on this machine may read the key.
    """

    own: Certificate
    authorities: tuple[Certificate, ...]
    spare: tuple[Certificate, ...]
    objection: str
    is_key_open: bool


def read_site(tls: TlsConfig) -> SiteCertificates:
    """Read a site's files. Raises ConfigError where one cannot be used."""
    read_keys(TlsSettings(tls.ca, tls.cert, tls.key))
    believed = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    believed.load_verify_locations(tls.ca)
    authorities, spare = _divided(tls, believed)
    is_key_open = bool(os.stat(tls.key).st_mode & (stat.S_IRGRP | stat.S_IROTH))
    return SiteCertificates(read_certificate(tls.cert, tls.key), authorities, spare, _objection(tls), is_key_open)


def read_certificate(cert: str, key: str) -> Certificate:
    """What a certificate says, whoever signed it. Raises ConfigError where the pair cannot be used."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= NO_CHECK_TIME | PARTIAL_CHAIN  # OpenSSL's, without names in ssl
    try:
        client.load_verify_locations(cert)
        return _certificate(cert, _shake_hands(client, _server(cert, key)))
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise ConfigError(f"{cert}, {key}: not a certificate and its key: {_reason(error)}") from None


def judge_site(site: str, tls: TlsConfig, seen: SiteCertificates, now_s: float) -> Iterator[Finding]:
    """What is wrong with a site's certificates by a clock."""
    where = f"sites.{site}.tls"
    renew = f"prfaas certs FOLDER --site {site}"
    again = f"remove ca.crt and ca.key, then {renew} and the same for every other site, and copy the files to all hosts"
    if seen.spare:
        again = f"{renew} with the other authority's ca.key, and the same for every other site: {tls.ca} has both"
    for authority in seen.authorities:
        yield from judge_dates(f"{where}.ca", authority, now_s, again)
    for authority in seen.spare:
        for each in judge_dates(f"{where}.ca", authority, now_s, ""):
            drop = f"drop it from {tls.ca} once no site has a certificate of it"
            yield finding("certificates.spare", each.where, f"{each.what}; the site's own is of another one", drop)
    yield from judge_dates(f"{where}.cert", seen.own, now_s, f"{renew}, and copy both files to the site's hosts")
    if seen.objection:
        yield finding(
            "certificates.authority",
            f"{where}.cert",
            f"{tls.cert}: is not accepted by whoever believes {tls.ca}: {seen.objection}",
            f"give the ca.crt that was made with it, or make it anew beside that authority's ca.key: {renew}",
        )
    name = certificate_name(site, tls)
    if name not in seen.own.names:
        listed = ", ".join(seen.own.names) or "no name"
        yield finding(
            "certificates.name",
            f"{where}.cert",
            f"{tls.cert}: has {listed}, and other sites expect {name}",
            f"{renew}, or give the name that it has as {where}.name in every site's configuration",
        )
    if seen.is_key_open:
        yield finding("certificates.open_key", f"{where}.key", f"{tls.key}: others may read it", f"chmod 600 {tls.key}")


def judge_dates(where: str, seen: Certificate, now_s: float, way_out: str) -> Iterator[Finding]:
    """Whether a certificate is valid by a clock, and for how long."""
    left_s = seen.ends_s - now_s
    if left_s <= 0:
        what = f"{seen.path}: expired on {day(seen.ends_s)}, {_days(-left_s)} ago"
        yield finding("certificates.expired", where, what, way_out)
    elif now_s < seen.begins_s:
        what = f"{seen.path}: is valid from {day(seen.begins_s)} on, and it is {day(now_s)} here"
        yield finding("certificates.early", where, what, "set this machine's clock (timedatectl), or wait")
    elif left_s < min(ENDING_S, ENDING_SHARE * (seen.ends_s - seen.begins_s)):
        what = f"{seen.path}: ends on {day(seen.ends_s)}, in {_days(left_s)}"
        yield finding("certificates.ending", where, what, way_out)


def check_certificates(scope: Scope, now_s: float | None = None) -> Checked:
    """Those of the site, and the gateway's own where it speaks HTTPS."""
    now_s = time.time() if now_s is None else now_s
    findings: list[Finding] = []
    lines: list[str] = []
    tls = scope.config.sites[scope.site].tls
    if isinstance(tls, TlsConfig):
        try:
            site = read_site(tls)
            findings += judge_site(scope.site, tls, site, now_s)
            lines.append(f"{tls.cert}: {', '.join(site.own.names)}, until {day(site.own.ends_s)}")
        except ConfigError as error:
            what = f"{error}"
            findings.append(finding("certificates.unusable", f"sites.{scope.site}", what, _make(scope.site)))
    else:
        lines.append(f"none: site {scope.site} is in plain text")
    https = scope.config.gateway.https
    if scope.is_gateways and https is not None:
        try:
            front = read_certificate(https.cert, https.key)
            findings += judge_dates("gateway.https.cert", front, now_s, "renew it with whoever signed it")
            lines.append(f"{https.cert}: {', '.join(front.names)}, until {day(front.ends_s)}")
        except ConfigError as error:
            findings.append(
                finding("certificates.unusable", "gateway.https", str(error), "give a certificate and its key")
            )
    return Checked(tuple(findings), tuple(lines))


def day(seconds: float) -> str:
    """A time as a date, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _make(site: str) -> str:
    return f"prfaas certs FOLDER --site {site}, and give the three files that it names"


def _days(seconds: float) -> str:
    return f"{seconds / DAY_S:.0f} days" if seconds >= 2 * DAY_S else f"{seconds / 3600:.0f} hours"


def _divided(tls: TlsConfig, believed: ssl.SSLContext) -> tuple[tuple[Certificate, ...], tuple[Certificate, ...]]:
    """The authorities that the site's own certificate needs, and those that it does not. What is shown with the own
    one is needed, whoever believes it: where that has ended, peers refuse."""
    ders, shown = believed.get_ca_certs(binary_form=True), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    shown.load_verify_locations(tls.cert)
    chain = shown.get_ca_certs(binary_form=True)
    needed: list[Certificate] = []
    spare: list[Certificate] = []
    for der, told in zip(ders, believed.get_ca_certs(), strict=True):
        others = b"".join(each for each in ders if each != der)
        is_spare = bool(others) and der not in chain and not _objection(tls, others)
        (spare if is_spare else needed).append(_certificate(tls.ca, told))
    if spare and not needed:  # each does without the others, for they have one key: the last one counts
        needed.append(max(spare, key=lambda each: each.ends_s))
        spare.remove(needed[0])
    return tuple(needed), tuple(spare)


def _objection(tls: TlsConfig, believed: bytes = b"") -> str:
    """Have a client and a server show each other the certificate, as two of the site's hosts would; they believe
    ``tls.ca``, or these authorities in DER."""
    server, client = _server(tls.cert, tls.key), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    server.verify_mode = ssl.CERT_REQUIRED
    client.load_cert_chain(tls.cert, tls.key, password="")
    for context in (server, client):
        context.load_verify_locations(None if believed else tls.ca, cadata=believed or None)
        context.verify_flags |= NO_CHECK_TIME  # OpenSSL's, without names in ssl
    try:
        _shake_hands(client, server)
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    except ssl.SSLError as error:
        return _reason(error)
    return ""


def _server(cert: str, key: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key, password="")
    return context


def _shake_hands(client: ssl.SSLContext, server: ssl.SSLContext) -> Mapping[str, object]:
    """A handshake in memory; returns what the client sees of the server's certificate. Raises ssl.SSLError."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(back, there, server_side=False)
    answering = server.wrap_bio(there, back, server_side=True)
    waiting = [asking, answering]
    for _ in range(MAX_STEPS):
        for side in tuple(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                pass
        if not waiting:
            return asking.getpeercert() or {}
    raise ssl.SSLError("the handshake does not end")


def _certificate(path: str, told: Mapping[str, object]) -> Certificate:
    begins, ends = told.get("notBefore"), told.get("notAfter")
    if not isinstance(begins, str) or not isinstance(ends, str):
        raise ValueError("it has no dates")
    listed = told.get("subjectAltName", ())
    names = tuple(str(value) for _, value in listed) if isinstance(listed, tuple) else ()
    return Certificate(path, ssl.cert_time_to_seconds(begins), ssl.cert_time_to_seconds(ends), names)


def _reason(error: BaseException) -> str:
    return getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
