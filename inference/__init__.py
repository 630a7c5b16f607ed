"""The worker: claims generations, draws their pictures, stores them, and reports every step.

A line of code has its room by what it is about: `hints` pulls, `claims` claims, `attempt` lives through one claimed
attempt, `engine` draws, `pictures` encodes, `store` uploads, `results` delivers, `renewals` keeps what is held alive,
and `bootstrap` wires them all.
"""
