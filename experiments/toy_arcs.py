"""The R-DC paper's toy (Figures 2 and 16): what DEC and what R-DC do to four curved clusters in two dimensions.

    python experiments/toy_arcs.py --seeds 0 1 2

Four half circles of radius 1, two interleaved pairs, 500 points each, noise 0.05, z-scored (the paper does not give its
generator). An auto-encoder with a code of two values learns to reconstruct them for 200 epochs and then goes on with
DEC's divergence or R-DC's two losses for as many: linear, as the paper says, where any encoder is an affine map and
"flattening" can only be a loss of rank; and 2-64-2-64-2 with ReLU. Losses, filters and K-means are the package's; the
loop is here, for the package's nets have a code of ten. Writes results/toy_arcs.json and docs/figures/toy_arcs.png.

Numbers of a stage: ratio of the singular values of the codes (0: on a line), silhouette by true label, share of the
five nearest neighbours in code space that are of the point's own arc, ACC of K-means.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from _runs import FIGURES, RESULTS, given_seed, saved
from sklearn.metrics import silhouette_score
from torch import Tensor, nn

from coterie.algorithms.kmeans import kmeans
from coterie.algorithms.neighbours import nearest
from coterie.common.outputs import write_atomically
from coterie.evaluation import accuracy
from coterie.objectives.assignment import divergence, soft_assign_t, target_distribution
from coterie.objectives.proximity import choose_filters, gap_scale, proximity
from coterie.training.device import machine

ARCS, EACH, NOISE = 4, 500, 0.05
EPOCHS, BATCH, RATE = 200, 256, 1e-3
NEIGHBOURS, REFRESH, IMAGE_WEIGHT = 5, 8, 30.0  # of R-DC; steps between two refreshes: an epoch
CORE_SHARE, ACCEPTED = 0.5, 0.65  # R-DC's label-free choice of its thresholds


def arcs(seed: int) -> tuple[Tensor, np.ndarray]:
    """(2000, 2) z-scored points and the arc of each."""
    rng = np.random.default_rng(seed)
    points = []
    for pair in range(2):
        for half in range(2):
            angle = rng.uniform(0, np.pi, EACH)
            x, y = np.cos(angle), np.sin(angle)
            upper = np.stack([x, y], 1) if half == 0 else np.stack([1 - x, 0.5 - y], 1)
            points.append(upper + np.array([4.0 * pair, 0.0]))
    cloud = np.concatenate(points) + rng.normal(0, NOISE, (ARCS * EACH, 2))
    cloud = (cloud - cloud.mean(0)) / cloud.std(0)
    return torch.from_numpy(cloud.astype(np.float32)), np.repeat(np.arange(ARCS), EACH)


def net_of(kind: str) -> tuple[nn.Module, nn.Module]:
    if kind == "linear":
        return nn.Linear(2, 2), nn.Linear(2, 2)

    def layers() -> nn.Module:
        return nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 2))

    return layers(), layers()


def train(
    parameters: list[nn.Parameter], n: int, generator: torch.Generator, loss_of: Callable[[Tensor, int], Tensor]
) -> None:
    """EPOCHS of Adam; `loss_of` sees the rows of a batch and the number of the step."""
    adam = torch.optim.Adam(parameters, RATE)
    step = 0
    for _ in range(EPOCHS):
        for rows in torch.randperm(n, generator=generator).split(BATCH):
            adam.zero_grad()
            loss_of(rows, step).backward()
            adam.step()
            step += 1


def dec(encoder: nn.Module, x: Tensor, generator: torch.Generator) -> None:
    with torch.no_grad():
        begin = kmeans(encoder(x), ARCS, generator=generator, restarts=10).centres
    centres = nn.Parameter(begin.clone())
    target: list[Tensor] = []

    def loss(rows: Tensor, step: int) -> Tensor:
        if step % REFRESH == 0:
            with torch.no_grad():
                target[:] = [target_distribution(soft_assign_t(encoder(x), centres))]
        return divergence(target[0][rows], soft_assign_t(encoder(x[rows]), centres)).mean()

    train([*encoder.parameters(), centres], len(x), generator, loss)


def rdc(encoder: nn.Module, decoder: nn.Module, x: Tensor, generator: torch.Generator) -> None:
    with torch.no_grad():
        distance, _ = nearest(encoder(x), NEIGHBOURS)
    core_ratio, gap = choose_filters(distance, CORE_SHARE, ACCEPTED, "median")
    held: dict[str, Tensor] = {}

    def loss(rows: Tensor, step: int) -> Tensor:
        if step % REFRESH == 0:
            with torch.no_grad():
                z = encoder(x)
                distance, neighbour = nearest(z, NEIGHBOURS)
                scale = gap_scale(distance, "median")
                found = proximity(z, distance, neighbour, core_ratio, gap, scale=scale)
            held.update(centroid=found.centroid, core=found.core.float()[:, None])
        centroid, core = held["centroid"][rows], held["core"][rows]
        with torch.no_grad():
            image = core * decoder(centroid) + (1 - core) * x[rows]
        z = encoder(x[rows])
        latent = ((z - centroid).square().mean(1) * core[:, 0]).mean()
        return latent + IMAGE_WEIGHT * (decoder(z) - image).square().mean()

    train([*encoder.parameters(), *decoder.parameters()], len(x), generator, loss)


def measure(z: Tensor, truth: np.ndarray, generator: torch.Generator) -> dict[str, float]:
    spread = torch.linalg.svdvals(z - z.mean(0))
    neighbour = nearest(z, NEIGHBOURS)[1].numpy()
    labels = kmeans(z, ARCS, generator=generator, restarts=10).labels.numpy()
    return {
        "singular_ratio": round(float(spread[1] / spread[0]), 4),
        "silhouette": round(float(silhouette_score(z.numpy(), truth)), 4),
        "true_neighbours": round(float((truth[neighbour] == truth[:, None]).mean()), 4),
        "acc": round(float(accuracy(truth, labels)), 4),
    }


def run(kind: str, seed: int) -> tuple[dict[str, dict[str, float]], dict[str, np.ndarray]]:
    """Numbers and codes after phase 1, after DEC and after R-DC, both from the same phase 1."""
    x, truth = arcs(seed)
    torch.manual_seed(seed)
    encoder, decoder = net_of(kind)
    generator = torch.Generator().manual_seed(seed)
    parameters = [*encoder.parameters(), *decoder.parameters()]
    train(parameters, len(x), generator, lambda rows, step: (decoder(encoder(x[rows])) - x[rows]).square().mean())
    first = [{key: value.clone() for key, value in part.state_dict().items()} for part in (encoder, decoder)]
    numbers, codes = {}, {"points": x.numpy()}

    def look(title: str) -> None:
        with torch.no_grad():
            z = encoder(x)
        codes[title] = z.numpy()
        numbers[title] = measure(z, truth, torch.Generator().manual_seed(seed))

    look("reconstruction")
    dec(encoder, x, generator)
    look("dec")
    for part, state in zip((encoder, decoder), first, strict=True):
        part.load_state_dict(state)
    rdc(encoder, decoder, x, generator)
    look("rdc")
    return numbers, codes


def draw(codes: dict[str, dict[str, np.ndarray]]) -> bytes:
    """One row for each net, one column for each stage, points in the colour of their arc."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    titles = {"points": "points", "reconstruction": "reconstruction", "dec": "then DEC", "rdc": "or R-DC"}
    figure, axes = pyplot.subplots(len(codes), len(titles), figsize=(11, 2.6 * len(codes)), layout="constrained")
    truth = np.repeat(np.arange(ARCS), EACH)
    for row, (kind, stages) in zip(axes, codes.items(), strict=True):
        for axis, (stage, title) in zip(row, titles.items(), strict=True):
            shown = slice(None, None, 4)
            axis.scatter(*stages[stage][shown].T, c=truth[shown], s=3, cmap="tab10", vmax=9, rasterized=True)
            axis.set_title(f"{kind}: {title}", fontsize=9)
            axis.tick_params(labelsize=7)
    return saved(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=given_seed, nargs="+", default=[0])
    seeds = parser.parse_args().seeds
    records: list[dict[str, Any]] = []
    drawn: dict[str, dict[str, np.ndarray]] = {}
    for seed in seeds:
        for kind in ("linear", "relu"):
            numbers, codes = run(kind, seed)
            records.append({"net": kind, "seed": seed, "stages": numbers})
            drawn.setdefault(kind, codes)
            print(kind, seed, numbers, flush=True)
    command = " ".join(["python experiments/toy_arcs.py --seeds", *map(str, seeds)])
    content = {"command": command, "machine": machine(), "records": records}
    write_atomically(RESULTS / "toy_arcs.json", json.dumps(content, indent=1) + "\n")
    write_atomically(FIGURES / "toy_arcs.png", draw(drawn))


if __name__ == "__main__":
    main()
