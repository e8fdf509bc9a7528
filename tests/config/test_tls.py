"""What certificates say about who may talk to whom."""

from typing import Any

from prfaas.config import certificate_name, parse_config, tls_settings


def files(site: str) -> dict[str, str]:
    return {"ca": "ca.crt", "cert": f"{site}.crt", "key": f"{site}.key"}


def tree() -> dict[str, Any]:
    """Two prefill sites that feed the edge, and a site without links."""
    kv = {"edge": 7001, "cloud": 7011, "far": 7021, "lonely": 7031}
    return {
        "model": {"name": "tiny", "path": "/models/tiny", "max_model_len": 4096},
        "gateway": {"site": "edge"},
        "sites": {
            "edge": {"tls": files("edge")},
            "cloud": {"tls": files("cloud")},
            "far": {"tls": {**files("far"), "name": "kv.far.example"}},
            "lonely": {},
        },
        "engines": {
            f"{site}-0": {"site": site, "url": f"https://{site}:8000", "kv": f"{site}:{port}"}
            for site, port in kv.items()
        },
        "links": [{"from": "cloud", "to": "edge"}, {"from": "far", "to": "edge", "transport": "grpc"}],
    }


def test_a_site_learns_its_files_and_everybodys_name() -> None:
    """Names go by kv endpoint; a name of another authority's making is taken as it is."""
    edge = tls_settings(parse_config(tree()), "edge")
    assert edge == {
        **files("edge"),
        "names": {"edge:7001": "edge.site.prfaas", "cloud:7011": "cloud.site.prfaas", "far:7021": "kv.far.example"},
        "decode_names": [],
        "report_names": ["edge.site.prfaas"],
    }


def test_only_linked_sites_load_and_only_the_gateways_site_asks() -> None:
    """A prefill site admits the targets of its links and no one else."""
    cloud = tls_settings(parse_config(tree()), "cloud")
    assert cloud is not None
    assert (cloud["decode_names"], cloud["report_names"]) == (["edge.site.prfaas"], ["edge.site.prfaas"])


def test_engines_that_only_prefill_serve_their_own_site() -> None:
    """In the gateway's site they admit its decode engines."""
    plain = tree()
    plain["engines"]["edge-p"] = {"site": "edge", "url": "https://edge:8001", "kv": "edge:7101", "roles": ["prefill"]}
    edge = tls_settings(parse_config(plain), "edge")
    assert edge is not None
    names: Any = edge["names"]
    assert (edge["decode_names"], names["edge:7101"]) == (["edge.site.prfaas"], "edge.site.prfaas")


def test_sites_without_certificates_need_none() -> None:
    """A site without links, and one that says off, have nothing to prove."""
    config = parse_config(tree())
    assert tls_settings(config, "lonely") is None
    plain = tree()
    for site in ("edge", "cloud", "far"):
        plain["sites"][site] = {"tls": False}
    assert tls_settings(parse_config(plain), "edge") is None


def test_a_name_in_a_certificate_is_the_sites() -> None:
    """The same for everyone who derives it, wherever the site's engines run."""
    assert certificate_name("edge") == "edge.site.prfaas"
