"""The words and values of the procedural world, as data: extend a table here and the generator follows.

Phrases are templates. `{name}` is an object ("red circle", "circle", "red one"), `{colour}` a colour word,
`{a_colour}` one with its article, `{thing}` a noun phrase ("an orange star"), `{place}` a prepositional phrase ("in
the top left"), `{spot}` a bare place ("top left"), `{medium}` a word for the whole picture, `{subject}` the object of
a reference image ("object in the reference image"). Earlier entries of a tuple are drawn more often than later ones,
so the plainest wording comes first.
"""

EDIT_KINDS = ("recolor", "remove", "add", "replace", "background", "grayscale", "invert")
GROUPS = (*EDIT_KINDS, "hybrid", "reference_swap", "reference_add")
# Added later: looks, weather, masks, an object that enters a clip late, and requests from outside this world.
PICTURE_KINDS = ("tone", "style", "weather", "segment")
EVERY_GROUP = (*GROUPS, *PICTURE_KINDS, "late", "outside")
CLIP_GROUPS = ("late",)  # for clips only
TONES = ("sepia", "warmer", "cooler", "brighter", "darker", "contrast", "night")
BLUR = "blurred background"
STYLES = ("sketch", "posterised", "cartoon", "pixelated", BLUR)
WEATHER = ("fog", "snow")
LOCAL_KINDS = ("recolor", "remove", "add", "replace")
PIXEL_KINDS = ("grayscale", "invert", "tone", "style", "weather")  # they act on all pixels

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.85, 0.12, 0.12),
    "green": (0.12, 0.7, 0.2),
    "blue": (0.12, 0.25, 0.9),
    "yellow": (0.95, 0.88, 0.15),
    "purple": (0.58, 0.18, 0.7),
    "orange": (0.96, 0.52, 0.1),
    "white": (0.95, 0.95, 0.95),
}
BACKGROUNDS: dict[str, tuple[float, float, float]] = {
    "gray": (0.5, 0.5, 0.5),
    "teal": (0.2, 0.45, 0.45),
    "brown": (0.42, 0.32, 0.22),
    "navy": (0.12, 0.14, 0.32),
    "pink": (0.85, 0.62, 0.68),
    "olive": (0.42, 0.45, 0.2),
}
SHAPES = ("circle", "square", "triangle", "star")

# Places where an object can be added: centre as fractions (of the height, of the width).
PLACES: dict[str, tuple[float, float]] = {
    "top left": (0.25, 0.25),
    "top right": (0.25, 0.75),
    "bottom left": (0.75, 0.25),
    "bottom right": (0.75, 0.75),
    "center": (0.5, 0.5),
}
# Coarse positions by thirds of the frame: rows from top to bottom, columns from left to right.
GRID = (("top left", "top", "top right"), ("left", "center", "right"), ("bottom left", "bottom", "bottom right"))

SYNONYMS: dict[str, tuple[str, ...]] = {
    "circle": ("disc", "disk", "ball"),
    "square": ("box", "block"),
    "gray": ("grey",),
    "navy": ("navy blue", "dark blue"),
    "purple": ("violet",),
    "top left": ("upper left", "top-left"),
    "top right": ("upper right", "top-right"),
    "bottom left": ("lower left", "bottom-left"),
    "bottom right": ("lower right", "bottom-right"),
    "center": ("middle", "centre"),
}
# Nouns in place of the shape when an object is named by colour alone.
NOUNS = ("one", "shape", "object", "thing", "figure")
IMAGE_MEDIA = ("image", "picture", "scene", "photo")
VIDEO_MEDIA = ("video", "clip", "scene", "footage")

PLACE_PHRASES = ("in the {spot}", "at the {spot}", "in the {spot} of the {medium}", "at the {spot} of the {medium}")
CORNER_PHRASES = ("in the {spot} corner", "in the {spot} corner of the {medium}")

# Imperatives: they can stand alone, be asked politely, and be joined in a hybrid.
PHRASES: dict[str, tuple[str, ...]] = {
    "recolor": (
        "make the {name} {colour}",
        "change the {name} to {colour}",
        "turn the {name} {colour}",
        "change the color of the {name} to {colour}",
        "recolor the {name} to {colour}",
        "paint the {name} {colour}",
        "recolor the {name} {colour}",
        "color the {name} {colour}",
        "set the color of the {name} to {colour}",
        "change the {name}'s color to {colour}",
        "change the colour of the {name} to {colour}",
        "give the {name} {a_colour} color",
        "switch the {name} to {colour}",
        "make the {name} look {colour}",
    ),
    "remove": (
        "remove the {name}",
        "delete the {name}",
        "erase the {name}",
        "get rid of the {name}",
        "remove the {name} from the {medium}",
        "take away the {name}",
        "take out the {name}",
        "delete the {name} from the {medium}",
        "take the {name} out",
        "make the {name} disappear",
        "wipe out the {name}",
        "eliminate the {name}",
        "hide the {name}",
    ),
    "add": (
        "add {thing} {place}",
        "put {thing} {place}",
        "add {thing} to the {spot}",
        "place {thing} {place}",
        "insert {thing} {place}",
        "draw {thing} {place}",
        "paint {thing} {place}",
        "create {thing} {place}",
        "add {thing} to the {medium} in the {spot}",
    ),
    "replace": (
        "replace the {name} with {thing}",
        "turn the {name} into {thing}",
        "change the {name} into {thing}",
        "change the {name} to {thing}",
        "swap the {name} for {thing}",
        "transform the {name} into {thing}",
        "convert the {name} to {thing}",
        "make the {name} {thing}",
        "change the shape of the {name} to {thing}",
        "substitute {thing} for the {name}",
        "switch the {name} to {thing}",
        "exchange the {name} for {thing}",
    ),
    "background": (
        "make the background {colour}",
        "change the background to {colour}",
        "turn the background {colour}",
        "set the background to {colour}",
        "change the background color to {colour}",
        "change the color of the background to {colour}",
        "recolor the background to {colour}",
        "paint the background {colour}",
        "use {a_colour} background",
        "replace the background with {colour}",
        "switch the background to {colour}",
        "change the background to {a_colour} one",
        "set the background color to {colour}",
        "give it {a_colour} background",
        "give the {medium} {a_colour} background",
        "make the backdrop {colour}",
    ),
    "grayscale": (
        "make it grayscale",
        "convert it to grayscale",
        "make the {medium} grayscale",
        "turn the {medium} grayscale",
        "make it black and white",
        "convert the {medium} to grayscale",
        "turn the {medium} black and white",
        "convert to grayscale",
        "convert the {medium} to black and white",
        "make it greyscale",
        "desaturate the {medium}",
        "remove the color from the {medium}",
        "remove all colors",
        "make everything gray",
        "make the {medium} monochrome",
    ),
    "invert": (
        "invert the colors",
        "invert the {medium}",
        "invert all colors",
        "invert the colors of the {medium}",
        "invert the colours",
        "make it a negative",
        "turn the {medium} into a negative",
        "reverse the colors",
        "negate the colors",
        "make the colors inverted",
        "invert everything",
    ),
    "reference_swap": (
        "replace the {name} with the {subject}",
        "swap the {name} for the {subject}",
        "turn the {name} into the {subject}",
        "change the {name} to the {subject}",
        "replace the {name} by the {subject}",
        "exchange the {name} for the {subject}",
        "substitute the {subject} for the {name}",
        "replace the {name} with this {noun}",
        "swap the {name} for this {noun}",
        "turn the {name} into this {noun}",
        "put the {subject} in place of the {name}",
    ),
    "reference_add": (
        "add the {subject} {place}",
        "put the {subject} {place}",
        "add the {subject} to the {spot}",
        "place the {subject} {place}",
        "insert the {subject} {place}",
        "draw the {subject} {place}",
        "add this {noun} {place}",
        "put this {noun} {place}",
        "place this {noun} {place}",
    ),
}
# Statements: they can only stand alone.
STATEMENTS: dict[str, tuple[str, ...]] = {
    "recolor": (
        "the {name} should be {colour}",
        "I want the {name} to be {colour}",
        "I would like {a_colour} {shape} instead of the {name}",
    ),
    "remove": ("the {name} should be gone", "I want the {name} gone", "I don't want the {name}", "no {name}"),
    "add": (
        "I want {thing} {place}",
        "there should be {thing} {place}",
        "{place}, add {thing}",
        "{place}, put {thing}",
    ),
    "replace": (
        "the {name} should be {thing}",
        "I want {thing} instead of the {name}",
        "I want the {name} to be {thing}",
    ),
    "background": ("the background should be {colour}", "I want {a_colour} background", "{colour} background"),
    "grayscale": ("I want it in grayscale", "the {medium} should be black and white", "grayscale", "black and white"),
    "invert": ("the colors should be inverted", "I want the negative", "inverted colors"),
    "reference_swap": ("the {name} should be the {subject}", "I want the {subject} instead of the {name}"),
    "reference_add": (
        "I want the {subject} {place}",
        "{place}, add the {subject}",
        "there should be the {subject} {place}",
    ),
}
SUBJECTS = (
    "object in the reference image",
    "object from the reference image",
    "shape in the reference image",
    "object in the reference",
    "one in the reference image",
    "shape from the reference image",
    "reference object",
    "thing in the reference image",
    "object shown in the reference image",
    "object in the reference picture",
    "shape from the reference",
)
REFERENCE_NOUNS = ("object", "shape", "thing", "figure")

JOINERS = (
    "{first} and {second}",
    "{first} then {second}",
    "{first}, then {second}",
    "{first} and then {second}",
    "first {first}, then {second}",
    "{first}, and {second}",
)
POLITE = (
    "please {text}",
    "{text} please",
    "{text}, please",
    "can you {text}?",
    "could you {text}?",
    "please {text}, thanks",
)

EFFECT_CAPTIONS = {"grayscale": "in grayscale", "invert": "with inverted colors"}
