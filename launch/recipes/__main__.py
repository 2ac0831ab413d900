"""`python -m launch.recipes [NAME]`: where a recipe lies, or which there are."""

from __future__ import annotations

import sys

from bnsgcn.show.say import complain, say
from launch.recipes import recipe, recipes
from partition.errors import UserError

try:
    say("\n".join(map(str, map(recipe, sys.argv[1:]) if sys.argv[1:] else recipes())))
except UserError as error:
    complain(str(error))
    sys.exit(2)
