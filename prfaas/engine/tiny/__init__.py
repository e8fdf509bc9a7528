"""Small models with the cache kinds of large ones, made in seconds, for tests and the demo.

``python -m prfaas.engine.tiny ARCH OUT_DIR`` writes a complete Hugging Face checkpoint that vLLM serves on a CPU.
"""

from pathlib import Path

from prfaas.engine.tiny import attention_only, lfm2, mamba2, qwen3_next
from prfaas.engine.tiny.checkpoint import TinyArchitecture, write_checkpoint
from prfaas.errors import ConfigError

__all__ = ["ARCHITECTURES", "TinyArchitecture", "make_tiny_model"]

ARCHITECTURES: dict[str, TinyArchitecture] = {
    "qwen3_next": TinyArchitecture("gated delta net 3:1 full attention", qwen3_next.build),
    "granite_hybrid": TinyArchitecture("Mamba2 3:1 full attention", mamba2.build_granite, mamba2.SERVE_ARGS),
    "falcon_h1": TinyArchitecture("Mamba2 beside full attention in each layer", mamba2.build_falcon, mamba2.SERVE_ARGS),
    "lfm2": TinyArchitecture("short convolution 2:1 full attention", lfm2.build),
    "gemma3": TinyArchitecture("sliding window 5:1 full attention", attention_only.build_gemma3),
    "mimo_v2_flash": TinyArchitecture("sliding window 5:1 full attention, grouped", attention_only.build_mimo),
    "dense": TinyArchitecture("full attention in each layer", attention_only.build_dense),
}
"""Every tiny model by its name; ``qwen3_next`` is the one to take when one will do."""


def make_tiny_model(arch: str, out: Path, seed: int = 0) -> Path:
    """Make ``out`` hold a tiny model of ``arch``; a no-op when it already does.

    Returns:
        ``out``, complete.

    Raises:
        ConfigError: unknown ``arch``, or ``out`` holds something else.
    """
    if arch not in ARCHITECTURES:
        raise ConfigError(f"unknown tiny model {arch!r}; there are {', '.join(ARCHITECTURES)}")
    return write_checkpoint(arch, ARCHITECTURES[arch], out, seed)
