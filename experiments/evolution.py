"""PICA's Figures 3 to 5, for any method: how a run's answers came about, and whom they fit and do not fit.

    python experiments/evolution.py fashion-mnist -k 10 --items 10000 --method pica --runs runs/evolution

Fits once (a run that was interrupted goes on) and keeps the net after every epoch of the last stage beside the run.
Epochs shown, as in the paper: the first one, the first that reach an ACC of .30, .50 and .70, and the last. A figure
for each of: confidences in 50 bins (Figure 3); answers in the plane by t-SNE, 2,000 images drawn by a fixed seed (the
paper has 6,000), coloured by true class (Figure 4); for five classes the surest right images, those of the class that
are surely in another group, and those of other classes that are surely in its group (Figure 5); and the surest images
of one group at each epoch. Labels are read by this script, when the run is over. Writes
results/evolution_<method>_<data>.json and docs/figures/evolution_<what>_<method>_<data>.png.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _runs import FIGURES, command_for_drawn, ground, label_free, parser_for_drawn, preset_on, saved, write_records
from _tables import draw
from numpy.typing import NDArray
from safetensors.torch import load_file, save

from coterie.cli.settings import read_overrides
from coterie.cli.several import check_alike
from coterie.common.outputs import write_atomically
from coterie.data import open_source
from coterie.evaluation import accuracy, match
from coterie.networks.features import extract_features
from coterie.networks.net import Net
from coterie.pipeline import run
from coterie.prediction.model import load_model
from coterie.report.map import map_rows, project
from coterie.running.prepared import Watch
from coterie.training.history import EpochRecord
from coterie.types import InputError

CERTAIN = 0.98  # the confidences that the paper counts
MILESTONES = (0.30, 0.50, 0.70)  # of ACC, the paper's; its .10 is the untrained net, here the first epoch
BINS = 50
CLASSES, CASES, SUREST = 5, 3, 12


def keeper(nets: Path, method: str) -> Callable[[EpochRecord, Net], None]:
    """Keeps the net after each epoch of the method's own stage, in a file of its own."""

    def keep(record: EpochRecord, net: Net) -> None:
        print(record.stage, f"{record.epoch}/{record.epochs}", record.losses, flush=True)
        if record.stage == method:
            state = {name: value.detach().cpu().contiguous() for name, value in net.state_dict().items()}
            write_atomically(nets / f"{record.epoch:04}.safetensors", save(state))

    return keep


def answers(out: Path, nets: Path, items: Any) -> dict[int, NDArray[np.float32]]:
    """Probabilities (n, k) of the run's method after each epoch that was kept."""
    model, found = load_model(out), {}
    for file in sorted(nets.glob("*.safetensors")):
        lacking = model.net.load_state_dict(load_file(file), strict=False).missing_keys  # a model drops spare heads
        assert not lacking, lacking
        with torch.inference_mode():
            found[int(file.stem)] = next(iter(model.heads_of(extract_features(model.net, items)).values())).numpy()
    return found


def shown_epochs(accs: dict[int, float]) -> list[int]:
    """The first epoch, those that first reach a milestone, and the last."""
    reached = [next((epoch for epoch, acc in accs.items() if acc >= aim), None) for aim in MILESTONES]
    return sorted({min(accs), max(accs), *(epoch for epoch in reached if epoch is not None)})


def panels(rows: int, columns: int, height: float = 2.4) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown, axes = pyplot.subplots(
        rows, columns, figsize=(min(2.6 * columns, 13), height * rows), layout="constrained", squeeze=False
    )
    return shown, axes


def confidences(p: dict[int, NDArray[np.float32]], titles: dict[int, str]) -> bytes:
    shown, axes = panels(1, len(titles))
    for axis, (epoch, title) in zip(axes[0], titles.items(), strict=True):
        axis.hist(p[epoch].max(1), bins=BINS, range=(0, 1), weights=np.full(len(p[epoch]), 100 / len(p[epoch])))
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("confidence")
    axes[0, 0].set_ylabel("images, %")
    return saved(shown)


def plane(p: dict[int, NDArray[np.float32]], titles: dict[int, str], truth: NDArray[np.int64]) -> bytes:
    shown, axes = panels(1, len(titles), 2.8)
    rows = map_rows(len(truth))
    for axis, (epoch, title) in zip(axes[0], titles.items(), strict=True):
        axis.scatter(*project(p[epoch][rows]).T, c=truth[rows], cmap="tab10", s=2, linewidths=0)
        axis.set_title(title, fontsize=9)
        axis.set_axis_off()
    return saved(shown)


def strip(axis: Any, images: NDArray[np.uint8], title: str, room: int) -> None:
    """Images side by side, a white line between them; room stays free where there are fewer."""
    shape = images.shape[1:]
    side = [*images, *[np.full(shape, 255, np.uint8)] * (room - len(images))]
    rest = [(0, 0)] * (len(shape) - 2)
    side = [np.pad(image, [(0, 0), (0, 1), *rest], constant_values=255) for image in side]
    axis.imshow(np.concatenate(side, axis=1), cmap="gray", vmin=0, vmax=255)
    axis.set_title(title, fontsize=8)
    axis.set_axis_off()


def group(p: dict[int, NDArray[np.float32]], titles: dict[int, str], images: NDArray[np.uint8], which: int) -> bytes:
    """The images that the group holds surest at each epoch."""
    shown, axes = panels(len(titles), 1, 0.9)
    shown.set_figwidth(10)
    for axis, (epoch, title) in zip(axes[:, 0], titles.items(), strict=True):
        mine = np.flatnonzero(p[epoch].argmax(1) == which)
        first = mine[np.argsort(-p[epoch][mine, which], kind="stable")][:SUREST]
        strip(axis, images[first], f"{title}: {len(mine):,} images in the group", SUREST)
    return saved(shown)


def cases(p: NDArray[np.float32], images: NDArray[np.uint8], truth: NDArray[np.int64], names: list[str]) -> bytes:
    """Figure 5: right, missed and wrongly taken images of the classes that groups were matched with, surest first."""
    found, sure = p.argmax(1), p.max(1)
    own = sorted((int(code), which) for which, code in enumerate(match(truth, found).class_of) if code >= 0)[:CLASSES]
    shown, axes = panels(len(own), 3, 0.95)
    for line, (code, which) in zip(axes, own, strict=True):
        kinds = {
            "in its group": (truth == code) & (found == which),
            "in another group": (truth == code) & (found != which),
            "of other classes in its group": (truth != code) & (found == which),
        }
        for axis, (what, rows) in zip(line, kinds.items(), strict=True):
            chosen = np.flatnonzero(rows)
            chosen = chosen[np.argsort(-sure[chosen], kind="stable")][:CASES]
            strip(axis, images[chosen], f"{names[code]}: {what}", CASES)
    return saved(shown)


def surest_group(p: NDArray[np.float32]) -> int:
    """The group whose images have the highest mean confidence."""
    found = p.argmax(1)
    return int(np.argmax([p[found == one, one].mean() if (found == one).any() else 0 for one in range(p.shape[1])]))


def numbers(epoch: int, p: NDArray[np.float32], acc: float) -> dict[str, float]:
    sure = p.max(1)
    shares = {"acc": acc, "confidence": float(sure.mean()), "certain": float((sure >= CERTAIN).mean())}
    rounded = {key: round(value, 4) for key, value in shares.items()}
    return {"epoch": epoch, **rounded, "groups": len(np.unique(p.argmax(1)))}


def main(words: list[str] | None = None) -> None:
    options = parser_for_drawn(__doc__, Path("runs/evolution"))
    options.add_argument("--method", default="pica")
    options.add_argument("--group", type=int, help="whose images are shown  [default: the surest at the end]")
    options.add_argument("--figures", type=Path, default=FIGURES)
    given = options.parse_args(words)
    name, file, labels, family = draw(given.source, given.items, given.runs)
    records = []
    for seed in given.seeds:
        out = given.runs / f"{name}-{given.method}-{seed}"
        nets = out.with_name(f"{out.name}-nets")
        overrides = read_overrides(given.set)
        preset = preset_on(given.preset, given.method, given.source)
        settings = replace(ground(given), method=given.method, seed=seed, family=family, overrides=overrides)
        settings = replace(settings, preset=preset)
        check_alike(out, settings)
        begun = (out / "run.yaml").exists()
        if not (begun and label_free(out)["status"] == "done"):
            run(file, settings, out, resume=begun, watch=Watch(after_epoch=[keeper(nets, given.method)]))
        p = answers(out, nets, open_source(file).items)
        if not p:
            raise InputError(
                f"No epochs of {given.method} were kept in {nets}: it takes no steps, or was run elsewhere."
            )
        accs = {epoch: float(accuracy(labels.codes, one.argmax(1))) for epoch, one in p.items()}
        titles = {epoch: f"epoch {epoch}, ACC {100 * accs[epoch]:.1f}" for epoch in shown_epochs(accs)}
        which, last = surest_group(p[max(p)]) if given.group is None else given.group, p[max(p)]
        print(*titles.values(), sep="\n", flush=True)
        if seed == given.seeds[0]:
            images = np.load(file)
            drawn = {
                "confidences": confidences(p, titles),
                "plane": plane(p, titles, labels.codes),
                "group": group(p, titles, images, which),
                "cases": cases(last, images, labels.codes, labels.names),
            }
            given.figures.mkdir(parents=True, exist_ok=True)
            for what, figure in drawn.items():
                write_atomically(given.figures / f"evolution_{what}_{given.method}_{name}.png", figure)
        told = label_free(out)
        records.append(
            {
                "data": name,
                "method": given.method,
                "seed": seed,
                "seconds": told["seconds"],
                "backbone": told["backbone"]["name"],
                "settings": told["stages"][-1]["settings"],
                "shown": list(titles),
                "group": which,
                "epochs": [numbers(epoch, one, accs[epoch]) for epoch, one in p.items()],
            }
        )
    command = f"{command_for_drawn('evolution', given)} --method {given.method}"
    command += "" if given.group is None else f" --group {given.group}"
    write_records(f"evolution_{given.method}_{name}", command, records, given.results)


if __name__ == "__main__":
    main()
