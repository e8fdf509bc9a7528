"""prfaas: LLM serving whose prefill can happen in another data center."""

__version__ = "0.1.0"
