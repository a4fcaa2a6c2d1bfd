"""Thumbnails, made on the first request and kept in the cache `review/thumbs.sqlite`."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from coterie.app.pictures import LARGE, THUMB, Pictures
from coterie.data.shrink import Unreadable

LARGEST = 1 << 30  # bytes of thumbnails that are kept
THREADS, SECONDS, WAITING = 2, 10.0, 64  # that decode; for one picture; that may wait


class Busy(Exception):
    """More pictures are waiting than will be shown."""


class Store:
    """WebP files by row; the oldest are removed when there are too many. One that cannot be stored is made again."""

    def __init__(self, path: Path, key: str, limit: int = LARGEST) -> None:
        self.path, self.limit, self._guard = path, limit, threading.Lock()
        self._db: sqlite3.Connection | None = None
        try:
            self._db = self._open(key)
        except sqlite3.Error:  # a damaged cache is worth nothing
            try:
                path.unlink(missing_ok=True)
                self._db = self._open(key)
            except (sqlite3.Error, OSError):
                self._db = None

    def _open(self, key: str) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA synchronous=OFF")
        db.execute("CREATE TABLE IF NOT EXISTS facts (key TEXT)")
        if [row[0] for row in db.execute("SELECT key FROM facts")] != [key]:
            db.execute("DROP TABLE IF EXISTS thumbs")  # its name in the first version
            db.execute("DROP TABLE IF EXISTS pictures")
            db.execute("DELETE FROM facts")
            db.execute("INSERT INTO facts VALUES (?)", (key,))
        # An INTEGER PRIMARY KEY is the rowid itself: with `row` as the key the first rows would be the oldest ones.
        db.execute("CREATE TABLE IF NOT EXISTS pictures (row INTEGER UNIQUE, content BLOB)")
        self._size = int(db.execute("SELECT COALESCE(SUM(LENGTH(content)), 0) FROM pictures").fetchone()[0])
        return db

    def get(self, row: int) -> bytes | None:
        """The stored picture of a row, None where there is none."""
        with self._guard:
            if self._db is None:
                return None
            try:
                found = self._db.execute("SELECT content FROM pictures WHERE row = ?", (row,)).fetchone()
            except sqlite3.Error:
                return None
        return bytes(found[0]) if found else None

    def put(self, row: int, content: bytes) -> None:
        """Store a row's picture, unless it is there: two pages may ask for it at once."""
        with self._guard:
            if self._db is None:
                return
            try:
                added = self._db.execute("INSERT OR IGNORE INTO pictures VALUES (?, ?)", (row, content)).rowcount
                self._size += len(content) * added
                while self._size > self.limit:
                    oldest = "SELECT rowid, LENGTH(content) FROM pictures ORDER BY rowid LIMIT 200"
                    gone = self._db.execute(oldest).fetchall()
                    self._db.executemany("DELETE FROM pictures WHERE rowid = ?", [(one[0],) for one in gone])
                    self._size -= sum(one[1] for one in gone)
                    if not gone:
                        break
            except sqlite3.Error:
                return

    def close(self) -> None:
        """Close the store; what comes later is not stored."""
        with self._guard:
            if self._db is not None:
                self._db.close()
                self._db = None


class Thumbs:
    """Thumbnails and enlarged pictures, decoded by two threads."""

    def __init__(self, pictures: Pictures, store: Store) -> None:
        self.pictures, self.store = pictures, store
        self._pool, self._waiting = ThreadPoolExecutor(THREADS, "pictures"), 0

    async def thumb(self, row: int) -> bytes:
        """At most 160 pixels. Raises Unreadable and Busy."""
        found = self.store.get(row)
        if found is None:
            found = await self._made(row, THUMB)
            self.store.put(row, found)
        return found

    async def image(self, row: int) -> bytes:
        """At most 2,048 pixels. Raises Unreadable and Busy."""
        return await self._made(row, LARGE)

    async def _made(self, row: int, side: int) -> bytes:
        if self._waiting >= WAITING:
            raise Busy
        loop, begun = asyncio.get_running_loop(), asyncio.Event()

        def work() -> bytes:
            loop.call_soon_threadsafe(begun.set)
            return self.pictures.encoded(row, side)

        self._waiting += 1
        made = loop.run_in_executor(self._pool, work)
        try:
            # What others take before it is no time of its own.
            await asyncio.wait_for(begun.wait(), SECONDS)
        except TimeoutError:
            made.cancel()
            raise Busy from None
        else:
            try:
                return await asyncio.wait_for(made, SECONDS)
            except TimeoutError:
                self.pictures.broken[row] = "it takes too long to decode"
                raise Unreadable(self.pictures.broken[row]) from None
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Close the store; what comes later is not stored."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self.store.close()
