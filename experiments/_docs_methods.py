"""The generated table of a method's page, of every record that `method_reference.py` has made: no list to edit."""

from __future__ import annotations

import functools
import statistics

from _docs import RESULTS, SCORES, Block, records, score_cells, table
from _pages import in_words

PREFIX = "method_reference_"


def method(stem: str) -> str:
    """Each head over the seeds; below it the command, and what it ran on."""
    found = records(stem)
    runs = found["records"]
    heads = [[head, *score_cells([one["heads"][head] for one in runs], SCORES)] for head in runs[0]["heads"]]
    seconds = statistics.mean(one["seconds"] for one in runs)
    ground = f"{runs[0]['n']:,} items, backbone `{runs[0]['backbone']}`, {seconds:.0f} s a run"
    return f"{table(['head', *SCORES.values()], heads, found['command'])}\n{ground} ({in_words(found['machine'])}).\n"


BLOCKS: dict[str, Block] = {
    file.stem.removeprefix(PREFIX): functools.partial(method, file.stem)
    for file in sorted(RESULTS.glob(f"{PREFIX}*.json"))
}
