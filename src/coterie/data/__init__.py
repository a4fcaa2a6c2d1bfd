"""Stage 1, data: what the user gives -> unlabelled items of one form; and, apart from them, labels.

`source.py` is the way in. Labels live in `labels.py`, `named_labels.py` and `encoding.py`, which nothing on the way to
a `Source` imports. May not live here: distortions, networks, anything that knows a method.
Importing this package imports neither torch nor Pillow nor pyarrow: they come with the first source that needs them.
"""

from coterie.data.encoding import Labels
from coterie.data.labels import labels_from_folders, labels_of, read_label_file
from coterie.data.named_files import GROUPS, names
from coterie.data.source import open_source

__all__ = ["GROUPS", "Labels", "labels_from_folders", "labels_of", "names", "open_source", "read_label_file"]
