"""What is set outside, before any settings are read: in the environment, or else in `.env`."""

import os

from dotenv import dotenv_values

ENV_FILE = ".env"


def lookup(setting: str) -> str | None:
    """Give a setting, such as `EASEL_MODEL`, as `easel.settings` would find it; None where it is not set, or empty."""
    return os.environ.get(setting) or dotenv_values(ENV_FILE).get(setting) or None
