"""What every folder may use, and what knows nothing of clustering. Only `types.py` lies below.

- `words`: numbers with their nouns, capitals; `bounds`: what a number in a setting may be
- `arguments`: what Python's callers give, read or refused; `callers`: advice in the words of whoever calls
- `outputs`: whole files or none; `locks`: one process at a time
- `extras`: optional packages, imported or refused
- `isolation`: the state of the caller's process, kept apart; `shortage`: what a machine lacks, by an error's text

May not live here: anything of a stage of a run, torch at import.
"""
