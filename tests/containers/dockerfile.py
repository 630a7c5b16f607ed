"""Dockerfiles: what their instructions say, and what their COPYs would put into the image."""

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
#: What a checkout's umask may leave of each mode, at worst.
CLOSED = 0o700


@dataclass(frozen=True)
class Instruction:
    name: str
    flags: Mapping[str, str]
    value: str

    @property
    def words(self) -> list[str]:
        return shlex.split(self.value)

    @property
    def pairs(self) -> dict[str, str]:
        return dict(word.split("=", 1) for word in self.words)

    @property
    def argv(self) -> list[str]:
        """The words of an exec form; a shell form is an error, since a shell would keep signals to itself."""
        argv = json.loads(self.value)
        assert isinstance(argv, list)
        return argv


@dataclass(frozen=True)
class Stage:
    base: str
    name: str
    instructions: Sequence[Instruction]

    def all(self, name: str) -> list[Instruction]:
        return [one for one in self.instructions if one.name == name]

    def one(self, name: str) -> Instruction:
        (found,) = self.all(name)
        return found

    def merged(self, name: str) -> dict[str, str]:
        return {key: value for one in self.all(name) for key, value in one.pairs.items()}


class Dockerfile:
    """A Dockerfile, whose context is the repository unless another is given."""

    def __init__(self, name: str, *, context: Path = REPOSITORY) -> None:
        self.name = name
        self.text = (context / name).read_text()
        self._context = context
        self.arguments: dict[str, str] = {}
        self.stages: list[Stage] = []
        stage: list[Instruction] = []
        for instruction in _instructions(self.text):
            if instruction.name == "FROM":
                base, *name_words = instruction.words
                stage = []
                self.stages.append(Stage(self._expand(base), name_words[-1] if name_words else "", stage))
            elif not self.stages:
                assert instruction.name == "ARG"
                self.arguments |= instruction.pairs
            else:
                stage.append(instruction)

    @property
    def image(self) -> Stage:
        """The last stage, which is the image."""
        return self.stages[-1]

    @property
    def environment(self) -> dict[str, str]:
        return self.image.merged("ENV")

    def stage(self, name: str) -> Stage:
        return next(stage for stage in self.stages if stage.name == name)

    def lay_out(self, root: Path) -> None:
        """Put into a folder what the image's COPYs put into the image, from a checkout that is closed to others."""
        self._lay_out(self.image, root)

    def _lay_out(self, stage: Stage, root: Path) -> None:
        for instruction in stage.instructions:
            if instruction.name == "COPY":
                self._copy(instruction, root)
            elif instruction.name == "RUN":
                for mode, folder in re.findall(r"chmod -R (\S+) (/\S+)", instruction.value):
                    subprocess.run(["chmod", "-R", mode, str(root) + folder], check=True)

    def _copy(self, instruction: Instruction, root: Path) -> None:
        *sources, target = instruction.words
        target_path = Path(str(root) + target)
        for source in sources:
            if origin := instruction.flags.get("from"):
                other = root.with_name(f"{root.name}.{origin}")
                self._lay_out(self.stage(origin), other)
                made = Path(str(other) + source)
                # What it gets by RUN, such as packages, is not there.
                if made.exists():
                    shutil.copytree(made, target_path)
                shutil.rmtree(other)
            else:
                self._copy_context(source, target_path)

    def _copy_context(self, source: str, target: Path) -> None:
        for file in in_context(self._context):
            if file.is_relative_to(source):
                copy = target / file.relative_to(source) if file != Path(source) else target
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self._context / file, copy)
                copy.chmod((self._context / file).stat().st_mode & CLOSED)
        for folder in target.rglob("*"):
            if folder.is_dir():
                folder.chmod(CLOSED)

    def _expand(self, text: str) -> str:
        return re.sub(r"\$\{(\w+)\}", lambda match: self.arguments[match[1]], text)


def in_context(context: Path) -> list[Path]:
    """List the files that .dockerignore lets through, relative to their context."""
    rules = [
        (line.removeprefix("!").rstrip("/"), not line.startswith("!"))
        for line in (context / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    files = (path.relative_to(context) for path in _walk(context) if not path.is_symlink())
    return sorted(file for file in files if not _is_ignored(file, rules))


def _walk(folder: Path) -> Iterator[Path]:
    """Walk all files but those of environments and data, which are many."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            if not (path.name.startswith(".") and (path / "pyvenv.cfg").exists()):
                yield from _walk(path)
        else:
            yield path


def _is_ignored(file: Path, rules: Sequence[tuple[str, bool]]) -> bool:
    ignored = False
    for pattern, ignores in rules:
        # A pattern that matches a folder matches all that is in it; the last one that matches decides.
        if any(_matches(str(part), pattern) for part in (file, *file.parents[:-1])):
            ignored = ignores
    return ignored


def _matches(path: str, pattern: str) -> bool:
    expression = re.escape(pattern).replace(r"\*\*/", "(.*/)?").replace(r"\*", "[^/]*")
    return re.fullmatch(expression, path) is not None


def _instructions(text: str) -> Iterator[Instruction]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if not line.strip():
            continue
        name, rest = line.split(maxsplit=1)
        flags: dict[str, str] = {}
        while match := re.match(r"--([a-z-]+)=(\S+)\s+", rest):
            flags[match[1]] = match[2]
            rest = rest[match.end() :]
        yield Instruction(name, flags, rest.strip())
