"""Is a link full, slow or broken, and does what crosses it serve anything?"""

from deploy.grafana.panel import BAD_WHEN_SET, YES_NO, Dashboard, Panel, Row, gauge, line, quantile, rate

_LINK = "{{source}} → {{target}}"
_PAIR = "{{engine}} → {{peer}}"
_SEND = 'direction="send"'
_TRANSFER = 'stage=~"transfer|inject"'

SITES = Row(
    "Between sites",
    (
        Panel(
            "Used and carried",
            [
                line(rate("prfaas_site_link_bytes_total", "source, target"), _LINK),
                line(gauge("prfaas_site_link_bandwidth_bytes_per_second", "source, target"), f"{_LINK}: bandwidth"),
                line(gauge("prfaas_site_link_goodput_bytes_per_second", "source, target"), f"{_LINK}: goodput in use"),
            ],
            "Bytes that cross, what the configuration says, and what the link gives while it is used. Goodput far "
            "below the bandwidth with a busy link: the path carries less than it should.",
            "Bps",
        ),
        Panel(
            "Share in use",
            [line(gauge("prfaas_site_link_utilisation_ratio", "source, target"), _LINK)],
            "Over all time. Near 1 the controller raises t, and scarce links have a higher threshold.",
            "percentunit",
            limits=(("green", None), ("red", 0.95)),
        ),
        Panel(
            "Waiting bytes",
            [line(gauge("prfaas_site_link_queued_bytes", "source, target"), _LINK)],
            "On their way, or waiting for it.",
            "bytes",
        ),
        Panel(
            "Round trip",
            [line("max by (source, target) (prfaas_site_link_rtt_seconds)", _LINK)],
            "The longest of its pairs of engines now, queues on the path included.",
            "s",
        ),
        Panel(
            "Congested, scarce, breaker open",
            [
                line("max by (source, target) (prfaas_site_link_congested)", f"{_LINK} congested"),
                line("max by (source, target) (prfaas_site_link_scarce)", f"{_LINK} scarce"),
                line("max by (source, target) (prfaas_site_link_breaker_open)", f"{_LINK} breaker open"),
            ],
            "While its breaker is open nothing is sent over a link.",
            kind="state-timeline",
            limits=BAD_WHEN_SET,
            words=YES_NO,
        ),
        Panel(
            "Egress budget left",
            [line("min by (source, target) (prfaas_site_link_budget_left_bytes)", _LINK)],
            "Of the last 24 hours. Links without a budget have no line.",
            "bytes",
        ),
    ),
)

TRANSFERS = Row(
    "Transfers",
    (
        Panel(
            "Used bytes",
            [
                line(rate("prfaas_remote_cache_bytes_total"), "used"),
                line(rate("prfaas_remote_early_bytes_total"), "came before the prefill ended"),
            ],
            "Cache bytes that the decode engines used. The second line near the first: transfers hide behind prefills.",
            "Bps",
        ),
        Panel(
            "First to last byte",
            [
                line(quantile(share, "prfaas_stage_seconds", "stage", _TRANSFER), f"{{{{stage}}}} p{share * 100:g}")
                for share in (0.5, 0.95)
            ],
            "transfer: first to last byte of a cache. inject: what was left to write after that.",
            "s",
        ),
        Panel(
            "Failed",
            [
                line(rate("prfaas_mover_failed_loads_total", "engine"), "{{engine}} load"),
                line(rate("prfaas_mover_failed_saves_total", "engine"), "{{engine}} save"),
            ],
            "By engine, as its mover counts. A load that fails is recomputed.",
            "reqps",
        ),
        Panel(
            "Open",
            [
                line(gauge("prfaas_mover_open_loads", "engine"), "{{engine}} loads"),
                line(gauge("prfaas_mover_open_saves", "engine"), "{{engine}} saves"),
            ],
            "Transfers that are not over.",
        ),
        Panel(
            "Staging lent",
            [
                line(gauge("prfaas_mover_lent_receive_slots", "engine"), "{{engine}} receive"),
                line(gauge("prfaas_mover_lent_send_slots", "engine"), "{{engine}} send"),
            ],
            "Slots. Many for long: the worker does not keep up.",
        ),
        Panel(
            "Sessions",
            [
                line(gauge("prfaas_mover_dialed_sessions", "engine"), "{{engine}} dialed"),
                line(gauge("prfaas_mover_accepted_sessions", "engine"), "{{engine}} accepted"),
            ],
            "Between movers. None where there should be one: certificates, names, ports. prfaas doctor says which.",
        ),
    ),
)

PAIRS = Row(
    "Between engines",
    (
        Panel(
            "Delivered",
            [line(rate("prfaas_link_delivered_bytes_total", "engine, peer", _SEND), _PAIR)],
            "By pair.",
            "Bps",
        ),
        Panel(
            "Goodput",
            [line(gauge("prfaas_link_goodput_bytes_per_second", "engine, peer", _SEND), _PAIR)],
            "Over active time: how fast the path is, not how busy the engine.",
            "Bps",
        ),
        Panel(
            "Sent again",
            [
                line(gauge("prfaas_link_retransmit_ratio", "engine, peer", _SEND), f"{_PAIR} segments"),
                line(rate("prfaas_link_retransmitted_segments_total", "engine, peer", _SEND), f"{_PAIR} segments/s"),
            ],
            "The path drops. A clean long one stays below 0.1 %.",
            "none",
        ),
        Panel(
            "Lost connections",
            [line(rate("prfaas_link_resent_bytes_total", "engine, peer", _SEND), _PAIR)],
            "Bytes that left again because a connection broke or a frame was corrupt.",
            "Bps",
        ),
        Panel(
            "Waiting for credit",
            [line(rate("prfaas_link_credit_stall_seconds_total", "engine, peer", _SEND), _PAIR)],
            "Share of the time in which data waited for the decode engine to take what had come.",
            "percentunit",
        ),
        Panel(
            "Round trip",
            [
                line(gauge("prfaas_link_rtt_seconds", "engine, peer", _SEND), f"{_PAIR} now"),
                line(gauge("prfaas_link_min_rtt_seconds", "engine, peer", _SEND), f"{_PAIR} at best"),
            ],
            "Twice the best: queues on the path.",
            "s",
        ),
        Panel(
            "In flight and queued",
            [
                line(gauge("prfaas_link_in_flight_bytes", "engine, peer", _SEND), f"{_PAIR} in flight"),
                line(gauge("prfaas_link_queued_bytes", "engine, peer", _SEND), f"{_PAIR} queued"),
            ],
            "In flight far below goodput times round trip: credit or buffers hold it back.",
            "bytes",
        ),
        Panel(
            "Data connections", [line(gauge("prfaas_link_connections", "engine, peer", _SEND), _PAIR)], "That are open."
        ),
    ),
)

DASHBOARD = Dashboard("prfaas-link", "prfaas: link", str(__doc__), (SITES, TRANSFERS, PAIRS))
