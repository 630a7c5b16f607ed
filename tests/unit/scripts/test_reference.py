"""The reference as it is made now: whole, without dead links; `make check` proves that the committed one is current."""

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor import ServiceDescriptor
from markdown_it import MarkdownIt
from markdown_it.token import Token

from easel.v1 import generation_pb2, generation_service_pb2, model_service_pb2
from gateway.settings import GatewaySettings
from inference.settings import WorkerSettings
from scripts.reference.__main__ import main

REPOSITORY = Path(__file__).parents[3]
SERVICES = (
    generation_service_pb2.DESCRIPTOR.services_by_name["GenerationService"],
    model_service_pb2.DESCRIPTOR.services_by_name["ModelService"],
)


class Page:
    """A page as a code host reads it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = path.read_text()
        self._tokens = MarkdownIt().enable("table").parse(self.text)

    @property
    def anchors(self) -> set[str]:
        """What a link may point to: headings in lower case, with hyphens for blanks."""
        titles = [
            inline.content
            for opening, inline in zip(self._tokens, self._tokens[1:], strict=False)
            if opening.type == "heading_open"
        ]
        assert len(titles) == len(set(titles)), f"{self.path} has two headings alike"
        return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}

    @property
    def links(self) -> list[str]:
        return [str(token.attrs["href"]) for token in _all(self._tokens) if token.type == "link_open"]

    @property
    def rows(self) -> list[list[str]]:
        """The cells of all tables, without their heads."""
        rows: list[list[str]] = []
        for token, content in zip(self._tokens, self._tokens[1:], strict=False):
            if token.type == "tr_open":
                rows.append([])
            elif token.type == "td_open":
                rows[-1].append(content.content)
        return [row for row in rows if row]


def _all(tokens: list[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from _all(token.children or [])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference")
    (folder / "api").mkdir()
    (folder / "api" / "of_another_time.md").write_text("gone")
    (folder / "README.md").write_text((REPOSITORY / "docs" / "reference" / "README.md").read_text())
    main(folder)
    return folder


@pytest.fixture(scope="module")
def pages(folder: Path) -> dict[str, Page]:
    return {str(path.relative_to(folder)): Page(path) for path in folder.rglob("*.md")}


def test_every_link_leads_somewhere(pages: dict[str, Page], folder: Path) -> None:
    local = [
        (name, link)
        for name, page in pages.items()
        for link in page.links
        if not link.startswith("https://protobuf.dev")
    ]
    assert len(local) > 50
    for name, link in local:
        target, _, anchor = link.partition("#")
        path = (folder / name).parent / target if target else folder / name
        page = pages[str(path.resolve().relative_to(folder.resolve()))]
        assert not anchor or anchor in page.anchors, f"{name}: {link}"


def test_the_index_names_every_page(pages: dict[str, Page]) -> None:
    assert {"README.md", *pages["README.md"].links} == set(pages)


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_every_method_is_there_with_its_types(pages: dict[str, Page], service: ServiceDescriptor) -> None:
    page = pages["api/generation_service.md" if service.name == "GenerationService" else "api/model_service.md"]
    for method in service.methods:
        types = (method.input_type.name, method.output_type.name)
        assert {name.lower() for name in (method.name, *types)} <= page.anchors
        arrow = "→ stream of" if method.server_streaming else "→"
        assert f"[{types[0]}](#{types[0].lower()}) {arrow} [{types[1]}](#{types[1].lower()})" in page.text


def test_every_field_and_value_has_something_said_about_it(pages: dict[str, Page]) -> None:
    rows = [row for name, page in pages.items() if name.startswith("api/") for row in page.rows]
    assert len(rows) > 100
    assert [row for row in rows if len(row) != 3 or not all(row)] == []
    fields = {row[0] for row in pages["api/generation.md"].rows}
    assert {f"`{field.name}`" for field in generation_pb2.Generation.DESCRIPTOR.fields} <= fields


def test_kinds_of_fields(pages: dict[str, Page]) -> None:
    types = {row[0]: row[1] for row in pages["api/generation.md"].rows}
    assert types["`seed`"] == "int64"  # the one of Image, which is always there
    assert types["`guidance_scale`"] == "optional double"
    assert types["`labels`"] == "map from string to string"
    assert types["`images`"] == "repeated [Image](#image)"
    events = {row[0]: row[1] for row in pages["api/generation_service.md"].rows}
    assert events["`progress`"] == "[Progress](generation.md#progress), one of `event`"


def test_every_setting_is_there_and_no_secret_has_a_value(pages: dict[str, Page]) -> None:
    rows = {row[0].strip("`"): row for row in pages["settings.md"].rows}
    names = {*GatewaySettings.model_fields, *WorkerSettings.model_fields}
    assert set(rows) == {f"EASEL_{name.upper()}" for name in names}
    assert all(description for *_, description in rows.values())
    secrets = {name: default for name, kind, default, _ in rows.values() if kind == "secret"}
    without_default = dict.fromkeys(("`EASEL_NATS_URL`", "`EASEL_S3_SECRET_KEY`", "`EASEL_SENTRY_DSN`"), "")
    assert secrets == {**without_default, "`EASEL_DATABASE_URL`": "required"}
    assert rows["EASEL_MODEL"][2] == "`postcard`"
    assert rows["EASEL_LISTEN"][2] == "`127.0.0.1:50051`"
    assert rows["EASEL_REFLECTION"][1:3] == ["`true`, `false`", "`true`"]
    assert rows["EASEL_URL_LIFETIME_SECONDS"][1:3] == ["integer ≥ 1, ≤ 604,800", "`3600`"]


def test_metrics_with_their_labels(pages: dict[str, Page]) -> None:
    rows = {row[0].strip("`"): row[1:] for row in pages["metrics.md"].rows}
    assert rows["easel_rpcs_total"][:2] == ["counter", "`method`<br>`code`"]
    assert rows["easel_claims_total"][1] == "`answer`: `GRANTED`, `GONE`, `HELD`, `NOT_YET`"
    assert rows["easel_rpc_seconds"][0] == "histogram"
    assert rows["easel_step_seconds"][0] == "histogram"
    assert all(said for *_, said in rows.values())


def test_commands_with_their_options(pages: dict[str, Page]) -> None:
    page = pages["cli.md"]
    assert {"easel-generate", "easel-up"} <= page.anchors
    options = {row[0] for row in page.rows}
    assert "`--steps <int>`" in options
    assert "Exit status:" in page.text


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda folder: None, ""),
        (lambda folder: (folder / "settings.md").write_text("old"), "> # Settings"),
        (lambda folder: (folder / "api" / "old.md").touch(), "old.md"),
        (lambda folder: (folder / "cli.md").unlink(), "cli.md"),
    ],
    ids=["current", "another text", "a page too many", "a page too few"],
)
def test_the_check_tells_what_is_not_current(
    folder: Path, tmp_path: Path, change: Callable[[Path], object], problem: str
) -> None:
    checked = shutil.copytree(folder, tmp_path / "reference")
    change(checked)
    command = [REPOSITORY / "scripts" / "check-reference", checked]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == bool(problem)
    assert problem in done.stderr
    assert ("run make reference" in done.stderr) == bool(problem)
