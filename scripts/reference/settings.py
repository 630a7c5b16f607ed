"""The page of the settings, one table for each class."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from easel.settings import Settings
from gateway.settings import GatewaySettings
from inference.settings import WorkerSettings
from scripts.reference import markdown

INTRODUCTION = """
Read once at start, from the environment and from the file `.env` in the working folder; the environment goes first. A
wrong one ends the process with status 2 and one line for each that is wrong. Secrets are not shown in logs.
""".strip()

BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
KINDS = {"string": "text", "boolean": "`true`, `false`"}


def page() -> str:
    """Make the page."""
    return markdown.page(
        "Settings",
        INTRODUCTION,
        "## Gateway and worker",
        _table(Settings),
        "## Gateway",
        _table(GatewaySettings, without=Settings),
        "## Worker",
        _table(WorkerSettings, without=Settings),
        source="easel/settings.py, gateway/settings.py, inference/settings.py",
    )


def _table(settings: type[Settings], *, without: type[Settings] | None = None) -> str:
    inherited = without.model_fields if without else {}
    schema = settings.model_json_schema()
    fields, definitions = schema["properties"], schema.get("$defs", {})
    rows = [
        (
            markdown.code(_variable(name)),
            _type(fields[name], definitions),
            _default(name, settings),
            _description(name, settings),
        )
        for name in settings.model_fields
        if name not in inherited
    ]
    return markdown.table(("Variable", "Type", "Default", "Description"), rows)


def _variable(name: str) -> str:
    return f"EASEL_{name.upper()}"


def _type(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    kinds = [definitions[kind["$ref"].rpartition("/")[2]] if "$ref" in kind else kind for kind in _kinds(schema)]
    return " or ".join(_kind(kind) for kind in kinds)


def _kinds(schema: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return [kind for kind in schema.get("anyOf", [schema]) if kind.get("type") != "null"]


def _kind(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(markdown.code(value) for value in schema["enum"])
    if schema.get("format") == "password":
        return "secret"
    bounds = ", ".join(f"{sign} {schema[bound]:,}" for bound, sign in BOUNDS.items() if bound in schema)
    return f"{KINDS.get(schema['type'], schema['type'])} {bounds}".strip()


def _default(name: str, settings: type[Settings]) -> str:
    field = settings.model_fields[name]
    # A default that is checked as if it had been given is there to be refused.
    if field.is_required() or field.validate_default:
        return "required"
    match field.default:
        case bool(value):
            return markdown.code(str(value).lower())
        case int(value) | float(value):
            return markdown.code(f"{value:g}")
        case str(value):
            return markdown.code(value)
    return ""  # None, or a secret


def _description(name: str, settings: type[Settings]) -> str:
    """Read what a field says, with the variables of other fields in place of their names."""

    def rename(quoted: "re.Match[str]") -> str:
        return markdown.code(_variable(quoted[1])) if quoted[1] in settings.model_fields else quoted[0]

    return re.sub(r"`(\w+)`", rename, settings.model_fields[name].description or "")
