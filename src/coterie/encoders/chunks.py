"""Chunks of embeddings: pictures are decoded by threads and seen by the encoder in batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from coterie.common.isolation import Threads
from coterie.data.decode import decode
from coterie.data.picture_form import Options, shown_to
from coterie.data.pictures import Pictures
from coterie.data.pixel_values import ValueRule
from coterie.encoders.loading import Encoder
from coterie.encoders.store import NO_DIGEST, Chunk, EmbeddingJob, Known
from coterie.types import InputError

# The digest of a picture, and its embedding (in between its pixels), or why it has none.
Seen = tuple[bytes, NDArray[Any] | str]
LARGEST = float(np.finfo(np.float16).max)
BATCH, BATCH_ON_CARD = 4, 64  # pictures that the encoder sees at once: on a CPU more are slower


@dataclass(frozen=True)
class ChunkMaker:
    """Makes chunks of a job; embeddings that are `known` are not made again."""

    job: EmbeddingJob
    pictures: Pictures
    failures: dict[int, str]  # pictures that the first pass could not read
    rule: ValueRule
    encoder: Encoder
    known: Known
    options: Options

    @property
    def batch(self) -> int:
        return BATCH if self.encoder.device.type == "cpu" else BATCH_ON_CARD

    def __call__(self, numbers: Sequence[int]) -> Iterator[tuple[int, Chunk]]:
        """Yield the chunks of these numbers, in order. Raises InputError for an encoder that gives no numbers."""
        job, size = self.job, self.batch
        chunks = {number: job.rows(number) for number in numbers}
        parts = [range(start, min(start + size, rows.stop)) for rows in chunks.values() for start in rows[::size]]
        threads = 1 if self.pictures.serial else self.options.threads
        done = job.count - job.pictures_in(numbers)
        with closing(_in_threads(self._embed, parts, threads, self.encoder.device)) as embedded:
            for number, rows in chunks.items():
                seen: list[Seen] = []
                while len(seen) < len(rows):
                    batch = next(embedded)
                    seen += batch
                    done += len(batch)
                    self.options.progress("embedding", done, job.count)
                yield number, _chunk(seen, self.encoder.width)

    def _embed(self, rows: range) -> list[Seen]:
        """A batch of pictures, each with its embedding or the reason why it has none."""
        seen = [self._see(row) for row in rows]
        fresh = [place for place, (_, found) in enumerate(seen) if isinstance(found, np.ndarray) and found.ndim == 3]
        if fresh:
            # Always a full batch, so that the embedding of a picture does not depend on which others came with it.
            side = self.job.encoding.size
            pixels = np.zeros((self.batch, 3, side, side), np.uint8)
            for at, place in enumerate(fresh):
                pixels[at] = seen[place][1]
            made = self.encoder(torch.from_numpy(pixels)).numpy()[: len(fresh)]
            for place, embedding in zip(fresh, _halved(made, self.job.encoding.encoder), strict=True):
                seen[place] = seen[place][0], embedding
        return seen

    def _see(self, row: int) -> Seen:
        """A picture with its embedding, where that is known, or with its pixels."""
        if row in self.failures:
            return NO_DIGEST, self.failures[row]
        try:
            digest = self.pictures.digest(row)
        except OSError as error:
            return NO_DIGEST, (error.strerror or "cannot be read").lower()
        if digest in self.known:
            array, place = self.known[digest]
            return digest, array[place]
        return digest, decode(self.pictures.load, row, shown_to(self.job.encoding), self.rule)


def _halved(made: NDArray[np.float32], name: str) -> NDArray[np.float16]:
    """The same in half precision. Raises InputError for what that cannot hold."""
    if not np.isfinite(made).all() or np.abs(made).max(initial=0) >= LARGEST:
        raise InputError(f"The encoder {name} gives numbers that half precision cannot hold: take another.")
    return made.astype(np.float16)


def _in_threads(
    work: Callable[[range], list[Seen]], parts: Sequence[range], threads: int, device: torch.device
) -> Generator[list[Seen], None, None]:
    """Map over the parts, in order, with a bounded number of results waiting.

    On a CPU each thread decodes and computes for itself: several that share one product wait for each other.
    """
    before = torch.get_num_threads()
    if device.type == "cpu" and threads > 1:
        torch.set_num_threads(1)
    waiting: deque[Future[list[Seen]]] = deque()
    pool = Threads(threads)
    try:
        for part in parts:
            waiting.append(pool.submit(work, part))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)


def _chunk(seen: list[Seen], width: int) -> Chunk:
    """The embeddings of the pictures of a chunk."""
    ok = np.array([not isinstance(found, str) for _, found in seen])
    made = [found for _, found in seen if not isinstance(found, str)]
    features = np.stack(made) if made else np.empty((0, width), np.float16)
    reasons = {place: found for place, (_, found) in enumerate(seen) if isinstance(found, str)}
    return Chunk(features, ok, np.stack([np.frombuffer(digest, np.uint8) for digest, _ in seen]), reasons)
