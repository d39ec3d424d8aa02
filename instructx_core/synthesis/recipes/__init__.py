"""The recipes that turn footage into pairs; to add one, add a file here and list it below."""

from .add_remove import ADD_REMOVE
from .advanced_edit import ADVANCED_EDIT
from .base import Choices, Recipe
from .look import LOOK
from .swap_dynamic import SWAP_DYNAMIC
from .swap_static import SWAP_STATIC

RECIPES = {one.name: one for one in (ADD_REMOVE, SWAP_STATIC, SWAP_DYNAMIC, LOOK, ADVANCED_EDIT)}

__all__ = ["RECIPES", "Choices", "Recipe"]
