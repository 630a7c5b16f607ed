"""The names of everything on NATS: streams, consumers and subjects. Gateway and workers agree here and nowhere else."""

import re

TASKS_STREAM = "EASEL_TASKS"
RESULTS_STREAM = "EASEL_RESULTS"
PROGRESS_STREAM = "EASEL_PROGRESS"

#: The durable consumer of RESULTS that all gateways share.
PROJECTION_CONSUMER = "projection"

#: Requests from workers, answered by any gateway out of this queue group.
CLAIM = "easel.claim"
RENEW = "easel.renew"
RELEASE = "easel.release"
GATEWAY_QUEUE = "gateway"

#: Broadcasts: to every worker, and to every gateway.
CANCEL = "easel.cancel"
NUDGE = "easel.nudge"

ALL_TASKS = "easel.tasks.>"
ALL_RESULTS = "easel.results.>"
ALL_PROGRESS = "easel.progress.>"

_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,64}")


def is_token(text: str) -> bool:
    """Whether a text may stand as one token of a subject, as model names and ids do."""
    return _TOKEN.fullmatch(text) is not None


def slug(text: str) -> str:
    """Turn any name into one that may stand in a subject: `org/Stable Diffusion v1.5` into `stable-diffusion-v1-5`.

    Raises:
        ValueError: nothing usable is left of it.
    """
    last = re.split(r"[/\\]", text.rstrip("/\\"))[-1].lower()
    result = re.sub(r"[^a-z0-9_-]+", "-", last).strip("-")[:64].rstrip("-")
    if not result:
        raise ValueError(f"no letter or digit to make a model name of in {text!r}")
    return result


def tasks_of(model: str) -> str:
    """Match the hints of every generation of a model."""
    return f"easel.tasks.{_token(model)}.*"


def task(model: str, generation_id: str) -> str:
    """Name the hint of one generation: the stream keeps one message of each such subject."""
    return f"easel.tasks.{_token(model)}.{_token(generation_id)}"


def task_consumer(model: str) -> str:
    """Name the durable consumer that the workers of a model share."""
    return f"workers-{_token(model)}"


def result(generation_id: str) -> str:
    """Name where the results of a generation's attempts go."""
    return f"easel.results.{_token(generation_id)}"


def progress(generation_id: str) -> str:
    """Name where the progress of a generation goes."""
    return f"easel.progress.{_token(generation_id)}"


def _token(text: str) -> str:
    if not is_token(text):
        raise ValueError(f"{text!r} cannot stand in a NATS subject")
    return text
