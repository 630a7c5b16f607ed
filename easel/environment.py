"""What is set outside, before any settings are read: in the environment, or else in `.env`."""

import os

from dotenv import dotenv_values

ENV_FILE = ".env"


def lookup(setting: str) -> str | None:
    """Give a setting, such as `EASEL_MODEL`; an empty one counts as not set, and gives None if there is no other."""
    return os.environ.get(setting) or dotenv_values(ENV_FILE).get(setting) or None
