"""What a running engine does with one model, measured from outside: prefill, decode, the size of caches.

It asks vLLM's HTTP API as any client does and imports no engine library. ``run`` measures, ``result`` makes a profile.
"""
