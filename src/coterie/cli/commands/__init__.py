"""The commands and their options, a module for each thing a user does. A command imports heavy libraries itself.

The order of the imports is that of `coterie --help`.
"""

# isort: off
from coterie.cli.commands.options import app as app
from coterie.cli.commands import fit, prepare, use, check  # noqa: F401
