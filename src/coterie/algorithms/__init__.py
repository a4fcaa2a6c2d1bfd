"""Stage 4: what is computed without gradient descent: K-means, neighbours, partitions, densities, geometry, schedules.

Plain functions of tensors, and heads whose parameters they set. May not live here: losses (`objectives`), the loop, and
anything that asks which method calls it.
"""
