"""The record of all generations in PostgreSQL: the only durable truth."""
