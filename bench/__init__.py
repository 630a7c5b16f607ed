"""Measurements: each `python -m bench.NAME` runs by itself, on servers of its own."""
