"""Paired training data from footage: experts behind protocols, recipes that combine them, a filter, and records.

footage -> recipe (calls experts) -> candidates -> checks (measures, then the judge) -> kept or dropped; both are stored
"""

from .candidate import Candidate, Tray
from .clips import Clip, ClipFolder
from .experts import Experts
from .recipes import RECIPES, Choices, Recipe
from .world import World

__all__ = ["RECIPES", "Candidate", "Choices", "Clip", "ClipFolder", "Experts", "Recipe", "Tray", "World"]
