"""Stage 10: what people decide about a finished run: an append-only log, and the labels that follow from it.

`Review` is Python's face on it; the server of `coterie.app` holds one, too. A review never changes the files of the
run: it writes `RUN/review/` and the derived table `RUN/result.reviewed.parquet`.

May not live here: torch, anything of the web.
"""

from coterie.review.log import BeingReviewed, Conflict, LogBroken
from coterie.review.session import Review
from coterie.review.table import reviewed_table

__all__ = ["BeingReviewed", "Conflict", "LogBroken", "Review", "reviewed_table"]
