"""What a team would build otherwise: FastAPI, Dramatiq and Redis, under the same kills of workers and of the broker.

Built as its documentation recommends, with what a careful developer adds: Redis writes every change to its log before
it answers, jobs are keyed by the client's request id, a repeated request enqueues again what is not finished, an actor
leaves finished jobs alone, dead workers are noticed within two seconds instead of a minute.
"""
