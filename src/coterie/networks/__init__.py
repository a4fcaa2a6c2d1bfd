"""Stage 3, networks: backbones, heads, the container that holds everything learned, and feature extraction.

May not live here: losses, optimisers, anything that knows a method or a label.
"""
