"""Equations 1 to 8 of "Prefill-as-a-Service" (arXiv 2604.15039), one function each; see docs/planning.md.

All take floats or arrays of them and nothing else: rates in requests/s, bandwidths in bytes/s, lengths in tokens.
Seconds and bytes of a request are above 0, as profiles guarantee. A stage that no request passes has an infinite limit.
"""

from typing import Any

import numpy as np

from prfaas.planner.curve import FloatArray

Figure = float | FloatArray


def production_bytes_s(cache_bytes: Figure, prefill_s: Figure) -> Figure:
    """Equation 1, Phi_kv(l): cache bytes a second that an engine makes while it prefills prompts of one length."""
    return cache_bytes / prefill_s


def egress_needed_bytes_s(engines: Figure, production_bytes_s: Figure) -> Figure:
    """Equation 2, B_out: what leaves a site whose engines do nothing but prefill at this rate."""
    return engines * production_bytes_s


def remote_prefill_requests_s(
    engines: Figure, long_prefill_s: Figure, egress_bytes_s: Figure, long_cache_bytes: Figure
) -> Figure:
    """Equation 3, Theta_prfaas: the remote site prefills no faster than it computes, and than its caches get out."""
    return _minimum(engines / long_prefill_s, link_requests_s(egress_bytes_s, long_cache_bytes))


def link_requests_s(egress_bytes_s: Figure, long_cache_bytes: Figure) -> Figure:
    """The second half of equation 3: caches that cross the link."""
    return egress_bytes_s / long_cache_bytes


def local_prefill_requests_s(engines: Figure, short_prefill_s: Figure) -> Figure:
    """Equation 4, Theta_pd_p."""
    return engines / short_prefill_s


def decode_requests_s(engines: Figure, batch: float, step_s: float, output_tokens: float) -> Figure:
    """Equation 5, Theta_pd_d: every engine decodes ``batch`` requests, each a token a step."""
    return engines * (batch / (step_s * output_tokens))


def limit_requests_s(stage_requests_s: Figure, share: Figure) -> Figure:
    """Requests a second of the whole fleet when this share of them passes the stage; infinite for a share of 0."""
    is_used = np.asarray(share) > 0
    return _figure(np.where(is_used, stage_requests_s / np.where(is_used, share, 1.0), np.inf))


def served_requests_s(remote_prefill: Figure, local_prefill: Figure, decode: Figure, long_share: Figure) -> Figure:
    """Equation 6, Lambda_max: what the narrowest stage lets through."""
    return _minimum(prefill_limit_requests_s(remote_prefill, local_prefill, long_share), decode)


def prefill_limit_requests_s(remote_prefill: Figure, local_prefill: Figure, long_share: Figure) -> Figure:
    """The same without decode."""
    short_share = 1.0 - long_share
    return _minimum(limit_requests_s(remote_prefill, long_share), limit_requests_s(local_prefill, short_share))


def threshold_imbalance(remote_prefill: Figure, local_prefill: Figure, long_share: Figure) -> Figure:
    """Equation 7: below 0 while the remote site is the narrower one (t is too low), 0 at the best t.

    Theta_prfaas * (1-p) - Theta_pd_p * p, which needs no division and so holds for every p.
    """
    return remote_prefill * (1.0 - long_share) - local_prefill * long_share


def balanced_prefill_engines(
    local_engines: float, remote_prefill: float, short_prefill_s: float, decode_per_engine_requests_s: float
) -> float:
    """Equation 8 solved for N_p, a real number in [0, N_p + N_d]: Theta_prfaas + Theta_pd_p = Theta_pd_d."""
    demand = local_engines * decode_per_engine_requests_s - remote_prefill
    return min(max(demand / (1.0 / short_prefill_s + decode_per_engine_requests_s), 0.0), local_engines)


def _minimum(one: Figure, other: Figure) -> Figure:
    return _figure(np.minimum(one, other))


def _figure(value: Any) -> Figure:
    """numpy's functions make arrays of numbers; a number stays one."""
    return float(value) if np.ndim(value) == 0 else np.asarray(value, np.float64)
