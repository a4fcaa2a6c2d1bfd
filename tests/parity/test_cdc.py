"""CDC against numbers that the authors' released code gave for the stored inputs (README.md of this folder)."""

import pytest
import torch
from torch import nn

from coterie.methods.cdc import CDC
from coterie.networks.heads import mlp_head, standardise_rows
from coterie.networks.net import Net
from coterie.objectives.information import negative_mean_entropy, soft_cross_entropy
from coterie.objectives.mini_clusters import means_by_cell
from coterie.objectives.prototypes import decorrelate, hidden_activations, write_prototypes
from coterie.objectives.selection_formulas import confident_images
from coterie.types import ItemSpec
from helpers.authors import stored
from helpers.batches import batch_of_views

CASES = ["plain", "skewed", "sure", "unsure"]  # skewed: two groups that are nobody's most probable one


BATCH = stored("cdc_batch")
SUB_BATCHES = [slice(start, start + 50) for start in range(0, 200, 50)]


@pytest.mark.parametrize("case", CASES)
def test_selection_is_the_authors(case: str) -> None:
    weak = BATCH[f"{case}.weak"].softmax(1)
    assert torch.equal(confident_images(weak), BATCH[f"{case}.mask"])
    assert torch.equal(weak.argmax(1), BATCH[f"{case}.label"])


@pytest.mark.parametrize("case", CASES)
def test_clustering_loss_is_the_authors(case: str) -> None:
    weak = BATCH[f"{case}.weak"].softmax(1)
    mask, label = confident_images(weak), weak.argmax(1)
    for part, theirs in zip(SUB_BATCHES, BATCH[f"{case}.loss_ce"], strict=True):
        ours = nn.functional.cross_entropy(BATCH["strong"][part][mask[part]], label[part][mask[part]])
        torch.testing.assert_close(ours, theirs)


def test_targets_are_the_authors_for_their_mini_clusters() -> None:
    ours = means_by_cell(BATCH["clu_clean"].softmax(1), BATCH["cell"].long(), 20)
    torch.testing.assert_close(ours, BATCH["target"])


def test_calibration_and_entropy_losses_are_the_authors() -> None:
    for i, part in enumerate(SUB_BATCHES):
        logits = BATCH["cal_clean"][part]
        calibration = soft_cross_entropy(logits, BATCH["target"][part])
        entropy = negative_mean_entropy(logits)
        torch.testing.assert_close(calibration, BATCH["loss_cos"][i])
        torch.testing.assert_close(entropy, BATCH["loss_en"][i])
        torch.testing.assert_close(calibration + CDC().entropy_weight * entropy, BATCH["loss_cali"][i])


START = stored("cdc_start")


def test_standardised_features_and_activations_are_the_authors() -> None:
    """What their two calls of K-means got; the centroids that they returned were given."""
    activations = hidden_activations(START["features"], START["first"])
    torch.testing.assert_close(standardise_rows(START["features"]), START["standardised"])
    torch.testing.assert_close(standardise_rows(activations), START["standardised_activations"])


@pytest.mark.parametrize("weights", ["small", "two", "second"])
def test_decorrelation_is_the_authors(weights: str) -> None:
    torch.testing.assert_close(decorrelate(START[weights]), START[f"{weights}_decorrelated"], rtol=1e-4, atol=1e-5)


def test_heads_after_initialisation_are_the_authors() -> None:
    """512 rows decorrelated, both matrices written, biases 0, evaluation mode."""
    head = mlp_head(16, 512, 10).eval()
    write_prototypes(head, decorrelate(START["first"]), START["second_decorrelated"])
    torch.testing.assert_close(head[0].weight.detach(), START["first_decorrelated"], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(head(START["features"]).detach(), START["logits"], rtol=1e-4, atol=1e-3)


TRAINING = stored("cdc_training")
RATES = {"backbone_rate": 5e-4, "head_rate": 1e-3}


class Trunk(nn.Sequential):
    num_features = 64


def trained_parts(net: Net) -> dict[str, nn.Module]:
    return {"backbone": net.backbone.trunk, "cluster": net.cluster, "calibrate": net.calibrate}


def load(net: Net, prefix: str) -> None:
    for name, part in trained_parts(net).items():
        state = {key: TRAINING[f"{prefix}.{name}.{key}"] for key in part.state_dict()}
        part.load_state_dict(state)


def test_two_batches_of_training_are_the_authors() -> None:
    """Selection, targets, losses, both optimisers and all running statistics, over eight optimiser steps.

    The data are blobs, so that any K-means finds the same mini-clusters.
    """
    method = CDC(batch_size=120, sub_batch=30, cells=12, hidden=32, restarts=10, **RATES)  # type: ignore[arg-type]
    trunk = Trunk(nn.Linear(12, 64, bias=False), nn.BatchNorm1d(64), nn.ReLU())
    net = Net(trunk, ItemSpec("embeddings", dim=12), torch.zeros(12), torch.ones(12), half=False)
    net.add(method.heads(net, 10))
    load(net, "before")
    optimiser = method.optimiser(net.train())
    for number in range(2):
        views = {name: TRAINING[f"{name}{number}"] for name in ("clean", "weak", "strong")}
        generator = torch.Generator().manual_seed(number)
        batch = batch_of_views(views, part_size=30, generator=generator)
        for losses, theirs in zip(method.step(net, batch), TRAINING[f"losses{number}"], strict=True):
            ours = torch.stack([losses["cluster"], losses["calibrate"], losses["entropy"]])
            torch.testing.assert_close(ours.detach(), theirs, rtol=1e-5, atol=1e-5)
            optimiser.zero_grad()
            ours.sum().backward()
            optimiser.step()
    for name, part in trained_parts(net).items():
        for key, ours in part.state_dict().items():
            # A bias before batch normalisation has no gradient but rounding errors, which Adam blows up to whole steps.
            drifts = name != "backbone" and key in ("0.bias", "1.running_mean")
            tolerance = {"rtol": 0.0, "atol": 8 * RATES["head_rate"]} if drifts else {"rtol": 1e-4, "atol": 2e-5}
            theirs = TRAINING[f"after1.{name}.{key}"]
            torch.testing.assert_close(ours, theirs, **tolerance, msg=lambda m, at=f"{name}.{key}": f"{at}: {m}")
