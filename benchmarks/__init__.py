"""Measurements: run one as `python -m benchmarks.NAME`; `docs/benchmarks.md` holds what they said."""
