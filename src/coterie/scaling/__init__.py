"""Prediction and embedding in partitions: each is written whole or not at all, here or by workers of Ray.

`partitions.py` has the cut, the files and their merging, `predicting.py` what is done with one partition, `ray.py` the
workers. Engines differ in who calls, never in what is called, so that their rows are the same.
May not live here: how a source is read, how an item is predicted, training, labels.
"""
