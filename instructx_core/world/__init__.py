"""The procedural editing world: seeded image and video triplets (source, instruction, target) with exact ground truth.

The data flow: vocabulary (words and colours, as data) -> scenes (what is in a picture) -> edits (the resulting scene,
and the words that ask for it) -> triplets (pixels and text). To add a colour, place or phrase, extend `vocabulary` (and
`chinese`); a shape also needs its distance function and reach in `drawing`, a look its function in `looks` and its
words in `look_phrases`.

`variety` sets how much goes beyond flat shapes on plain backgrounds: natural backgrounds (`grounds`), objects that are
turned and lit, Chinese. Without it (PLAIN), the first ten groups are bit-identical to those that trained version 5 of
the bundled model.
"""

from .colours import colour_entropy, looks_drawn
from .triplets import HELD_OUT_SEED, Subject, Triplet, sample_new_object, sample_subject, sample_triplet
from .variety import PLAIN, RICH, Variety
from .vocabulary import CLIP_GROUPS, EDIT_KINDS, EVERY_GROUP, GROUPS, PICTURE_KINDS
from .words import unknown_words

__all__ = [
    "CLIP_GROUPS",
    "EDIT_KINDS",
    "EVERY_GROUP",
    "GROUPS",
    "HELD_OUT_SEED",
    "PICTURE_KINDS",
    "PLAIN",
    "RICH",
    "Subject",
    "Triplet",
    "Variety",
    "colour_entropy",
    "looks_drawn",
    "sample_new_object",
    "sample_subject",
    "sample_triplet",
    "unknown_words",
]
