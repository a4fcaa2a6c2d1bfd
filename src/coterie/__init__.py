"""coterie sorts unlabelled images or embeddings into groups, and says how far each assignment can be believed.

The folders are the stages of a run, in this order: data, views, networks, algorithms, objectives, methods, calibration,
training, prediction, evaluation, report. Start reading at `pipeline.py`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from coterie._version import __version__

if TYPE_CHECKING:
    from coterie.catalogue import register as register
    from coterie.choosing import choose_k as choose_k
    from coterie.data.spaces import Spaces as Spaces
    from coterie.embedder import Embed as Embed
    from coterie.embedder import embed as embed
    from coterie.estimator import Clusterer as Clusterer
    from coterie.estimator import load as load
    from coterie.posthoc import calibrate as calibrate
    from coterie.yardstick import supervised as supervised

__all__ = [
    "Clusterer",
    "Embed",
    "Spaces",
    "__version__",
    "calibrate",
    "choose_k",
    "embed",
    "load",
    "register",
    "supervised",
]
_HOMES = {
    "Clusterer": "coterie.estimator",
    "Embed": "coterie.embedder",
    "Spaces": "coterie.data.spaces",
    "calibrate": "coterie.posthoc",
    "choose_k": "coterie.choosing",
    "embed": "coterie.embedder",
    "load": "coterie.estimator",
    "register": "coterie.catalogue",
    "supervised": "coterie.yardstick",
}


def __getattr__(name: str) -> Any:
    """Import the estimator on first use, so that `import coterie` itself stays free of torch."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'coterie' has no attribute {name!r}")


def __dir__() -> list[str]:
    """What is imported on first use as well: a notebook completes these names, and `help` lists them."""
    return sorted({*globals(), *__all__})
