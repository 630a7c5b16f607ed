"""Says in the public API's words what the worker's model can do."""

from easel import subjects
from easel.v1.generation_pb2 import ImageFormat
from easel.v1.model_pb2 import DoubleRange, IntRange, Model, ModelDefaults
from inference.engine.adapter import Traits
from inference.models import Card

MIN_SIZE_PIXELS = 64
#: How much larger than its default size a model may be asked to draw.
MAX_SIZE_FACTOR = 4
MAX_SIZE_PIXELS = 4096
MAX_GUIDANCE_SCALE = 30.0
MAX_IMAGE_COUNT = 8
#: The cost of one request is bounded by so many steps of one picture of the default size.
MAX_DEFAULT_SIZE_STEPS = 1_000


def describe(traits: Traits, card: Card, *, name: str) -> Model:
    """Make the public description of a model; what its card says goes before what it was found to be.

    Raises:
        ValueError: the card asks for what the model cannot do.
    """
    width = card.default_width or traits.default_width
    height = card.default_height or traits.default_height
    scheduler = card.default_scheduler or traits.default_scheduler
    if scheduler not in traits.schedulers:
        raise ValueError(f"the default scheduler {scheduler} is none of {', '.join(traits.schedulers)}")
    return Model(
        name=name,
        description=card.description or f"{traits.family}, {width} x {height}.",
        defaults=ModelDefaults(
            width=width,
            height=height,
            steps=min(card.default_steps or traits.default_steps, traits.max_steps),
            guidance_scale=_first(card.default_guidance_scale, traits.default_guidance_scale),
            scheduler=scheduler,
            image_count=1,
            format=ImageFormat.IMAGE_FORMAT_PNG,
        ),
        width=_sizes(width, multiple_of=traits.size_multiple),
        height=_sizes(height, multiple_of=traits.size_multiple),
        steps=IntRange(min=1, max=traits.max_steps),
        guidance_scale=DoubleRange(min=0, max=MAX_GUIDANCE_SCALE),
        image_count=IntRange(min=1, max=MAX_IMAGE_COUNT),
        schedulers=sorted(traits.schedulers),
        max_pixel_steps=width * height * MAX_DEFAULT_SIZE_STEPS,
        previews=traits.previews,
    )


def name_of(model: str, card: Card, *, override: str) -> str:
    """Name a model: as the operator says, else as its card says, else after where it comes from.

    Raises:
        ValueError: no name can be made.
    """
    return override or subjects.slug(card.name or model)


def _sizes(default_pixels: int, *, multiple_of: int) -> IntRange:
    smallest = -(-MIN_SIZE_PIXELS // multiple_of) * multiple_of
    largest = min(MAX_SIZE_FACTOR * default_pixels, MAX_SIZE_PIXELS)
    return IntRange(
        min=min(smallest, default_pixels), max=largest // multiple_of * multiple_of, multiple_of=multiple_of
    )


def _first(given: float | None, otherwise: float) -> float:
    return otherwise if given is None else given
