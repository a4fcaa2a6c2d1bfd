"""Stage 2, views: one batch of items -> the named, randomly distorted views that a method asks for.

Everything works on whole batches as tensor operations on the batch's device, each item with its own random numbers.
May not live here: networks, losses, anything that knows a method.
"""

from coterie.views.draw import Draw
from coterie.views.normalise import normalisation, normalise
from coterie.views.recipes import RECIPES, make_views
from coterie.views.settings import ViewSettings

__all__ = ["RECIPES", "Draw", "ViewSettings", "make_views", "normalisation", "normalise"]
