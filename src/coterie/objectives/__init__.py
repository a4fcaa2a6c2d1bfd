"""Stage 5: loss terms and selection rules that two papers share, as plain functions of tensors.

Here: contrastive terms, information terms, soft assignments, calibration targets, regularised cross-entropies, and the
selection of pseudo-labels, whose memory is in buffers. May not live here: networks, training loops, what is no loss
(`algorithms`), and anything that asks which method calls it.
"""
