"""Round numbers that a division can be worked out by hand for, and fleets for generated tests."""

from hypothesis import strategies as st

from prfaas.planner.curve import Quadratic
from prfaas.planner.decode import DecodeProfile
from prfaas.planner.hardware import Hardware
from prfaas.planner.lengths import EmpiricalLengths, Lengths
from prfaas.planner.log_normal import LogNormalLengths
from prfaas.planner.profile import EngineProfile
from prfaas.planner.workload import Slo, Workload

SLO = Slo(token_s=0.02)
DECODE = DecodeProfile((10,), (0.02,))
"""5 requests/s of 100 tokens each: 10 / (0.02 s * 100)."""


def engine(s_per_token: float, *, fixed_s: float = 0.0, decode: DecodeProfile | None = DECODE) -> EngineProfile:
    """An engine of this speed, whose caches have 1,000 bytes a token and no recurrent state."""
    return EngineProfile(
        f"{1 / s_per_token:g} tokens/s", Quadratic(fixed_s, s_per_token), Quadratic(0.0, 1000.0), decode
    )


LOCAL, REMOTE = engine(2e-4), engine(1e-4)


def workload(output_tokens: float = 100) -> Workload:
    """Three prompts of 1,000 tokens to one of 10,000: mean 3,250."""
    return Workload(EmpiricalLengths((1000, 10_000), (3, 1)), output_tokens)


def hardware(
    *, remote_engines: int = 1, egress_bytes_s: float = 125e6, local: EngineProfile = LOCAL, local_engines: int = 2
) -> Hardware:
    return Hardware(local, local_engines, REMOTE, remote_engines, egress_bytes_s)


profiles = st.builds(
    lambda fixed_s, s_per_token, s_per_token2, state_bytes: EngineProfile(
        "generated",
        Quadratic(fixed_s, s_per_token, s_per_token2),
        Quadratic(state_bytes, 5000.0),
        DecodeProfile((4, 16), (0.01, 0.02)),
    ),
    st.floats(0.0, 1.0),
    st.floats(1e-5, 1e-3),
    st.sampled_from([0.0, 1e-10]),
    st.sampled_from([0.0, 1e8]),
)
egresses = st.sampled_from([0.0, 2e6, 5e7, 1e9, 1e12])
hardwares = st.builds(Hardware, profiles, st.integers(2, 9), profiles, st.integers(0, 5), egresses)
log_normals = st.builds(
    LogNormalLengths, st.floats(6.0, 10.0), st.floats(0.2, 1.5), st.sampled_from([1.0, 128.0]), st.just(131_072.0)
)
lengths: st.SearchStrategy[Lengths] = st.one_of(
    log_normals,
    st.lists(st.integers(1, 100_000), min_size=1, max_size=30).map(EmpiricalLengths.of),
)
workloads = st.builds(Workload, lengths, st.floats(1.0, 2000.0))
smooth_workloads = st.builds(Workload, log_normals, st.floats(1.0, 2000.0))
