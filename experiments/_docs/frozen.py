"""The generated parts of the page on methods that group the embeddings of an encoder."""

from __future__ import annotations

from typing import Any

from _docs import BENCHMARKS, OLDER, RESULTS, Block, mean_percent, percent, records, score_cells, table

NAMES = {"sklearn": "K-means (scikit-learn)"}


def frozen_heads() -> str:
    """A table for each source that has run."""
    found = [records(path.stem) for path in sorted(RESULTS.glob("frozen_heads_*.json"))]
    return "\n".join(f"### {one['data']}\n\n{said(one)}\n{of_source(one)}" for one in found)


def said(one: dict[str, Any]) -> str:
    """What was embedded, by what, and how long it took."""
    times = one["embedding"]
    took = f", embedded in {times['processor_seconds']:,.0f} s of processor" if times else ""
    bounds = ", ".join(f"{name} {100 * bound:.1f}" for name, bound in one["bounds"].items())
    allowed = f" Mean accuracy that the runs' disagreement allows, without labels, percent: {bounds}." if bounds else ""
    return f"{one['n']:,} pictures{took}. Features {one['features']} ({one['encoding']['encoder']}).{allowed}\n"


def of_source(one: dict[str, Any]) -> str:
    rows = []
    for method in dict.fromkeys(run["method"] for run in one["runs"]):
        runs = [run for run in one["runs"] if run["method"] == method]
        metrics = [run["metrics"] for run in runs]
        sure = score_cells(metrics, ("ece", "confidence")) if "ece" in metrics[0] else ["", ""]
        times = [mean_time([run[key] for run in runs]) for key in ("seconds", "processor_seconds")]
        stages = [name for name in runs[0]["stages"] if name != "calibrate"]
        name = NAMES.get(method, method) + (f" ({', '.join(stages)})" if method in ("auto", "scratch") else "")
        rows.append([name, str(len(runs)), *score_cells(metrics, ("acc", "nmi", "ari")), *sure, *times])
    head = ["method", "seeds", "ACC", "NMI", "ARI", "ECE", "confidence", "seconds", "of processor"]
    return table(head, rows, one["command"])


def mean_time(seconds: list[float | None]) -> str:
    """Of a run that was resumed after a stop that kept no time, the time is not known."""
    known = [value for value in seconds if value is not None]
    return f"{sum(known) / len(known):.0f}" if len(known) == len(seconds) else "not known"


def graph_choice() -> str:
    """What speaks for the components and the graph, without labels."""
    found = records("graph_choice")
    rows = []
    for one in found["records"]:
        plain, reduced = one["as they are"], one["components"]
        pairs = [f"{plain[key]:.{digits}f}, {reduced[key]:.{digits}f}" for key, digits in (("hubs", 2), ("mutual", 2))]
        agreed = [f"{value:.3f}" for value in (plain["kmeans"], reduced["kmeans"], one["spectral"])]
        rows.append([one["data"], f"{one['n']:,}", *pairs, *agreed])
    head = ["data", "items", "hubs: as they are, components", "mutual: as they are, components"]
    return table([*head, "κ of K-means", "κ of K-means on components", "κ of `spectral`"], rows, found["command"])


def short_embeddings() -> str:
    """Made groups of few numbers: the mean of each method over the sets of a kind."""
    found = records("short_embeddings")
    rows = []
    for kind in dict.fromkeys(one["kind"] for one in found["records"]):
        sets = [one for one in found["records"] if one["kind"] == kind]
        for method in ("cdc", "spectral", "kmeans"):
            runs = [one[method] for one in sets]
            lowest = percent(min(run["ari"] for run in runs))
            seconds = f"{sum(run['seconds'] for run in runs) / len(runs):.1f}"
            scores = [mean_percent([run[key] for run in runs]) for key in ("acc", "ari", "ece")]
            rows.append([kind, str(len(sets)), f"`{method}`", *scores, lowest, seconds])
    head = ["groups", "sets", "method", "ACC", "ARI", "ECE", "lowest ARI", "seconds"]
    return table(head, rows, found["command"])


def votes() -> str:
    """How sure the votes are by the number of items: 50 voters, and a part of a group."""
    found = records("votes")
    rows = []
    for data, n in dict.fromkeys((one["data"], one["n"]) for one in found["records"]):
        runs = [one for one in found["records"] if (one["data"], one["n"]) == (data, n)]
        cells = [
            mean_percent([one[name][key] for one in runs])
            for key in ("confidence", "acc", "ece")
            for name in ("fixed", "of a group")
        ]
        rows.append([data, f"{n:,}", str(runs[0]["of a group"]["voters"]), *cells])
    pairs = [f"{key}, {name}" for key in ("confidence", "ACC", "ECE") for name in ("50 voters", "so many")]
    return table(["data", "items", "a tenth of a group", *pairs], rows, found["command"])


def embedding() -> str:
    """Seconds, memory, kills and batches of embedding."""
    found = records("embedding", BENCHMARKS)
    rows = [[name, f"{one['n']:,}", *_times(one), f"{one['peak_mb']:,}"] for name, one in _sources(found)]
    cuts, parts = found["kills"], found["kills"]["parts"]
    same = "the same files, bit for bit," if cuts["same_files"] else "OTHER FILES"
    said = (
        f"Encoder: {found['encoder']}; other work was on the machine (load {found['load_before'][0]:.0f} to "
        f"{found['load_after'][0]:.0f} on its cores). Killed {len(parts)} times at random moments, with "
        f"{min(parts)} to {max(parts)} parts on the disk, and gone on with: {same} as undisturbed. A picture alone and "
        f"among 32: cosine distance {found['largest_cosine_distance_alone_to_32']:.0e} at most.\n"
    )
    head = ["pictures", "number", "seconds", "of processor", "of processor, each", "peak MB"]
    return f"{table(head, rows, found['command'])}\n{said}"


def _sources(found: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [("as they are", found["pictures"]), (f"of {found['large']['megapixels']} megapixels", found["large"])]


def _times(one: dict[str, Any]) -> list[str]:
    each = one["processor_seconds"] / one["n"]
    return [f"{one['seconds']:.0f}", f"{one['processor_seconds']:.0f}", f"{1000 * each:.0f} ms"]


def photos() -> str:
    """A folder of photos by the command and its defaults, beside K-means on the same embeddings."""
    found = records("photos")
    rows = []
    tuned = {run["seed"]: run for run in found.get("finetuned", [])}
    for run, other in zip(found["coterie"], found["kmeans"], strict=True):
        for called, one in (("", run), (" `--finetune`", tuned.get(run["seed"]))):
            if one is None:
                continue
            name, head = next(iter(one["heads"].items()))
            scores = [percent(head[key]) for key in ("acc", "nmi", "ari", "ece", "confidence")]
            times = [f"{one[key]:.0f}" for key in ("seconds", "processor_seconds")]
            rows.append([f"`coterie fit`{called} (head `{name}`)", str(run["seed"]), *scores, *times])
        for key, called in (("raw", "as they are"), ("l2", "of length 1")):
            cells = [percent(other[key][score]) for score in ("acc", "nmi", "ari")]
            rows.append([f"K-means on the embeddings, {called}", str(run["seed"]), *cells, "", "", "", ""])
    head = ["", "seed", "ACC", "NMI", "ARI", "ECE", "mean confidence", "seconds", "of processor"]
    load = found["coterie"][0]["load"][0]
    said = f"{found['data']}; features {found['features']}. Load of the machine meanwhile: {load:.0f} on two cores.\n"
    return f"{table(head, rows, found['command'])}\n{said}"


def heads() -> str:
    """Seconds and memory of each head on many made embeddings."""
    found = records("heads", BENCHMARKS)
    rows = []
    for name, one in found["heads"].items():
        if one["status"] != "done":
            rows.append([name, one["status"], "", "", ""])
            continue
        right = f"ARI {one['ari']:.2f}" if "ari" in one else f"recommends {one['k']}"
        rows.append([name, f"{one['cpu_seconds']:.0f}", f"{one['seconds']:.0f}", f"{one['peak_gb']:.1f}", right])
    head = [f"{found['n']:,} × {found['dim']}, {found['groups']} groups", "seconds of processor", "seconds", "peak GB"]
    return table([*head, "found"], rows, found["command"])


def million() -> str:
    """Seconds and memory of every part at each size that was measured, from the largest down.

    A part that only a processor without bfloat16 has measured says so; none of them computes in it.
    """
    found = records("million", BENCHMARKS)
    older = records("million", OLDER)["sizes"] if (OLDER / "million.json").exists() else {}
    rows = []
    for part in dict.fromkeys(part for parts in found["sizes"].values() for part in parts):
        for n in sorted(map(int, found["sizes"]), reverse=True):
            there = older.get(str(n), {}).get(part)
            one = found["sizes"][str(n)].get(part) or there or {"status": "not run"}
            seconds = [f"{one[name]:,.0f}" if name in one else "" for name in ("cpu_seconds", "seconds")]
            memory = f"{one['own_gb']:.1f}" if "own_gb" in one else ""
            said = [f"ARI {one['ari']:.2f}"] if "ari" in one else []
            said += [f"page of {one['page_mb']} MB loaded in {one['loaded_seconds']} s"] if "page_mb" in one else []
            whole = f"{one.get('extrapolated_seconds', 0):,} s for all {n:,}"
            said += [f"{one['pictures']:,} pictures; {whole}"] if "pictures" in one else []
            said += [] if one["status"] == "done" else [one["status"]]
            said += ["AVX2 only"] if one is there else []
            rows.append([part, f"{n:,}", *seconds, memory, "; ".join(said)])
    head = ["part", "items", "seconds of processor", "seconds", "GB beyond the file", ""]
    return table(head, rows, f"{found['command']} --items N")


BLOCKS: dict[str, Block] = {
    "embedding": embedding,
    "frozen-heads": frozen_heads,
    "graph-choice": graph_choice,
    "heads": heads,
    "million": million,
    "photos": photos,
    "short-embeddings": short_embeddings,
    "votes": votes,
}
