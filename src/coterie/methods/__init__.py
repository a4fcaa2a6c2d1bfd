"""Stage 5, methods: one paper, one file; the file's name is its name on the command line.

`coterie.contract` says what a method must have. May not live here: training loops, devices, files,
labels; no method imports another.
"""
