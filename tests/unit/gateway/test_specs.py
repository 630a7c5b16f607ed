"""What a request may ask for."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from google.protobuf.duration_pb2 import Duration

from easel.v1.generation_messages_pb2 import BatchCreateGenerationsRequest, CreateGenerationRequest
from easel.v1.generation_pb2 import GenerationSpec, ImageFormat, OutputSpec, PreviewSpec
from easel.v1.model_pb2 import DoubleRange, IntRange, Model, ModelDefaults
from gateway.api import specs
from gateway.errors import InvalidRequest
from gateway.resume_token import Position, to_token

TINY = Model(
    name="tiny",
    defaults=ModelDefaults(
        width=64,
        height=64,
        steps=20,
        guidance_scale=7.5,
        scheduler="ddim",
        image_count=1,
        format=ImageFormat.IMAGE_FORMAT_PNG,
    ),
    width=IntRange(min=8, max=512, multiple_of=8),
    height=IntRange(min=8, max=512, multiple_of=8),
    steps=IntRange(min=1, max=100),
    guidance_scale=DoubleRange(min=0, max=30),
    image_count=IntRange(min=1, max=4),
    schedulers=["ddim", "euler"],
    max_pixel_steps=512 * 512 * 20,
)
GENERATION = "01920000-0000-7000-8000-000000000001"


def violations_of(spec: GenerationSpec, *, request_id: str = "", models: dict[str, Model] | None = None) -> set[str]:
    with pytest.raises(InvalidRequest) as refused:
        specs.resolve(spec, request_id=request_id, models={"tiny": TINY} if models is None else models)
    return {violation.field for violation in refused.value.violations}


def resolve(spec: GenerationSpec) -> GenerationSpec:
    return specs.resolve(spec, request_id="", models={"tiny": TINY})


def test_fills_what_is_left_open_and_leaves_the_spec_alone() -> None:
    spec = GenerationSpec(prompt="a castle")
    resolved = resolve(spec)
    assert spec == GenerationSpec(prompt="a castle")
    assert (resolved.model, resolved.width, resolved.height, resolved.steps) == ("tiny", 64, 64, 20)
    assert (resolved.guidance_scale, resolved.scheduler, resolved.image_count) == (7.5, "ddim", 1)
    assert resolved.output.format == ImageFormat.IMAGE_FORMAT_PNG
    assert resolved.output.embed_parameters
    assert resolved.HasField("seed")


def test_zero_is_not_absent() -> None:
    resolved = resolve(GenerationSpec(prompt="a castle", seed=0, guidance_scale=0))
    assert resolved.seed == 0
    assert resolved.guidance_scale == 0


def test_drawn_seeds_differ() -> None:
    assert len({resolve(GenerationSpec(prompt="a castle")).seed for _ in range(10)}) > 1


def test_lossy_formats_get_a_quality_and_keep_a_given_one() -> None:
    jpeg = OutputSpec(format=ImageFormat.IMAGE_FORMAT_JPEG)
    assert resolve(GenerationSpec(prompt="a castle", output=jpeg)).output.quality == specs.DEFAULT_QUALITY
    jpeg.quality = 40
    assert resolve(GenerationSpec(prompt="a castle", output=jpeg)).output.quality == 40


def test_names_every_offending_field_at_once() -> None:
    spec = GenerationSpec(
        model="huge",
        prompt=" ",
        negative_prompt="x" * 4_001,
        seed=-1,
        priority=101,
        timeout=Duration(),
        output=OutputSpec(format=ImageFormat.IMAGE_FORMAT_PNG, quality=101),
        labels={"bad key": "", "long": "x" * 256},
    )
    assert violations_of(spec, request_id="bad id") == {
        "request_id",
        "spec.model",
        "spec.prompt",
        "spec.negative_prompt",
        "spec.seed",
        "spec.priority",
        "spec.timeout",
        "spec.output.quality",
        "spec.labels",
        "spec.labels[long]",
    }


def test_checks_numbers_against_the_model_all_at_once() -> None:
    spec = GenerationSpec(
        prompt="a castle",
        width=12,
        height=1024,
        steps=0,
        guidance_scale=float("nan"),
        image_count=5,
        scheduler="magic",
        preview=PreviewSpec(every_steps=2),
    )
    assert violations_of(spec) == {
        "spec.width",
        "spec.height",
        "spec.steps",
        "spec.guidance_scale",
        "spec.image_count",
        "spec.scheduler",
        "spec.preview.every_steps",
    }


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda spec: setattr(spec, "prompt", "a\0b"), "spec.prompt"),
        (lambda spec: setattr(spec, "prompt", "x" * 4_001), "spec.prompt"),
        (lambda spec: setattr(spec, "negative_prompt", "\0"), "spec.negative_prompt"),
        (lambda spec: setattr(spec, "seed", 2**53), "spec.seed"),
        (lambda spec: setattr(spec, "guidance_scale", float("inf")), "spec.guidance_scale"),
        (lambda spec: setattr(spec.output, "format", 99), "spec.output.format"),
        (lambda spec: setattr(spec.preview, "every_steps", -1), "spec.preview.every_steps"),
        (lambda spec: spec.labels.update({f"k{i}": "" for i in range(33)}), "spec.labels"),
        (lambda spec: spec.labels.update({"k": "\0"}), "spec.labels[k]"),
        (lambda spec: spec.timeout.FromTimedelta(timedelta(days=8)), "spec.timeout"),
    ],
)
def test_refuses(change: Callable[[GenerationSpec], None], field: str) -> None:
    spec = GenerationSpec(prompt="a castle")
    change(spec)
    assert violations_of(spec) == {field}


@pytest.mark.parametrize(
    "timeout", [Duration(seconds=10**15), Duration(seconds=5, nanos=2 * 10**9), Duration(seconds=5, nanos=-1)]
)
def test_durations_that_are_none_are_refused_like_any_other(timeout: Duration) -> None:
    assert violations_of(GenerationSpec(prompt="a castle", timeout=timeout)) == {"spec.timeout"}
    with pytest.raises(InvalidRequest):
        specs.check_lifetime(timeout, default=timedelta(hours=1))


@pytest.mark.parametrize(
    ("spec", "depends_on_model"),
    [
        (GenerationSpec(prompt="a castle", steps=1000), True),
        (GenerationSpec(prompt="a castle", model="huge"), True),
        (GenerationSpec(prompt="a castle", width=512, height=512, steps=100), True),
        (GenerationSpec(prompt="", steps=1000), False),
    ],
)
def test_tells_what_may_have_been_right_before(spec: GenerationSpec, depends_on_model: bool) -> None:
    with pytest.raises(InvalidRequest) as refused:
        resolve(spec)
    assert refused.value.depends_on_model == depends_on_model


def test_the_last_picture_s_seed_counts_too() -> None:
    assert violations_of(GenerationSpec(prompt="a castle", seed=specs.MAX_SEED, image_count=2)) == {"spec.seed"}


def test_caps_the_cost_of_the_whole() -> None:
    assert violations_of(GenerationSpec(prompt="a castle", width=512, height=512, steps=21)) == {"spec"}


def test_lists_what_is_known() -> None:
    with pytest.raises(InvalidRequest, match="must be one of: tiny"):
        resolve(GenerationSpec(prompt="a castle", model="huge"))
    with pytest.raises(InvalidRequest, match="must be one of: ddim, euler"):
        resolve(GenerationSpec(prompt="a castle", scheduler="magic"))


def test_a_model_may_be_left_out_only_where_there_is_one() -> None:
    other = Model(name="other")
    assert violations_of(GenerationSpec(prompt="a castle"), models={"tiny": TINY, "other": other}) == {"spec.model"}
    assert violations_of(GenerationSpec(prompt="a castle"), models={}) == {"spec.model"}


def test_a_batch_that_is_too_large_is_looked_at_no_further() -> None:
    request = BatchCreateGenerationsRequest(requests=[CreateGenerationRequest(request_id="same")] * 10_000)
    with pytest.raises(InvalidRequest) as refused:
        specs.check_batch(request)
    assert [violation.field for violation in refused.value.violations] == ["requests"]


def test_ids_are_brought_into_their_usual_form() -> None:
    assert specs.check_generation_id(GENERATION.upper().replace("-", "")) == GENERATION
    with pytest.raises(InvalidRequest):
        specs.check_generation_id("no uuid")


def test_resume_tokens() -> None:
    position = Position(generation_id=GENERATION, revision=3, attempt=1, sequence=7)
    assert specs.check_resume_token(to_token(position), generation_id=GENERATION) == position
    assert specs.check_resume_token("", generation_id=GENERATION).revision == 0


@pytest.mark.parametrize("token", ["nonsense", "ä", "====", to_token(Position(generation_id="other", revision=1))])
def test_refuses_tokens_that_are_none_or_of_another(token: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        specs.check_resume_token(token, generation_id=GENERATION)
    assert [violation.field for violation in refused.value.violations] == ["resume_token"]


def test_url_lifetimes() -> None:
    default = timedelta(hours=1)
    assert specs.check_lifetime(None, default=default) == default
    assert specs.check_lifetime(Duration(seconds=5), default=default) == timedelta(seconds=5)
    for seconds in (0, -5, 8 * 24 * 3600):
        with pytest.raises(InvalidRequest):
            specs.check_lifetime(Duration(seconds=seconds), default=default)
