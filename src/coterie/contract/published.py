"""What the published rows of several methods share."""

from collections.abc import Mapping

# CDC's six sets at the size of its Table 3, the one thing in which the rows of its pre-trainings differ; CIFAR's are 32
# pixels a side as they are.
CDC_SETS: Mapping[str, Mapping[str, int]] = {
    "cifar10": {},
    "cifar20": {},
    "stl10": {"image_size": 96},
    "imagenet10": {"image_size": 224},
    "imagenet-dogs": {"image_size": 224},
    "tiny-imagenet": {"image_size": 64},
}
