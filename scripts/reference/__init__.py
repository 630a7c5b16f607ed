"""Generates the reference in `docs/reference` from what it describes: protos, settings, metrics and commands."""
