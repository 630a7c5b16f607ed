"""The words for what there is in the world, and those that carry no meaning.

What stands twice in a row of words is said twice as often. Words of two meanings, such as "dark", are told apart by
what stands beside them.
"""

from collections.abc import Mapping, Sequence
from random import Random

from inference.postcard.world import Colour, Ground, Shape, Sky, Subject

SUBJECTS: Mapping[Subject, Sequence[str]] = {
    Subject.CASTLE: ("castle", "castle", "fortress", "palace", "chateau", "citadel"),
    Subject.HOUSE: ("house", "house", "cottage", "home", "cabin", "farmhouse", "hut"),
    Subject.TREE: ("tree", "tree", "oak", "oak tree", "maple tree", "leafy tree"),
    Subject.BOAT: ("boat", "boat", "sailing boat", "sailboat", "ship", "yacht", "sailing ship"),
    Subject.LIGHTHOUSE: ("lighthouse", "lighthouse", "beacon"),
    Subject.BRIDGE: ("bridge", "bridge", "suspension bridge", "viaduct"),
    Subject.WINDMILL: ("windmill", "windmill", "mill", "wind mill"),
    Subject.BALLOON: ("balloon", "hot air balloon", "hot-air balloon", "airship"),
    Subject.CHURCH: ("church", "church", "chapel", "cathedral", "abbey"),
    Subject.TENT: ("tent", "tent", "camping tent", "camp"),
}

#: Each ground as it stands after "a", and after the word for where one is.
GROUNDS: Mapping[Ground, Sequence[tuple[str, str]]] = {
    Ground.BEACH: (
        ("beach", "on a"), ("beach", "at the"), ("sandy beach", "on the"), ("shore", "on the"), ("coast", "on the"),
        ("seaside", "at the"), ("golden beach", "by a"), ("bay", "in a"),
    ),
    Ground.SEA: (
        ("sea", "on the"), ("sea", "in the"), ("ocean", "on the"), ("open sea", "on the"), ("blue sea", "on a"),
        ("open water", "on"), ("waves", "on the"), ("lake", "on a"),
    ),
    Ground.HILLS: (
        ("hills", "in the"), ("green hills", "among"), ("hill", "on a"), ("hillside", "on a"), ("valley", "in a"),
        ("meadow", "on a"), ("countryside", "in the"), ("rolling hills", "among"), ("grass", "on the"),
        ("green land", "on"),
    ),
    Ground.MOUNTAINS: (
        ("mountains", "in the"), ("mountains", "below the"), ("mountain range", "before a"), ("alps", "in the"),
        ("peaks", "under the"), ("high mountains", "among"), ("mountain", "by a"), ("rocky mountains", "in the"),
    ),
    Ground.DESERT: (
        ("desert", "in the"), ("desert", "in a"), ("dunes", "among the"), ("sand dunes", "on"), ("sahara", "in the"),
        ("hot desert", "in a"), ("wasteland", "in the"),
    ),
    Ground.FIELD: (
        ("field", "in a"), ("fields", "among"), ("wheat field", "in a"), ("farmland", "on"), ("cornfield", "in a"),
        ("yellow field", "on a"), ("farm", "on a"), ("golden wheat", "in"),
    ),
    Ground.SNOW: (
        ("snow", "in the"), ("snow", "on"), ("snowy land", "in a"), ("winter landscape", "in a"),
        ("deep snow", "in"), ("white snow", "on"), ("winter", "in"), ("snowfield", "on a"), ("arctic", "in the"),
    ),
    Ground.FOREST: (
        ("forest", "in the"), ("forest", "in a"), ("woods", "in the"), ("woodland", "in"), ("pine trees", "among"),
        ("dark forest", "in a"), ("pine forest", "in the"), ("green forest", "by a"), ("jungle", "in the"),
    ),
    Ground.CITY: (
        ("city", "in the"), ("city", "in a"), ("town", "in a"), ("downtown area", "in the"), ("skyline", "before a"),
        ("skyscrapers", "among"), ("street", "on a"), ("big city", "in a"), ("tall buildings", "among"),
        ("metropolis", "in the"),
    ),
}  # fmt: skip

#: Each sky as a thing, and as the words for when something is seen.
SKIES: Mapping[Sky, Sequence[tuple[str, str]]] = {
    Sky.DAY: (
        ("sunny day", "on a sunny day"), ("day", "during the day"), ("clear day", "on a clear day"),
        ("blue sky", "under a blue sky"), ("midday sun", "at noon"), ("daytime", "at midday"),
        ("daylight", "in daylight"), ("bright day", "in bright sunshine"), ("summer day", "on a fine summer day"),
        ("fair weather", "in fair weather"), ("afternoon", "in the afternoon"),
    ),
    Sky.SUNSET: (
        ("sunset", "at sunset"), ("sunset", "at sunset"), ("sunset", "during sunset"), ("dusk", "at dusk"),
        ("evening", "in the evening"), ("setting sun", "in front of the setting sun"), ("sundown", "at sundown"),
        ("orange sky", "under an orange sky"), ("golden hour", "in the golden hour"), ("red sky", "under a red sky"),
    ),
    Sky.DAWN: (
        ("dawn", "at dawn"), ("dawn", "at dawn"), ("sunrise", "at sunrise"), ("daybreak", "at daybreak"),
        ("early morning", "in the early morning"), ("rising sun", "before the rising sun"),
        ("pink sky", "under a pink sky"), ("morning", "in the morning"),
    ),
    Sky.NIGHT: (
        ("night", "at night"), ("night", "by night"), ("starry night", "on a starry night"),
        ("moon", "under the moon"), ("moonlight", "in the moonlight"), ("stars", "under the stars"),
        ("midnight", "at midnight"), ("starry sky", "under a starry sky"),
        ("dark night", "in the dark of night"),
    ),
    Sky.STORM: (
        ("storm", "in a storm"), ("storm", "during a storm"), ("thunderstorm", "in a thunderstorm"),
        ("stormy sky", "under a stormy sky"), ("lightning", "with lightning"), ("rain", "in the rain"),
        ("heavy rain", "in heavy rain"), ("dark clouds", "under dark clouds"), ("bad weather", "in bad weather"),
        ("stormy weather", "in stormy weather"), ("thunder", "with thunder and lightning"),
        ("grey sky", "under a grey sky"),
    ),
}  # fmt: skip

SHAPES: Mapping[Shape, Sequence[str]] = {
    Shape.CIRCLE: ("circle", "circle", "disc", "dot", "round shape"),
    Shape.SQUARE: ("square", "square", "box"),
    Shape.TRIANGLE: ("triangle", "triangle"),
    Shape.STAR: ("star", "star", "five-pointed star"),
    Shape.HEART: ("heart", "heart", "love heart"),
    Shape.DIAMOND: ("diamond", "diamond", "rhombus"),
}

COLOURS: Mapping[Colour, Sequence[str]] = {
    Colour.RED: ("red", "red", "red", "bright red", "crimson", "scarlet"),
    Colour.ORANGE: ("orange", "orange", "bright orange"),
    Colour.YELLOW: ("yellow", "yellow", "bright yellow", "lemon"),
    Colour.GREEN: ("green", "green", "dark green", "emerald"),
    Colour.BLUE: ("blue", "blue", "blue", "dark blue", "azure"),
    Colour.PURPLE: ("purple", "purple", "violet"),
    Colour.PINK: ("pink", "pink", "rose"),
    Colour.WHITE: ("white", "white"),
    Colour.BLACK: ("black", "black", "jet-black"),
}

#: Adjectives that change nothing.
ADJECTIVES = tuple(
    """
    beautiful old ancient lovely small little big large huge tiny medieval renaissance gothic baroque quiet lonely
    romantic mysterious magical famous pretty charming rustic modern abandoned grand majestic picturesque peaceful
    wonderful splendid cute wooden tall wide quaint simple elegant historic weathered gorgeous dreamy serene idyllic
    proud humble cosy enchanting legendary nice great good new young happy sad french german english italian spanish
    japanese scottish irish norwegian swiss greek american dutch victorian royal haunted crooked
    """.split()
)
#: What a picture is said to be, before or after what it shows.
STYLES = tuple(
    style.strip()
    for style in """
    a photo of, a picture of, a painting of, an image of, a drawing of, a postcard of, an illustration of, a view of,
    a watercolour of, an oil painting of, a print of, a poster of, a sketch of, a photograph of, a scene with,
    a postcard showing, i want, please draw, draw me, show me, make, there is, look at, imagine, we see, greetings from
    """.split(",")
)
TAGS = tuple(
    tag.strip()
    for tag in """
    highly detailed, 4k, 8k, hd, masterpiece, best quality, trending, digital art, flat design, vector art,
    minimalist, cartoon style, children's book, in the style of an old master, very beautiful, detailed, sharp focus,
    wide angle, by a famous artist, concept art, simple, colourful, clean lines, postcard, travel poster, art,
    award winning, vivid, cinematic, panorama, no people, in europe, in france, far away,
    with best wishes, please
    """.split(",")
)
#: Of these are words that nobody knows: up to three syllables, and an ending.
ONSETS = tuple(
    """b bl br c ch cl cr d dr f fl fr g gl gr h j k kn l m n p ph pl pr qu r s sc sh sl sm sn sp st str sw t th tr tw v
    w wh wr y z""".split()
)
NUCLEI = tuple("a e i o u ai au ea ee ei ia ie io oa oo ou".split())
CODAS = (
    *[""] * 20,
    *"b c ck d f g gh k l ll m mb mp n nd ng nk nt p r rd rk rl rm rn rt s sh ss st t tt th v x".split(),
)
ENDINGS = (
    "",
    *"""a o able age al an ance ant ard ary ate berg burg by dale don ed el en ent er ern ese ess est ette field ford
    ful gen ham heim holm ia ian ible ic ical ier ile ine ing ion ish ist ity ive land less ley like ling ly ment mere
    mont mouth nau ness on or ory ous stadt stein ter thorpe ton toft ty um ure us vik ville ward wick wood
    worth y""".split(),
)

#: What only the evaluation says: adjectives, styles, tags and names of which training never hears.
HELD_OUT_ADJECTIVES = tuple(
    """
    marvellous stately forgotten windswept delightful austrian portuguese neglected imposing sleepy whimsical nordic
    timeless breathtaking solitary fabulous venerable crumbling pleasant portly
    """.split()
)
HELD_OUT_STYLES = tuple(
    style.strip()
    for style in """
    a gouache of, a snapshot of, an etching of, could you paint, my memory of, a holiday card with, an engraving of,
    kindly produce, a fresco of, the cover shows
    """.split(",")
)
HELD_OUT_TAGS = tuple(
    tag.strip()
    for tag in """
    ultra realistic, studio quality, octane render, for my grandmother, as seen from afar, artstation, bokeh,
    in the loire region, hand made, silkscreen, low poly, matte, as on a stamp, 35mm film
    """.split(",")
)
HELD_OUT_NAMES = tuple(
    """
    loire tuscany bavaria cornwall provence patagonia kyoto devon sicily oslo vermont burgundy galway umbria quebec
    """.split()
)
#: All words that mean something or are held out.
WORDS = frozenset(
    word
    for phrases in (
        *SUBJECTS.values(),
        *SHAPES.values(),
        *COLOURS.values(),
        *([ground for ground, _ in pairs] for pairs in GROUNDS.values()),
        *([phrase for pair in pairs for phrase in pair] for pairs in SKIES.values()),
        ADJECTIVES,
        TAGS,
        STYLES,
        HELD_OUT_ADJECTIVES,
        HELD_OUT_TAGS,
        HELD_OUT_STYLES,
        HELD_OUT_NAMES,
    )
    for phrase in phrases
    for word in phrase.split()
)


def made_up(random: Random) -> str:
    """Make up a word that nobody knows, which means nothing and is not held out either."""
    while True:
        syllables = (
            random.choice(ONSETS) + random.choice(NUCLEI) + random.choice(CODAS) for _ in range(random.randint(1, 3))
        )
        word = "".join(syllables) + random.choice(ENDINGS)
        if word not in WORDS:
            return word
