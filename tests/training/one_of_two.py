"""A process of several: takes its share of some methods' steps, then of whole runs. `test_distributed.py` starts it.

Called with the folder for its results, and a seed and methods if it is to look at these alone; `RANK`, `WORLD_SIZE`
and so on are set as `accelerate launch` sets them.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from coterie.catalogue import method_class, method_names, practical_settings
from coterie.contract import Facts, Step, Trained, begin_epoch, is_trained, optimisers_of, setting_names, start
from coterie.data import open_source
from coterie.methods.cdc import CDC
from coterie.methods.moco import MoCo
from coterie.methods.pica import PICA
from coterie.networks import autoencoder
from coterie.networks.backbones import build_backbone
from coterie.networks.features import extract_features, some_rows
from coterie.networks.net import Net
from coterie.pipeline import run
from coterie.training.batches import BatchMaker, batches_of
from coterie.training.checkpoints import save_tree
from coterie.training.coerce import coerce
from coterie.training.device import accelerator_for
from coterie.training.distributed import average_gradients, deal, share_batch_norm, share_of
from coterie.training.passes import plan_passes
from coterie.training.plan import RunSettings
from coterie.training.seeds import generator_of
from coterie.types import EpochStart, InputError, ItemSpec
from coterie.views.settings import ViewSettings

SIZE, K = 32, 4
MOCO = MoCo(batch_size=SIZE, queue=2 * SIZE, projector_hidden=16, projector_out=8)
STEPS: dict[str, Trained] = {
    "moco": MOCO,
    "moco-norm": MoCo(batch_size=SIZE, queue=SIZE, projector_hidden=16, projector_out=8, projector_norm=True),
    "cdc": CDC(batch_size=SIZE, sub_batch=SIZE // 2, cells=6, hidden=16),
    "cdc-no-stop": CDC(batch_size=SIZE, sub_batch=SIZE // 2, cells=6, hidden=16, stop_gradient=False),
    "cdc-single-both": CDC(batch_size=SIZE, sub_batch=SIZE // 4, cells=6, hidden=16, layout="single-both"),
    "cdc-freematch": CDC(batch_size=SIZE, sub_batch=SIZE // 2, cells=6, hidden=16, selection="freematch"),
    "cdc-gsf": CDC(batch_size=SIZE, sub_batch=SIZE // 2, cells=6, hidden=16, selection="gsf", joins_above=0.3),
    "cdc-ppf": CDC(batch_size=SIZE, sub_batch=SIZE // 2, cells=6, hidden=16, selection="ppf", joins_above=0.3),
    "pica": PICA(batch_size=SIZE, copies=2, over=6),
    "pica-symmetric": PICA(batch_size=SIZE, copies=3, over=6, symmetric=True),
}
RUN = RunSettings(
    calibrate=False,
    n_clusters=K,
    backbone="small-4",
    device="cpu",
    precision="fp32",
    family="glyph",
    overrides={
        "moco.epochs": 1,
        "moco.batch_size": 48,
        "cdc.epochs": 1,
        "cdc.batch_size": 48,
        "cdc.sub_batch": 24,
        "cdc.init": "random",
    },
)
# 96 images are two batches of 40 and one of 16.
PICA_RUN = replace(RUN, method="pica", overrides={"pica.epochs": 2, "pica.batch_size": 40, "pica.over": 6})


@functools.cache
def settings_of_all() -> dict[str, Trained]:
    """Every method that is trained, with the practical settings for so few items, and further ones of some."""
    found: dict[str, Trained] = {}
    for name in method_names():
        kind = method_class(name)
        if is_trained(kind):
            facts = Facts(len(images()), K, "images", "cpu", side=8)
            given = {**practical_settings(name, facts), "batch_size": SIZE, "epochs": 2}
            if {"repeats", "part"} <= set(setting_names(kind)):
                # One step: RMSprop makes a full step of a gradient that is only rounding, and the next differ.
                given |= {"repeats": 1, "part": SIZE}
            found[name] = coerce(kind, given, name)
    return {**found, **STEPS}


@contextmanager
def narrow_autoencoders() -> Iterator[None]:
    widths = autoencoder.WIDTHS
    autoencoder.WIDTHS = (50, 50, 200)
    try:
        yield
    finally:
        autoencoder.WIDTHS = widths


@narrow_autoencoders()
def one_batch(method: Trained, rank: int, processes: int, seed: int = 0) -> dict[str, Any]:
    """Losses, gradients and state of every optimiser step in each pass' first batch, as this process sees them."""
    items = open_source(images()).items
    spec = items.spec
    torch.manual_seed(seed)
    name = "sobel+small-4" if method.card.family == "partition" else "small-4"
    net = net_of(name, spec)
    try:
        net.add(method.heads(net, K))
    except InputError:  # the method refuses all but its own backbone
        assert method.card.backbone is not None
        net = net_of(method.card.backbone(spec, "cpu", False), spec)
        net.add(method.heads(net, K))

    def features(*, half: bool = False, by: nn.Module | None = None, most: int | None = None) -> Tensor:
        return extract_features(net, items, some_rows(len(items), most), by=by)

    start(method, net, features, K, generator_of("start"))
    share_batch_norm(net)
    plans = plan_passes(method, items, None, SIZE, processes)
    maker = BatchMaker(method, net, plans, 0, "glyph", ViewSettings(), features, (), rank, processes)
    optimisers = optimisers_of(method, net)
    steps, logged = [], dict[str, Tensor]()
    net.train()
    begin = EpochStart(0, features, generator_of("epoch"))
    begin_epoch(method, net, begin)
    for plan in plans:
        batch = next(batches_of(maker, 0, plan.before))
        for step in method.step(net, batch):
            losses, names = (step.losses, step.trains) if isinstance(step, Step) else (step, ())
            chosen = [optimisers[name] for name in names or optimisers]
            trained = [p for optimiser in chosen for group in optimiser.param_groups for p in group["params"]]
            net.zero_grad(set_to_none=True)
            torch.stack(list(losses.values())).sum().backward(inputs=trained if names else None)
            average_gradients(trained)
            gradients = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
            steps.append({"losses": dict(losses), "gradients": gradients})
            # No optimiser step: Adam's first ones are signs, and a sign of rounding noise is not to be compared.
        logged |= batch.logged
    return {"steps": steps, "logged": {**begin.logged, **logged}, "state": net.state_dict()}


def net_of(backbone: str, spec: ItemSpec) -> Net:
    return Net(build_backbone(backbone, spec), spec, torch.tensor([0.3]), torch.tensor([0.35]), half=False)


@functools.cache
def images() -> Any:
    return (load_digits().images[:96] * 255 / 16).astype("uint8")


def shares(rank: int, processes: int) -> dict[str, Tensor]:
    """What gather and mine make of the rows' own numbers, for a whole batch and for a sub-batch."""
    everyone = torch.arange(SIZE).float()
    share = share_of(SIZE, SIZE // 2)
    local = everyone[deal(SIZE, SIZE // 2, rank, processes)]
    return {
        "gathered": share.gather(local),
        "part": share.gather(local[: len(local) // 2]),
        "mine": share.mine(everyone),
        "local": local,
        "flags": share.gather(local > 20),
    }


def main(out: Path, seed: int, names: list[str]) -> None:
    accelerator = accelerator_for("cpu")
    rank, processes = accelerator.process_index, accelerator.num_processes
    methods = settings_of_all()
    found = {name: one_batch(methods[name], rank, processes, seed) for name in names or methods}
    save_tree(out / f"steps-{rank}", {**found, "shares": shares(rank, processes), "processes": processes})
    if not names:
        run(images(), RUN, out / "run")
        run(images(), PICA_RUN, out / "pica")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), int(sys.argv[2]) if sys.argv[2:] else 0, sys.argv[3:])
