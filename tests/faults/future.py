"""A version of Easel that does not exist yet, made out of this one: what it says, this one has to put up with.

It is this one's code in a folder of its own, with new fields in most messages, new values in most enums, and a newer
schema; and it does send them. Everything new is compatible, as `buf breaking` says.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

VERSION = "100.0"
#: Field numbers and values that nothing of this version will ever have.
NUMBER = 100
#: What a future worker says of a request that has these words in its prompt.
BAD_TASTE = "fail=model_error taste=bad"

REPOSITORY = Path(__file__).parents[2]
COPIED = ("easel", "gateway", "inference", "protos", "scripts", "buf.yaml", "tests/__init__.py", "tests/scripted")

#: By message or enum: what is new in it.
NEW_FIELDS = {
    "easel/v1/generation": {
        "GenerationSpec": "optional double sharpness",
        "Generation": "optional string note",
        "Progress": "optional string note",
        "PhaseTimes": "google.protobuf.Duration polishing",
        "Image": "optional string note",
        "Failure": "optional string note",
        "Attempt": "optional string note",
        "Phase": "PHASE_POLISHING",
        "FailureReason": "FAILURE_REASON_BAD_TASTE",
        "AttemptOutcome": "ATTEMPT_OUTCOME_HANDED_BACK",
    },
    "easel/v1/generation_messages": {
        "Preview": "optional string note",
        "WatchGenerationResponse": "optional string note",
        "ListGenerationsResponse": "optional string note",
    },
    "easel/v1/model": {"Model": "optional string note"},
    "easel/v1/error_reason": {"ErrorReason": "ERROR_REASON_MOVING"},
    "easel/worker/v1/task": {
        "TaskHint": "optional string note",
        "Task": "optional string note",
        "AttemptRef": "optional string note",
        "CancelNotice": "optional string note",
        "Nudge": "optional string note",
    },
    "easel/worker/v1/claim": {
        "ClaimRequest": "optional string note",
        "ClaimResponse": "optional string note",
        "ClaimAnswer": "CLAIM_ANSWER_BUSY",
    },
    "easel/worker/v1/renew": {
        "RenewRequest": "optional string note",
        "RenewResponse": "optional string note",
        "ReleaseRequest": "optional string note",
    },
    "easel/worker/v1/result": {
        "Result": "optional string note",
        "Success": "optional string note",
        "StoredImage": "optional string note",
    },
    "easel/worker/v1/progress": {"ProgressReport": "optional string note"},
}

#: By file: what stands in the code of this version, and what in its place.
REPLACED = {
    "easel/__init__.py": ('__version__ = ".*"', f'__version__ = "{VERSION}"'),
    "gateway/record/attempts.py": ("SET outcome = 'RELEASED'", "SET outcome = 'HANDED_BACK'"),
    "gateway/record/generation.py": ('RELEASED = "RELEASED"', 'RELEASED = "RELEASED"\n    HANDED_BACK = "HANDED_BACK"'),
}

#: What is added at the end of modules: it goes over what stands before it.
ADDED = {
    "easel/future.py": """
def mark(message):
    '''Fill in every new field of a message that is about to be sent.'''
    for field in message.DESCRIPTOR.fields:
        if field.name == "note":
            message.note = "from a newer version"
    for field, value in message.ListFields():
        if field.message_type is not None and not field.message_type.GetOptions().map_entry:
            for one in value if field.is_repeated else [value]:
                mark(one)
    return message


def marking(send):
    '''Have a method of a bus mark what it sends.'''

    async def marked(self, subject, message, *arguments, **named):
        return await send(self, subject, mark(message), *arguments, **named)

    return marked


def answering(answer):
    '''Have a method mark what it answers.'''

    async def marked(self, request):
        return mark(await answer(self, request))

    return marked
""",
    "easel/bus.py": """
from easel import future

Bus.request, Bus.publish, Bus.tell = map(future.marking, (Bus.request, Bus.publish, Bus.tell))
""",
    "gateway/claims.py": """
from easel import future

Claims.renew, Claims.release = map(future.answering, (Claims.renew, Claims.release))
_todays_claim, _put_off = future.answering(Claims.claim), set()


async def _claim_twice(self, request):
    if request.generation_id in _put_off or request.generation_id[-1] not in "0123":
        return await _todays_claim(self, request)
    _put_off.add(request.generation_id)
    return ClaimResponse(answer=ClaimAnswer.CLAIM_ANSWER_BUSY)


Claims.claim = _claim_twice
""",
    "gateway/api/messages.py": """
from easel import future

_todays_message, _todays_attempt = to_message, to_attempt


def to_message(*arguments, **named):
    return future.mark(_todays_message(*arguments, **named))


def to_attempt(*arguments, **named):
    return future.mark(_todays_attempt(*arguments, **named))
""",
    "gateway/api/specs.py": """
_todays_resolve = resolve


def resolve(*arguments, **named):
    resolved = _todays_resolve(*arguments, **named)
    resolved.sharpness = 0.5
    return resolved
""",
    "gateway/api/statuses.py": """
import dataclasses

TABLE[errors.ShuttingDown] = dataclasses.replace(TABLE[errors.ShuttingDown], reason=ErrorReason.ERROR_REASON_MOVING)
""",
    "inference/attempt.py": """
_todays_keep, _todays_outcome = Attempt._keep, Attempt._outcome


async def _polish_and_keep(self, drawn):
    await self._progress.enter(PublicPhase.PHASE_POLISHING)
    await asyncio.sleep(0.1)
    success = await _todays_keep(self, drawn)
    success.phase_times.polishing.FromMilliseconds(1)
    return success


async def _judge_taste(self):
    outcome = await _todays_outcome(self)
    if isinstance(outcome, Failure) and "taste=bad" in self._task.spec.prompt:
        outcome.reason = FailureReason.FAILURE_REASON_BAD_TASTE
    return outcome


Attempt._keep, Attempt._outcome = _polish_and_keep, _judge_taste
""",
}

MIGRATION = """
from alembic import op

revision = "{revision}"
down_revision = "{head}"


def upgrade():
    op.execute("ALTER TABLE generations ADD COLUMN mood TEXT NOT NULL DEFAULT 'calm'")
    op.execute("ALTER TABLE attempts ADD COLUMN note TEXT")
    op.execute("ALTER TABLE attempts DROP CONSTRAINT attempts_outcome_known_check")
    op.execute("ALTER TABLE attempts ADD CONSTRAINT attempts_outcome_known_check CHECK (outcome <> '')")
"""


def make(folder: Path) -> Path:
    """Make it, and return the folder for `PYTHONPATH`."""
    for name in COPIED:
        source, target = REPOSITORY / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    for name, news in NEW_FIELDS.items():
        _extend(folder / "protos" / f"{name}.proto", news)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    _run("buf", "breaking", "--against", str(REPOSITORY), folder=folder, environment=environment)
    _run("scripts/generate", folder=folder, environment=environment)
    for name, (old, new) in REPLACED.items():
        _replace(folder / name, old, new)
    for name, code in ADDED.items():
        with (folder / name).open("a") as file:
            file.write(code)
    _add_migration(folder / "gateway" / "record" / "migrations" / "versions")
    return folder


def _extend(proto: Path, news: dict[str, str]) -> None:
    text = proto.read_text()
    for name, new in news.items():
        text, count = re.subn(
            rf"(?ms)^((message|enum) {name} \{{.*?)^\}}", rf"\g<1>  {new} = {NUMBER};\n}}", text, count=1
        )
        assert count == 1, f"{proto} has no {name}"
    proto.write_text(text)


def _replace(file: Path, old: str, new: str) -> None:
    text, count = re.subn(old, new, file.read_text(), count=1)
    assert count == 1, f"{file} has no {old}"
    file.write_text(text)


def _add_migration(versions: Path) -> None:
    head = max(file.name[:4] for file in versions.glob("[0-9]*.py"))
    revision = f"{int(head) + 1:04}"
    (versions / f"{revision}_future.py").write_text(MIGRATION.format(revision=revision, head=head))


def _run(*command: str, folder: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
