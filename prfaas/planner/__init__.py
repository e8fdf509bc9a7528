"""How many requests a second a fleet serves, and how to divide it: the throughput model, the search, what goes in.

`plan` answers; it is given a `Fleet` of engines with their `EngineProfile`, a `Workload` and an `Slo`.
"""
