"""The loops of methods' authors, imported from checkouts of their repositories: what `beside_authors.py` times.

Losses, networks' heads, data sets and training functions are theirs and run as they are. What a script of theirs builds
within its `main`, views and optimiser, is built here with the settings that it states. What else is ours, the docstring
of a loop says.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib
import itertools
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from _stand_ins import (
    BACKBONE,
    GROUPS,
    HIDDEN,
    SIDE,
    WARM,
    WIDTH,
    Alone,
    Nothing,
    Pictures,
    Rounds,
    Timed,
    an_epoch,
    encoder_of,
    group_of_one,
    loader_of,
    stand_in,
    trunk,
    view,
)
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms

# SPICE labels 5,000 items in a round and passes over them eight times: ten minutes on a core.
SPICE_ROUND, SPICE_PIECE, SPICE_REPEATS = 512, 128, 1


def their_cc(images: np.ndarray, workers: int) -> Callable[[], list[float]]:
    transform = importlib.import_module("modules.transform").Transforms(size=SIDE, s=0.5)
    losses, network = importlib.import_module("modules.contrastive_loss"), importlib.import_module("modules.network")
    own = importlib.import_module("train")
    backbone = trunk()
    backbone.rep_dim = backbone.num_features
    vars(own)["model"] = model = network.Network(backbone, 128, GROUPS)
    vars(own)["optimizer"] = torch.optim.Adam(model.parameters(), lr=3e-4, weight_decay=0.0)
    vars(own)["criterion_instance"] = losses.InstanceLoss(256, 0.5, torch.device("cpu"))
    vars(own)["criterion_cluster"] = losses.ClusterLoss(GROUPS, 1.0, torch.device("cpu"))

    def epoch(loader: Timed) -> None:
        vars(own)["data_loader"] = loader
        own.train()

    return an_epoch(loader_of(Pictures(images, lambda image, row: (transform(image), 0)), 256, workers), epoch)


def their_scan(images: np.ndarray, workers: int) -> Callable[[], list[float]]:
    import yaml

    config = importlib.import_module("utils.common_config")
    settings = yaml.safe_load((Path(sys.path[0]) / "configs/scan/scan_cifar10.yml").read_text(encoding="utf-8"))
    transform = config.get_train_transformations(settings)
    pictures = Pictures(images, lambda image, row: {"image": image, "target": 0}, transform)
    neighbours = np.random.default_rng(0).integers(0, len(images), (len(images), settings["num_neighbors"] + 1))
    data = importlib.import_module("data.custom_dataset").NeighborsDataset(pictures, neighbours)
    backbone = trunk()
    models = importlib.import_module("models.models")
    model = models.ClusteringModel({"backbone": backbone, "dim": backbone.num_features}, GROUPS)
    loss = importlib.import_module("losses.losses").SCANLoss(**settings["criterion_kwargs"])
    optimiser = torch.optim.Adam(model.parameters(), **settings["optimizer_kwargs"])
    step = importlib.import_module("utils.train_utils").scan_train
    loader = loader_of(data, settings["batch_size"], workers)
    return an_epoch(loader, lambda loader: step(loader, model, loss, optimiser, 0))


def their_cdc(images: np.ndarray, workers: int) -> Callable[[], list[float]]:
    import yaml

    args = importlib.import_module("cdc.args")
    row = next((Path(sys.path[0]) / "scripts/cdc/cifar10").glob("*.yaml"))
    settings = yaml.safe_load(row.read_text(encoding="utf-8"))
    chosen = {"val": args.get_val_transformations, "standard": args.get_standard_transformations}
    transform = {name: make(settings) for name, make in chosen.items()}
    transform["augment"] = args.get_strong_transformations(settings)
    pictures = Pictures(images, lambda image, row: (image, 0), transform)
    data = importlib.import_module("cdc.data.custom_dataset").AugmentedDataset(pictures)
    models = importlib.import_module("cdc.backbones.models")
    model, calibrated, backbone = models.ClusteringModel(settings), models.CaliMLP(settings), trunk()

    def head() -> nn.Sequential:
        first, norm = nn.Linear(backbone.num_features, HIDDEN), nn.BatchNorm1d(HIDDEN)
        return nn.Sequential(first, norm, nn.ReLU(inplace=True), nn.Linear(HIDDEN, GROUPS))

    model.backbone, model.cluster_head, calibrated.calibration_head = backbone, nn.ModuleList([head()]), head()
    rates = settings["optimizer"]
    groups = [{"params": backbone.parameters(), "lr": rates["elr"]}, {"params": model.cluster_head.parameters()}]
    all_of_it = torch.optim.Adam(groups, lr=rates["lr"])
    head_of_it = torch.optim.Adam(calibrated.parameters(), lr=rates["lr"])
    step = importlib.import_module("cdc.methods.calibrate_train").train_cali
    loader = loader_of(data, rates["batch_size"], workers, args.collate_custom)
    return an_epoch(loader, lambda loader: step(settings, loader, calibrated, model, head_of_it, all_of_it, 0, 0))


def their_simsiam(images: np.ndarray, workers: int) -> Callable[[], list[float]]:
    loader_of_theirs = importlib.import_module("simsiam.loader")
    blur = transforms.RandomApply([loader_of_theirs.GaussianBlur([0.1, 2.0])], p=0.5)
    views = loader_of_theirs.TwoCropsTransform(view(0.2, (0.4, 0.4, 0.4, 0.1), blur))
    model = importlib.import_module("simsiam.builder").SimSiam(encoder_of, 2048, 512)
    optimiser = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=1e-4)
    step, args = importlib.import_module("main_simsiam").train, SimpleNamespace(gpu=None, print_freq=10)
    loader = loader_of(Pictures(images, lambda image, row: (views(image), 0)), 256, workers)
    return an_epoch(loader, lambda loader: step(loader, model, nn.CosineSimilarity(dim=1), optimiser, 0, args))


def their_secu(images: np.ndarray, workers: int) -> Callable[[], list[float]]:
    own, parts = importlib.import_module("main"), importlib.import_module("secu.loader")
    jitter = (0.4, 0.4, 0.2, 0.1)
    often, seldom = (transforms.RandomApply([parts.GaussianBlur([0.1, 2.0])], p=p) for p in (1.0, 0.1))
    solarised = transforms.RandomApply([parts.Solarize()], p=0.2)
    views = parts.DoubleCropsTransform(view(0.3, jitter, often), view(0.3, jitter, seldom, solarised))
    many = [GROUPS * (1 + number) for number in range(10)]
    model = importlib.import_module("secu.builder").SeCu(encoder_of, many, num_ins=len(images))
    group_of_one()
    model.load_param()
    centres = [value for name, value in model.named_parameters() if "center" in name]
    encoder = [value for name, value in model.named_parameters() if "center" not in name]
    groups = [{"params": encoder, "lr": 0.2}, {"params": centres, "lr": 1.2}]
    optimiser = torch.optim.SGD(groups, weight_decay=1e-4, momentum=0.9)
    asked = {"gpu": None, "print_freq": 100, "secu_tau": 0.2, "secu_num_head": 10, "secu_k": many}
    args = SimpleNamespace(**asked, lr=0.2, clr=1.2, epochs=401)
    scaler, alone, error = torch.amp.GradScaler("cpu", enabled=False), Alone(model), nn.CrossEntropyLoss()
    loader = loader_of(Pictures(images, lambda image, row: (views(image), row)), 128, workers)
    return an_epoch(loader, lambda loader: own.train(loader, alone, error, optimiser, 20, args, scaler))


def their_divclust(images: np.ndarray, workers: int) -> Callable[[], list[float]]:
    import matplotlib

    vars(matplotlib.cbook)["mplDeprecation"] = DeprecationWarning  # by its name in an older matplotlib
    backbone = trunk()
    backbone.output_shape = backbone.num_features
    backbones = importlib.import_module("architectures.backbones")
    vars(backbones)["ours"] = lambda args: backbone
    views = importlib.import_module("data.transforms").CCTransforms(SIDE)
    settings = {"backbone": "ours", "proj_dim": 128, "clusterings": 20, "clusters": GROUPS, "gpu": "cpu"}
    limit = {"NMI_target": 0.9, "NMI_interval": 20, "threshold_rate": 0.99, "divclust_mbank_size": 10_000}
    args = SimpleNamespace(**settings, **limit, clustering_framework="cc", mixed_precision=False, epochs=1000)
    model = importlib.import_module("engine.CC").CC(args)
    optimiser = torch.optim.Adam(model.parameters(), 3e-4)
    trainer = importlib.import_module("engine.trainer").Trainer(model, optimiser, args, Nothing())
    loader = loader_of(Pictures(images, lambda image, row: (0, views(image), 0)), 256, workers)
    return an_epoch(loader, lambda loader: trainer.train_epoch(loader, None, print_interval=0, eval=False))


def their_tcl(images: np.ndarray, workers: int) -> Callable[[], list[float]]:
    """Before the boosting. Their views are for 224 pixels: sizes and the largest hole are scaled to ours."""
    stand_in("diffdist", functional=SimpleNamespace(all_gather=lambda into, own: [own]))
    group_of_one()
    vars(importlib.import_module("misc"))["is_dist_avail_and_initialized"] = lambda: False  # else it sums on a card
    shrink = SIDE / 224
    sizes = {"img_size": SIDE, "val_img_size": round(256 * shrink), "cutout_size": round(75 * shrink)}
    views = importlib.import_module("transforms").Augmentation(**sizes, s=0.5)
    losses, engine = importlib.import_module("loss"), importlib.import_module("engine")
    model = importlib.import_module("model").Network(encoder_of(HIDDEN), HIDDEN, 128, GROUPS)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4, weight_decay=1e-4)
    terms = losses.InstanceLoss(tau=0.5, distributed=True), losses.ClusterLoss(tau=1.0, distributed=True)
    scaler = importlib.import_module("misc").NativeScalerWithGradNormCount()
    loader = loader_of(Pictures(images, lambda image, row: (views(image), 0, row)), 256, workers)
    rest = (optimiser, torch.device("cpu"), 0, scaler, None)
    return an_epoch(loader, lambda loader: engine.train_one_epoch(model, *terms, loader, *rest))


def of_propos(name: str, images: np.ndarray, workers: int, **settings: Any) -> Callable[[], list[float]]:
    """The loop of ProPos, which that of CoNR shares, after its warm-up; groups are drawn, not those of K-means
    between epochs, which is not timed."""
    import torchvision
    import yaml

    def half(root: str, train: bool, transform: Any, **_: Any) -> Pictures:
        part = images[len(images) // 2 :] if train else images[: len(images) // 2]
        found = Pictures(part, lambda image, row: (transform(image), 0))
        vars(found)["targets"] = np.arange(len(part)) % GROUPS
        return found

    vars(torchvision.datasets)["CIFAR10"] = half
    group_of_one()
    kinds, template = importlib.import_module("models"), importlib.import_module("models.basic_template")
    kind = kinds.model_dict[name]
    vars(importlib.import_module(kind.__module__))["convert_to_ddp"] = Alone
    importlib.import_module("network").backbone_dict["ours"] = (trunk, WIDTH)
    chosen = kind.build_options().parse_args([], template.TrainTask.build_default_options().parse_args([]))
    row = Path(sys.path[0]) / f"config/cifar10_r18_{name}.yml"
    vars(chosen).update(yaml.safe_load(row.read_text(encoding="utf-8")))
    vars(chosen).update(encoder_name="ours", num_workers=workers, wandb=False, save_checkpoints=False)
    vars(chosen).update(run_name="one", epochs=1, warmup_epochs=0, **settings)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):  # where it makes folders for checkpoints
        task = kind(chosen)
    task.cluster_centers = nn.functional.normalize(torch.randn(GROUPS, chosen.feat_dim))
    task.psedo_labels.random_(GROUPS)
    task.psedo_labeling = Nothing
    task.train_loader = loader_of(task.train_loader.dataset, chosen.batch_size, workers)
    return an_epoch(task.train_loader, lambda loader: task.fit())


def their_propos(images: np.ndarray, workers: int) -> Callable[[], list[float]]:
    return of_propos("propos", images, workers)


def their_conr(images: np.ndarray, workers: int) -> Callable[[], list[float]]:
    """The second stage. Its two kernels for a card, sets of neighbours and their sums, are a line of torch each."""
    ones = {"forward": lambda ranks: torch.zeros(len(ranks), len(ranks)).scatter_(1, ranks.long(), 1.0)}
    sums = {"forward": lambda sets, ranks, weights: (weights[:, :, None] * sets[ranks.long()]).sum(1)}
    stand_in("build_adjacency_matrix", **ones)
    stand_in("gnn_propagate", **sums)
    return of_propos("connr", images, workers, resume_epoch=0, pretrain_epochs=0)


class Named(dict[str, Any]):
    """Settings that are read as members, too."""

    def __getattr__(self, name: str) -> Any:
        if name not in self:
            raise AttributeError(name)
        return self[name]


def named(value: Any) -> Any:
    if isinstance(value, dict):
        return Named({key: named(one) for key, one in value.items()})
    return [named(one) for one in value] if isinstance(value, list) else value


def their_spice(images: np.ndarray, workers: int) -> Callable[[], list[float]]:
    """SPICE-Self, in rounds of fewer items and passes than theirs, on features that are drawn."""
    own = importlib.import_module("tools.train_self_v2")
    settings = named({**vars(importlib.import_module("configs.cifar10.spice_self"))})
    settings.update(gpu="cpu", logger_name="spice", target_sub_batch_size=SPICE_PIECE)
    settings.solver.update(batch_size=SPICE_ROUND, num_repeat=SPICE_REPEATS, target_sub_batch_size=SPICE_PIECE)
    views = importlib.import_module("spice.data.transformations").get_train_transformations
    kind = importlib.import_module("spice.data.cifar").CIFAR10
    data = object.__new__(kind)
    places = nn.functional.normalize(torch.randn(len(images), WIDTH)).numpy()
    vars(data).update(data=images, targets=[0] * len(images), embedding=places, show=False, target_transform=None)
    vars(data).update(transform1=views(settings.data_train.trans1), transform2=views(settings.data_train.trans2))
    for head in settings.model.head.multi_heads:
        head.update(fea_fc=True)  # features are rows: no maps to pool
        head.classifier["num_neurons"] = [WIDTH, *head.classifier.num_neurons[1:]]
    model = importlib.import_module("spice.model.sim2sem").Sim2Sem(**settings.model)
    model.feature_module = trunk().requires_grad_(False)
    optimiser = importlib.import_module("spice.solver").make_optimizer(settings, model)
    sampler = torch.utils.data.DistributedSampler(data, 1, 0)
    loader = torch.utils.data.DataLoader(data, SPICE_PIECE, sampler=sampler, num_workers=workers, drop_last=True)

    def epoch(rounds: Any) -> None:
        own.train(rounds, model, optimiser, 0, settings)
        rounds.ended()

    return an_epoch(Rounds(loader), epoch)


def their_dmicc(images: np.ndarray, workers: int) -> Callable[[], list[float]]:
    """Their script does not run, so the loop is ours: one step of their network's parts, losses, weights and optimiser,
    on their data set; two names that their modules use and do not import are given to them."""
    pairs, parts = importlib.import_module("data.stl10"), importlib.import_module("model.npc_model")
    vars(pairs)["Image"], vars(parts)["np"] = Image, np
    data = object.__new__(pairs.STL10PAIR)
    vars(data).update(data=images.transpose(0, 3, 1, 2), labels=[0] * len(images), target_transform=None)
    vars(data)["transform"] = view(0.08, (0.4, 0.4, 0.4, 0.1))
    net = encoder_of(128)
    norm = importlib.import_module("tools.normalize").Normalize(2)
    bank = parts.NonParametricClassifier(input_dim=128, output_dim=len(images), tau=1.0, momentum=0.5)
    of_items = importlib.import_module("losses.Loss_ID").Loss_ID(tau2=2.0)
    of_features = importlib.import_module("losses.Loss_FMI").Loss_FMI()
    of_views = importlib.import_module("losses.Loss_IMI").crossview_contrastive_Loss
    optimiser = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)

    def epoch(loader: Timed) -> None:
        for one, two, _, rows in loader:
            first, second = norm(net(one)), norm(net(two))
            terms = of_items(bank(first, rows), rows), of_features(first), of_views(first, second)
            loss = terms[0] + 1e-5 * terms[1] + 1e-6 * terms[2]
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            [value.item() for value in (loss, *terms)]  # as they log them

    return an_epoch(loader_of(data, 128, workers), epoch)


class Headed(nn.Module):
    """The trunk with one answer of each head, as their network gives them."""

    def __init__(self, heads: list[int]) -> None:
        super().__init__()
        self.trunk = trunk(f"sobel+{BACKBONE}")
        self.heads = nn.ModuleList([nn.Sequential(nn.Linear(WIDTH, k), nn.Softmax(dim=1)) for k in heads])

    def forward(self, images: Tensor) -> list[Tensor]:
        features = self.trunk(images)
        return [head(features) for head in self.heads]


def their_pica(images: np.ndarray, workers: int) -> Callable[[], list[float]]:
    """A pass for each head. What Python 3 lacks of Python 2 is given, its log is silent, and its settings (CIFAR-100's,
    with the batch of STL-10's) are a plain object. Originals and copies have a loader each, with its own processes."""
    import builtins

    import yaml

    folder = Path(sys.path[0])
    settings: dict[str, Any] = {}
    for part in ("base", "cifar100"):
        settings |= yaml.safe_load((folder / f"configs/{part}.yaml").read_text(encoding="utf-8"))
    for key in ("tfm_size", "tfm_scale", "tfm_colorjitter", "tfm_means", "tfm_stds"):
        settings[key] = ast.literal_eval(settings[key])
    settings |= {"tfm_ratio": (3 / 4, 4 / 3), "net_heads": [70, GROUPS], "batch_size": 128, "num_workers": workers}
    chosen = SimpleNamespace(**settings, pica_lamda=2.0, device="cpu", max_epochs=200)
    vars(chosen).update(register_module=Nothing, register_class=Nothing)
    vars(builtins).update(xrange=range, reduce=functools.reduce)
    vars(itertools)["izip"] = zip
    stand_in("lib.core.config", Config=chosen)
    stand_in("lib.core.session", Session=Nothing)
    stand_in("lib.utils.loggers", STDLogger=Nothing(), TFBLogger=Nothing)
    stand_in("pica", __path__=[str(folder / "pica")])
    own, made = importlib.import_module("main"), list[Timed]()

    def loader(data: Any, pin_memory: bool, **asked: Any) -> Any:
        found = torch.utils.data.DataLoader(data, **asked)
        if "sampler" not in asked:
            return found
        made.append(Timed(found))
        return made[-1]

    vars(own).update(DataLoader=loader, TimeProgressMeter=Nothing)
    copied = importlib.import_module("lib.utils.transforms").DefaultTransform(train=True)
    parts = importlib.import_module("pica.utils")
    plain = parts.get_reduced_transform(chosen.tfm_resize, chosen.tfm_size, chosen.tfm_means, chosen.tfm_stds)
    data = [[Pictures(images, lambda image, row, view=view: (view(image), 0))] for view in (plain, copied)]
    net, loss = Headed(chosen.net_heads), importlib.import_module("pica.losses").PUILoss(chosen.pica_lamda)
    optimiser = torch.optim.Adam((one for one in net.parameters() if one.requires_grad), lr=1e-4)

    def once() -> list[float]:
        made.clear()
        own.train(0, net, *data, optimiser, loss, Nothing())
        return [seconds for one in made for seconds in one.times[WARM:]]

    return once
