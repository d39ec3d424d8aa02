"""The procedural editing world: seeded (source, instruction, target) triplets, images and videos, exactly true.

One value leads to the next: vocabulary (words and colours, as data) -> scenes (what is in a picture) -> edits (the
scene after, and the words that ask for it) -> triplets and questions (pixels and text). To add a colour, place or
phrase, extend `vocabulary`; a shape also needs its distance function and reach in `drawing`.
"""

from .questions import Question, corpus, sample_question
from .triplets import HELD_OUT_SEED, Triplet, sample_triplet
from .vocabulary import EDIT_KINDS, GROUPS

__all__ = [
    "EDIT_KINDS",
    "GROUPS",
    "HELD_OUT_SEED",
    "Question",
    "Triplet",
    "corpus",
    "sample_question",
    "sample_triplet",
]
