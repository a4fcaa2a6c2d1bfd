"""Stage 4: loss terms and algorithms that two papers share, as plain functions of tensors.

Here: K-means, contrastive terms, information terms. May not live here: networks, training loops, and anything that
asks which method calls it.
"""
