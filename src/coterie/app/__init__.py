"""Stage 11: the review app, a local web server. Alone imports FastAPI, which the extra `coterie[review]` brings.

- `server`: one run, one address, one process; `guard`: who may ask for what; `site`: what all answers share
- `pages`: HTML that can be read without scripts; `answers`: JSON and pictures for the scripts; `posts`: decisions
- `overview`, `listing`, `comparing`, `places`: what the pages show, out of a `coterie.review.Review`
- `jobs`: work that takes longer than an answer; `exporting`: the job that writes an export
- `pictures`, `thumbs`: the items' pictures, read only, always encoded anew
- `templates/`, `static/`: jinja2 pages, plain ES modules, no build step

May not live here: what a decision means (that is `coterie.review`'s), torch.
"""
