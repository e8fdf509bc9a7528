"""One script per question: ``python -m benchmarks.NAME``. Each ends with one line of JSON."""
