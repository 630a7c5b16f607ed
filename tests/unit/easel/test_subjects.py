import pytest
from hypothesis import given
from hypothesis import strategies as st

from easel import subjects

ONE_TOKEN = (
    subjects.tasks_of,
    subjects.task_consumer,
    subjects.result,
    subjects.progress,
    lambda text: subjects.task("tiny", text),
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tiny", "tiny"),
        ("stable-diffusion-v1-5/stable-diffusion-v1-5", "stable-diffusion-v1-5"),
        ("org/Stable Diffusion v1.5", "stable-diffusion-v1-5"),
        ("/models/postcard/", "postcard"),
        ("C:\\models\\Tiny", "tiny"),
        ("under_score", "under_score"),
        ("x" * 100, "x" * 64),
        ("x" * 63 + " and more", "x" * 63),
    ],
)
def test_any_name_becomes_one_that_may_stand_in_a_subject(text: str, expected: str) -> None:
    assert subjects.slug(text) == expected


@pytest.mark.parametrize("text", ["", "/", "...", "日本"])
def test_a_name_without_anything_usable_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no letter or digit"):
        subjects.slug(text)


@given(st.text())
def test_a_slug_is_always_a_token_and_its_own_slug(text: str) -> None:
    try:
        slug = subjects.slug(text)
    except ValueError:
        return
    assert subjects.is_token(slug)
    assert subjects.slug(slug) == slug


@pytest.mark.parametrize("text", ["", "a.b", "a b", "*", ">", "a\n", "a\x00", "x" * 65, "é"])
@pytest.mark.parametrize(
    "name",
    [
        subjects.tasks_of,
        subjects.task_consumer,
        subjects.result,
        subjects.progress,
        lambda text: subjects.task("m", text),
    ],
)
def test_nothing_else_gets_into_a_subject(name: object, text: str) -> None:
    assert not subjects.is_token(text)
    with pytest.raises(ValueError, match="cannot stand in a NATS subject"):
        name(text)  # type: ignore[operator]


def test_the_hints_of_a_model_match_its_filter_and_no_other() -> None:
    assert subjects.task("tiny", "id").startswith(subjects.tasks_of("tiny").removesuffix("*"))
    assert not subjects.task("tiny-2", "id").startswith(subjects.tasks_of("tiny").removesuffix("*"))


def test_each_subject_belongs_to_its_stream() -> None:
    for subject, everything in (
        (subjects.task("tiny", "id"), subjects.ALL_TASKS),
        (subjects.result("id"), subjects.ALL_RESULTS),
        (subjects.progress("id"), subjects.ALL_PROGRESS),
    ):
        assert subject.startswith(everything.removesuffix(">"))
