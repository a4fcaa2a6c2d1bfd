"""Images -> activations of VGG-16's first fully connected layer: the input of the CIFAR-10 column of R-DC's comparison.

    python experiments/vgg16_features.py cifar10 --weights vgg16.pth -o $COTERIE_DATA/cifar10-vgg16fc1.npz
    coterie fit cifar10-vgg16fc1 --method rdc

--weights is torchvision's state dict of VGG-16 trained on ImageNet. Images are scaled to 224 pixels and normalised as
those weights want it; the paper's family of codes took Keras' weights, whose preprocessing differs. Writes features
(n, 4096), float32, and the true labels, which only evaluation reads. Each feature is scaled to [0, 1] by the run.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.models import vgg16

from coterie.data import labels_of, open_source
from coterie.types import Items

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as torchvision's weights want it
SIDE = 224


def prepared(raw: Tensor) -> Tensor:
    """Bytes (b, c, h, w), grey or RGB, as what VGG-16 was trained on."""
    images = F.interpolate(raw.float().div(255), (SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True)
    return (images.expand(-1, 3, -1, -1) - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


@torch.inference_mode()
def features_of(net: nn.Module, items: Items, device: str, batch: int = 64) -> NDArray[np.float32]:
    """(n, 4096): the first fully connected layer after its ReLU, without dropout."""
    net = net.eval().to(device)
    found = np.empty((len(items), net.classifier[0].out_features), np.float32)
    for index in torch.arange(len(items)).split(batch):
        maps = net.avgpool(net.features(prepared(items.take(index)).to(device)))
        found[index.numpy()] = net.classifier[0](maps.flatten(1)).relu().cpu().numpy()
    return found


def write_features(net: nn.Module, name: str, out: Path, device: str = "cpu") -> None:
    source = open_source(name)
    labels = labels_of(name, source.ids)
    assert labels is not None, f"{name} carries no labels"
    np.savez(out, features=features_of(net, source.items, device), labels=labels.codes)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("source")
    options.add_argument("--weights", type=Path, required=True)
    options.add_argument("-o", "--output", type=Path, required=True)
    options.add_argument("--device", default="cpu")
    given = options.parse_args()
    net = vgg16(weights=None)
    net.load_state_dict(torch.load(given.weights, weights_only=True))
    write_features(net, given.source, given.output, given.device)


if __name__ == "__main__":
    main()
