"""A worker whose model draws what a script says."""

from pathlib import Path

#: What a process of its own needs to find this module, which is not installed.
ENVIRONMENT = {"PYTHONPATH": str(Path(__file__).parents[2])}
