"""What a site's certificates say about who may talk to whom, from the configuration: pure."""

from prfaas.config.sections import Config, TlsConfig

NAME_SUFFIX = ".site.prfaas"
"""Ends the names in certificates, which are looked up nowhere: a site is known by name, wherever its engines run."""


def certificate_name(site: str, tls: TlsConfig | None = None) -> str:
    """The DNS name in a site's certificate, by which the other sites know it."""
    return (tls and tls.name) or f"{site}{NAME_SUFFIX}"


def tls_settings(config: Config, site: str) -> dict[str, object] | None:
    """What an engine or the gateway of ``site`` must know, field for field the transport's ``TlsSettings``; None where
    the site has no certificates: ``tls: off``, or no link that would need them."""
    ours = config.sites[site].tls
    if not isinstance(ours, TlsConfig):
        return None
    names = {
        name: certificate_name(name, section.tls)
        for name, section in config.sites.items()
        if isinstance(section.tls, TlsConfig)
    }
    return {
        "ca": ours.ca,
        "cert": ours.cert,
        "key": ours.key,
        "names": {engine.kv: names[engine.site] for engine in config.engines.values() if engine.site in names},
        "decode_names": [names[target] for target in _loading_sites(config, site)],
        "report_names": [names[config.gateway.site]] if config.gateway.site in names else [],
    }


def _loading_sites(config: Config, site: str) -> list[str]:
    """The sites whose engines load caches from those of ``site``: its links' targets, and the gateway's
    site itself where some engines only prefill, or may come to."""
    is_split = config.neighbour_prefill_engines(site) or config.convertible_engines()
    own = [site] if is_split and site == config.gateway.site else []
    return [*(link.target for link in config.links if link.source == site), *own]
