"""The only package that imports vllm or torch."""
