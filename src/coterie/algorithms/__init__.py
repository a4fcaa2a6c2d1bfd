"""Stage 4: what is computed and not descended: K-means, neighbours, partitions, densities, geometry, schedules.

Plain functions of tensors, and the heads that they place. May not live here: losses (`objectives`), the loop, and
anything that asks which method calls it.
"""
