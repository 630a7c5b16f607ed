"""The record of all generations in PostgreSQL: the only durable truth.

Each change of a generation is one statement, or one transaction, whose WHERE repeats what it relies on, so that any
number of gateways may run any of them at the same time. All times are the database's.
"""
