"""Chaos: load, a nemesis that breaks every part at random, and a check of what every client was told.

`python -m tests.chaos` runs it. `schedule` says what breaks when, `nemesis` breaks it, `load` asks and watches,
`journal` keeps what the clients were told, `evidence` what the database and the bucket hold at the end, and `checks`
compares the two offline.
"""
