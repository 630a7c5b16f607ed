"""Easel, and what a team would build otherwise, under the same kills of workers and of the broker.

`python -m tests.chaos.compare` runs it. `contenders` are what is compared, `clients` ask each of them in the same way,
and `trial` kills and counts.
"""
