"""Every kind of finding: how bad it is, when it is made and why it matters. docs/operations.md has the same table."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind.

    Attributes:
        level: problem, warning or note.
        when: what is found, in general.
        why: why that matters.
    """

    level: str
    when: str
    why: str


_TLS_WHY = "every handshake between sites fails, so every long prompt is prefilled here"
_HITS_WHY = "the gateway can only guess what the engine has cached, and places requests worse"

KINDS = {
    # configuration
    "config.wrong": Kind("problem", "a key is unknown, missing, or has a wrong value", "gateway and engines refuse it"),
    "config.file": Kind(
        "problem", "a file that the configuration names cannot be used", "the gateway or an engine refuses to start"
    ),
    # certificates
    "certificates.unusable": Kind("problem", "a certificate, its key or the authority cannot be read", _TLS_WHY),
    "certificates.expired": Kind("problem", "a certificate is no longer valid", _TLS_WHY),
    "certificates.early": Kind("problem", "a certificate is not valid yet by this machine's clock", _TLS_WHY),
    "certificates.authority": Kind("problem", "a site's certificate is not signed by its `tls.ca`", _TLS_WHY),
    "certificates.name": Kind("problem", "a certificate lacks the name by which other sites know the site", _TLS_WHY),
    "certificates.ending": Kind(
        "warning", "a certificate ends within 30 days, or the last third of its time", "when it ends, the links end"
    ),
    "certificates.spare": Kind(
        "note",
        "an authority in `tls.ca` ends or has ended, and the site's own certificate is of another one",
        "nothing of this site depends on it",
    ),
    "certificates.open_key": Kind(
        "warning", "others on this machine may read a private key", "whoever has it can pass for the site"
    ),
    # names and ports
    "names.unknown": Kind("problem", "a host name is not resolved here", "nothing at that host can be reached"),
    "names.loopback": Kind(
        "problem",
        "a name by which other sites dial this one leads to its loopback interface here",
        "the server listens to this machine alone",
    ),
    "names.elsewhere": Kind(
        "warning",
        "none of the engines of a site without a gateway is on this machine",
        "an engine that is to listen at that name cannot start here",
    ),
    "ports.taken": Kind("problem", "another program listens on a port of this site", "the server there cannot start"),
    "ports.forbidden": Kind(
        "problem",
        "a port cannot be listened on: not allowed, or no address of this machine",
        "the server there cannot start",
    ),
    "ports.unreachable": Kind(
        "problem", "a port of another machine does not answer at all", "a firewall or a route is in the way"
    ),
    # engines
    "engines.down": Kind(
        "problem",
        "an engine of another site does not run, or what runs is no vLLM with the connector",
        "nothing is sent there",
    ),
    "engines.not_started": Kind(
        "note", "an engine of this site or machine does not run yet", "how it runs is not known yet"
    ),
    "engines.silent": Kind(
        "problem",
        "an engine takes connections, and its answers do not come",
        "large packets are lost on the way (the MTU), so no cache comes either; or vLLM or the mover hangs",
    ),
    "engines.unsupported": Kind(
        "problem",
        "an engine of this machine is to run on a GPU (or with several workers, which `prfaas engine` alone finds)",
        "the connector refuses it, so it does not start",
    ),
    "engines.identity": Kind(
        "problem", "an engine's certificate or admission does not fit (wrong authority, name or site)", _TLS_WHY
    ),
    "engines.other": Kind(
        "problem", "another engine answers at an address", "caches and requests would go to the wrong engine"
    ),
    "engines.old": Kind("warning", "an engine's prfaas does not answer doctors", "its settings were not looked at"),
    "engines.vllm": Kind(
        "problem", "an engine runs a vLLM that the connector is not made for", "vLLM's connector API changes"
    ),
    "engines.model": Kind("problem", "an engine serves another model name, or shorter prompts", "requests fail there"),
    "engines.hybrid_manager": Kind(
        "problem",
        "the hybrid cache manager is off",
        "recurrent states are not kept, and hybrid models cannot load a cache",
    ),
    "engines.conv_layout": Kind(
        "problem", "the convolution states are not laid out as DS", "engines of other platforms lay them out otherwise"
    ),
    "engines.failure_policy": Kind(
        "problem", "vLLM's load failure policy is not recompute", "a lost transfer would be a lost request"
    ),
    "engines.prefix_hash": Kind("warning", "prefix hashes are not sha256_cbor", _HITS_WHY),
    "engines.cache_events": Kind("warning", "no cache events are published", _HITS_WHY),
    "engines.no_prefix_cache": Kind("note", "prefix caching is off", "no prompt is ever reused"),
    "engines.retention": Kind(
        "note",
        "a hybrid cache keeps checkpoints at junctions alone (retention interval 0)",
        "a shared prefix is reused from the third request on, not from the second",
    ),
    "engines.fingerprint": Kind(
        "problem",
        "two engines of a link disagree (model revision, vLLM, data types, layout, ...)",
        "they refuse each other's caches",
    ),
    "engines.clock": Kind(
        "warning",
        "another machine's clock differs by more than 2 s",
        "logs do not match, and certificates seem early or late",
    ),
    # links
    "links.unmeasured": Kind("warning", "the path could not be measured", "nothing is known of its speed"),
    "links.black_hole": Kind(
        "problem", "connections are made, and no large packet arrives", "caches never come: the MTU is wrong on the way"
    ),
    "links.slow": Kind(
        "warning",
        "less than 70 % of what the configuration says arrives, or of what one engine can send where that is less",
        "caches come late, and placement counts on more",
    ),
    "links.fast": Kind(
        "note", "twice as much arrives as the configuration says", "the metrics' utilisation is too high"
    ),
    "links.lossy": Kind("warning", "more than 1 % of the segments are sent again", "throughput falls, and varies"),
    "links.far": Kind("warning", "the round trip takes more than 300 ms", "short hand-overs wait for it"),
    "links.mtu": Kind("note", "packets on the path are smaller than 1,500 bytes", "a tunnel costs throughput"),
    # machine
    "machine.disk": Kind("problem", "a disk is full", "a server there cannot start, or stops"),
    "machine.state_disk": Kind(
        "problem",
        "the disk of `gateway.state_file` is full",
        "drain and reload are refused; the gateway starts and serves all the same",
    ),
    "machine.disk_low": Kind("warning", "a disk is nearly full", "a server there will stop"),
    "machine.open_files": Kind(
        "problem", "fewer files may be open than the gateway needs", "connections are refused under load"
    ),
    "machine.gpu": Kind(
        "problem", "fewer GPUs are here than engines of this machine ask for", "vLLM ends at its start"
    ),
    "machine.gpu_library": Kind(
        "warning", "GPUs are asked for, and pynvml cannot be loaded", "they could not be looked at"
    ),
    "machine.gpu_busy": Kind("warning", "other programs hold a tenth of a GPU's memory", "vLLM may find too little"),
    # the doctor itself
    "doctor.late": Kind("problem", "a check has not ended in its time", "what it looks at may hang for others, too"),
    "doctor.failed": Kind("problem", "a check has failed by a bug of ours", "nothing is known of what it looks at"),
}
"""By code. A code keeps its meaning; what is dropped is not used again."""


def table() -> str:
    """The kinds as a Markdown table."""
    rows = [f"| `{code}` | {kind.level} | {kind.when} | {kind.why} |" for code, kind in KINDS.items()]
    return "\n".join(("| finding | level | when | why it matters |", "|---|---|---|---|", *rows))


if __name__ == "__main__":
    print(table())
