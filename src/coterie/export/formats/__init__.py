"""A format a file: what it looks like, and where it differs from what one would expect."""
