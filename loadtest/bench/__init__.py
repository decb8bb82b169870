"""Benchmarks against the budgets of the design and against peers: ``python -m loadtest.bench``."""
