"""Pretrained encoders: pictures -> embeddings, a stage of its own before anything is trained.

An encoder sees pictures as it was taught to (its own size, crop, mean and deviation), not as the data set would have
them. `catalogue.py` has the names, `weights.py` finds their files, `loading.py` makes the net and refuses weights that
do not fill it, `chunks.py` runs it, `embedding.py` makes a source of the result, `store.py` keeps it, `opening.py` puts
it before `data.open_source`.
May not live here: training, labels.
"""

from coterie.encoders.opening import open_items

__all__ = ["open_items"]
