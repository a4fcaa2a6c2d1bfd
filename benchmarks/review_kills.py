"""`kill -9` of a review server at random moments of a session: is each acknowledged decision there, once?

    python benchmarks/review_kills.py [--kills 200] [--seed 0]

A server process serves a run of 400 items made by hand, without pictures; a client sends moves, renames, merges and
undos as fast as they are answered, each with a number of its own, and sends what was not answered again to the next
process, as a tab does. The process is killed after a random time. At the end the log is read: every operation that was
answered stands in it exactly once, with the number that the answer gave it, and no line is torn. Writes
benchmarks/results/review_kills.json, where nothing is lost or there twice; else it says what is and fails.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import multiprocessing
import random
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from _measure import write_results

STEPS = ("move", "move", "move", "rename", "reject", "undo")


def make_run(folder: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq
    import yaml

    n, k = 400, 6
    p = np.random.default_rng(0).dirichlet(np.full(k, 0.3), n).astype(np.float32)
    source = {"name": "items", "origin": "", "kind": "embeddings", "n": n, "spec": {"kind": "embeddings", "dim": 2}}
    folder.mkdir()
    (folder / "run.yaml").write_text(yaml.safe_dump({"status": "done", "source": source, "n_clusters": k}))
    columns: dict[str, Any] = {"id": [str(row) for row in range(n)], "label": pa.array(p.argmax(1), pa.int32())}
    columns |= {"confidence": p.max(1), "probabilities": pa.FixedSizeListArray.from_arrays(pa.array(p.ravel()), k)}
    pq.write_table(pa.table(columns), folder / "result.parquet")
    return folder


class Client:
    """Sends decisions one after the other; what was not answered is sent again."""

    def __init__(self, seed: int) -> None:
        self.random, self.number, self.answered = random.Random(seed), 0, {}
        self.pending: tuple[str, dict[str, Any]] | None = None
        self.seq = 0

    def step(self, address: str) -> None:
        if self.pending is None:
            self.number += 1
            op, kind = f"kill-{self.number}", self.random.choice(STEPS)
            body: dict[str, Any] = {"op": op, "after": self.seq}
            if kind == "undo":
                self.pending = ("undo", body)
            else:
                row, group = self.random.randrange(400), self.random.randrange(6)
                data = {"move": {"rows": str(row), "to": group}, "reject": {"rows": str(row)}}.get(kind)
                data = data or {"group": group, "name": f"name {self.number}"}
                self.pending = ("events", {**body, "type": kind, "data": data})
        path, body = self.pending
        status, content = post(address + path, body)
        self.pending = None
        if status == 200:
            self.answered[body["op"]] = content["seq"]
            self.seq = content["last"]


def post(url: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    origin = "/".join(url.split("/")[:3])
    headers = {"Content-Type": "application/json", "X-Coterie": "1", "Origin": origin, "Sec-Fetch-Site": "same-origin"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    begun, moment, client = time.monotonic(), random.Random(asked.seed), Client(asked.seed)
    with tempfile.TemporaryDirectory() as temporary:
        run = make_run(Path(temporary) / "run")
        # A process with the libraries in it is kept, and each server is forked from it: their import takes seconds.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["coterie.app.server", "coterie.review", "pyarrow.parquet"])
        for kill in range(asked.kills):
            address_here, address_there = context.Pipe(duplex=False)
            process = context.Process(target=server, args=(run, address_there))
            process.start()
            address_there.close()
            address = address_here.recv()
            timer = threading.Timer(moment.uniform(0.01, 0.4), process.kill)
            timer.start()
            while process.is_alive():
                try:
                    client.step(address)
                except (
                    OSError,
                    ValueError,
                    http.client.HTTPException,
                ):  # the process has gone, perhaps in the middle of its answer
                    break
            process.join()
            timer.join()
            address_here.close()
            if (kill + 1) % 20 == 0:
                print(f"{kill + 1} kills, {len(client.answered):,} decisions answered", file=sys.stderr)
        events = check(run, client)
        command = f"python benchmarks/review_kills.py --kills {asked.kills} --seed {asked.seed}"
        took = round(time.monotonic() - begun)
        found = {"kills": asked.kills, "answered": len(client.answered), "events": events, "lost": 0, "twice": 0}
        print(json.dumps(found))
        write_results("review_kills", command, **found, seconds=took)


def server(run: Path, address: Connection) -> None:
    """Serve until killed; what it prints, its address, goes through the pipe."""
    from coterie.app.server import serve

    class Told(io.StringIO):
        def write(self, text: str) -> int:
            if text.strip():
                address.send(text.strip())
            return len(text)

    sys.stdout, sys.stderr = Told(), io.StringIO()
    serve(run, 0, browser=False, source=None, name="kill")


def check(run: Path, client: Client) -> int:
    """How many events the log has. Exits where one is lost, there twice, or another event than was answered."""
    from coterie.review import Review

    with Review(run) as review:
        seqs: dict[str, list[int]] = {}
        for event, _ in review.events:
            seqs.setdefault(event.op, []).append(event.seq)
    lost = [op for op, seq in client.answered.items() if seqs.get(op) != [seq]]
    twice = [op for op, found in seqs.items() if len(found) > 1]
    if lost or twice:
        sys.exit(f"{len(lost)} of {len(client.answered)} are lost ({lost[:5]}), {len(twice)} stand twice ({twice[:5]})")
    return len(seqs)


if __name__ == "__main__":
    main()
