"""Stage 4: loss terms and algorithms that two papers share, as plain functions of tensors.

Here: K-means, nearest neighbours and the partitions they make, the geometry of features, prototypes, contrastive terms,
information terms, calibration targets, regularised cross-entropies, and the selection of pseudo-labels, whose memory is
in buffers. May not live here: networks, training loops, and anything that asks which method calls it.
"""
