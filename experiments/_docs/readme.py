"""The README's table of methods, from the catalogue, and its first result, from the record of the photos."""

from __future__ import annotations

from _docs.frozen import records
from coterie.catalogue import method_class, own_names
from coterie.contract import is_trained


def chain(name: str) -> str:
    """The stages that lead to a method on images, as they are typed."""
    before = method_class(name).card.starts_from
    return f"`{name}`" if before is None else f"{chain(before)} → `{name}`"


def methods() -> str:
    """One row for each method of the package: what it is, and which stages it goes through."""
    rows = ["| method | system | family | stages | reads |", "|---|---|---|---|---|"]
    for name in own_names():
        kind = method_class(name)
        card = kind.card
        stages = chain(name) if is_trained(kind) else "no training"
        title = f"[{card.title}](docs/methods/{name}.md) ({card.year})"
        rows.append(f"| `{name}` | {title} | {card.family} | {stages} | {', '.join(card.accepts)} |")
    return "\n".join(rows) + "\n"


def headline() -> str:
    """What `coterie fit` reached on a folder of photos, beside K-means on the same embeddings."""
    found = records("photos")
    (head,) = {name for run in found["coterie"] for name in run["heads"]}
    runs = [run["heads"][head] for run in found["coterie"]]
    plain = [run["l2"]["acc"] for run in found["kmeans"]]

    def mean(values: list[float]) -> str:
        return f"{100 * sum(values) / len(values):.1f} %"

    seeds = "One seed" if len(runs) == 1 else f"Mean of {len(runs)} seeds"
    encoder = found["encoding"]
    lines = [
        f"**One result.** `coterie fit FOLDER -k 10` with its defaults ({found['data']}):",
        f"{mean([run['acc'] for run in runs])} of the pictures are in the right group, and the mean confidence is "
        f"{mean([run['confidence'] for run in runs])} (calibration error, ECE: {mean([run['ece'] for run in runs])}).",
        f"K-means on the same embeddings puts {mean(plain)} into the right group and gives no confidence.",
        f"True labels only served to count. The encoder, `{encoder['encoder']}`, was taught with {encoder['taught']}. "
        f"{seeds}.",
        "",
        f"`{found['command']}`",
    ]
    return "\n".join(lines) + "\n"


BLOCKS = {"methods": methods, "headline": headline}
