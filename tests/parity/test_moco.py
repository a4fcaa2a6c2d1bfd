"""MoCo-v2 against numbers that CDC's pre-training code gave for the stored inputs (README.md of this folder)."""

import pytest
import torch
from torch import nn

from coterie.methods.moco import MoCo
from coterie.networks.net import Net
from coterie.objectives.contrastive import info_nce
from coterie.types import ItemSpec
from helpers.authors import stored
from helpers.batches import batch_of_views

MOCO = stored("moco")
EPOCHS, STEPS = 4, 3  # the length of the authors' run; the state after six of the twelve steps is stored
SETTINGS = {"epochs": EPOCHS, "batch_size": 16, "queue": 64, "projector_hidden": 24, "projector_out": 8}


class Trunk(nn.Sequential):
    num_features = 16


def trained_parts(net: Net) -> dict[str, nn.Module]:
    return {
        "backbone": net.backbone.trunk,
        "project": net.project,
        "key_backbone": net.teacher.backbone.trunk,
        "key_project": net.teacher.project,
    }


def their_name(part: str, key: str) -> str:
    """They have no place for a norm in the projector, and name the trunk's two layers."""
    if part.endswith("project"):
        return key.replace("3.", "2.")
    return key.replace("0.", "a.").replace("1.", "b.")


def load(net: Net) -> None:
    for name, part in trained_parts(net).items():
        source = name.removeprefix("key_")  # the keys' side starts as a copy
        state = {key: MOCO[f"before.{source}.{their_name(name, key)}"] for key in part.state_dict()}
        part.load_state_dict(state)
    for name in ("first", "second"):
        net.get_submodule(name).rows.copy_(MOCO[f"before.queue.{name}"])


def test_loss_and_its_gradient_are_the_authors() -> None:
    query = MOCO["nce.query"].clone().requires_grad_()
    loss = info_nce(query, MOCO["nce.key"], MOCO["nce.queue"], MoCo().temperature)
    (gradient,) = torch.autograd.grad(loss, query)
    torch.testing.assert_close(loss.detach(), MOCO["nce.loss"])
    torch.testing.assert_close(gradient, MOCO["nce.gradient"])


def test_six_steps_of_training_are_the_authors() -> None:
    """Both directions of the loss, SGD with decay on every parameter, key encoder and queues, at their rates.

    The queue holds four batches, so it goes round once.
    """
    method = MoCo(**SETTINGS)  # type: ignore[arg-type]
    trunk = Trunk(nn.Linear(12, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU())
    net = Net(trunk, ItemSpec("embeddings", dim=12), torch.zeros(12), torch.ones(12), half=False)
    net.add(method.heads(net, 3))
    load(net)
    optimiser = method.optimiser(net.train())
    for step in range(6):
        views = {"one": MOCO[f"one{step}"], "two": MOCO[f"two{step}"]}
        batch = batch_of_views(views, progress=step / (EPOCHS * STEPS))
        optimiser.param_groups[0]["lr"] = float(MOCO["rates"][step])
        for losses in method.step(net, batch):
            assert float(losses["contrast"].detach()) == pytest.approx(float(MOCO["losses"][step]), rel=1e-4)
            optimiser.zero_grad()
            losses["contrast"].backward()
            optimiser.step()
    for name, part in trained_parts(net).items():
        for key, ours in part.state_dict().items():
            theirs = MOCO[f"after.{name}.{their_name(name, key)}"]
            torch.testing.assert_close(
                ours, theirs, rtol=1e-3, atol=1e-4, msg=lambda m, at=f"{name}.{key}": f"{at}: {m}"
            )
    for name in ("first", "second"):
        torch.testing.assert_close(net.get_submodule(name).rows, MOCO[f"after.queue.{name}"], rtol=1e-3, atol=1e-4)
    assert int(net.first.at) == 6 * 16 % 64


def test_learning_rate_is_the_authors_over_the_published_length() -> None:
    """Their scheduler reaches the full rate one step before the warm-up ends: 1/11,700 of the rate apart at most."""
    method, total = MoCo(), int(MOCO["published.steps"])
    for step, theirs in zip(MOCO["published.step"].tolist(), MOCO["published.rate"].tolist(), strict=True):
        ours = method.learning_rate * method.rate(step / total)
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-9)


def test_momentum_is_the_authors_over_the_published_length() -> None:
    method, total = MoCo(), int(MOCO["published.steps"])
    for step, theirs in zip(MOCO["published.step"].tolist(), MOCO["published.tau"].tolist(), strict=True):
        assert method.key_momentum(step / total) == pytest.approx(theirs, abs=1e-12)
