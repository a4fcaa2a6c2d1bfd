from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from coterie.networks.backbones import EmbeddingNet, build_backbone, choose_backbone
from coterie.networks.residual import residual_stages
from coterie.networks.weights import load_weights
from coterie.types import InputError, ItemSpec


def images(side: int, channels: int = 3) -> ItemSpec:
    return ItemSpec("images", channels=channels, height=side, width=side)


def embeddings(dim: int) -> ItemSpec:
    return ItemSpec("embeddings", dim=dim)


@pytest.mark.parametrize(
    ("name", "spec", "width"),
    [
        ("small-16", images(8, 1), 128),
        ("small-32", images(32, 3), 256),
        ("small-4", images(96, 3), 32),  # the large stem
        ("small-4", ItemSpec("images", channels=4, height=20, width=31), 32),
        ("resnet18", images(32, 1), 512),  # timm's, with the CIFAR stem and grey input
        ("resnet18", images(64, 3), 512),
        ("mlp", embeddings(5), 256),
        ("mlp", embeddings(100), 100),
        ("mobilenetv3_small_050", images(32), 1024),  # its num_features says 288, the width before its last layer
        ("ghostnet_050", ItemSpec("images", channels=1, height=9, width=17), 1280),
        ("vit_tiny_patch16_224", ItemSpec("images", channels=1, height=16, width=32), 192),
        ("deit_tiny_patch16_224", images(32), 192),  # no vit in its name, and needs the size of its images
        ("efficientvit_b0", images(32), 1280),  # a vit by its name, and knows no size
    ],
)
def test_an_item_becomes_a_vector_of_the_stated_length(name: str, spec: ItemSpec, width: int) -> None:
    net = build_backbone(name, spec).eval()
    shape = (3, spec.dim) if spec.kind == "embeddings" else (3, spec.channels, spec.height, spec.width)
    with torch.no_grad():
        features = net(torch.randn(shape))
    assert net.num_features == width
    assert features.shape == (3, width)
    assert torch.isfinite(features).all()


def test_images_that_a_net_of_timm_cannot_take_are_refused_in_a_sentence() -> None:
    with pytest.raises(
        InputError, match="'vit_tiny_patch16_224' cuts images into pieces of 16×16 pixels, and these have 28×28"
    ):
        build_backbone("vit_tiny_patch16_224", images(28))
    with pytest.raises(
        InputError, match=r"'convnext_atto' cannot take images of 9×17 pixels and 1 channel .*image-size"
    ):
        build_backbone("convnext_atto", ItemSpec("images", channels=1, height=9, width=17))


def test_the_width_of_a_net_is_found_without_a_trace() -> None:
    torch.manual_seed(0)
    net = build_backbone("resnet18", images(16))
    assert net.training
    assert int(net.bn1.num_batches_tracked) == 0
    assert float(net.bn1.running_mean.abs().max()) == 0


def strides(net: nn.Module, spec: ItemSpec) -> int:
    """By how much a net reduces the side of an image up to its first stage."""
    seen = []
    first_stage = net.stages[0] if hasattr(net, "stages") else net.layer1
    first_stage.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape[-1]))
    with torch.no_grad():
        net.eval()(torch.randn(1, spec.channels, spec.height, spec.width))
    return spec.width // seen[0]


@pytest.mark.parametrize(
    ("name", "side", "reduced"), [("small-4", 64, 1), ("small-4", 96, 4), ("resnet18", 32, 1), ("resnet18", 64, 4)]
)
def test_small_images_keep_their_size_through_the_stem(name: str, side: int, reduced: int) -> None:
    assert strides(build_backbone(name, images(side)), images(side)) == reduced


def test_the_cifar_stem_is_three_by_three_with_padding_one() -> None:
    stem = build_backbone("resnet18", images(32)).conv1
    assert (stem.kernel_size, stem.stride, stem.padding, stem.bias) == ((3, 3), (1, 1), (1, 1), None)


@pytest.mark.parametrize(("wrong", "near"), [("resnet81", "resnet"), ("smal-16", "small-16")])
def test_an_unknown_name_is_answered_with_the_nearest_known(wrong: str, near: str) -> None:
    with pytest.raises(InputError, match=f"{wrong}.*did you mean '{near}"):
        build_backbone(wrong, images(32))


def test_a_small_net_too_wide_for_any_machine_is_refused() -> None:
    with pytest.raises(InputError, match=r"'small-100000' has no such width: a small residual net takes 4 to 512"):
        build_backbone("small-100000", images(8, 1))


@pytest.mark.parametrize("name", ["small-x", "small-3", "small-"])
def test_a_small_net_of_no_width_is_an_input_error(name: str) -> None:
    with pytest.raises(InputError, match=name):
        build_backbone(name, images(32))


def test_a_backbone_must_fit_the_kind_of_items() -> None:
    with pytest.raises(InputError, match="mlp"):
        choose_backbone("small-16", embeddings(20), "cpu")
    with pytest.raises(InputError, match="mlp"):
        choose_backbone("mlp", images(20), "cpu")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("spec", [images(8, 1), images(28, 1), images(32), images(96), images(224), embeddings(64)])
def test_auto_chooses_a_known_backbone_and_says_why(spec: ItemSpec, device: str) -> None:
    choice = choose_backbone("auto", spec, device)
    assert choice.name in ("mlp", "small-16", "small-32", "resnet34", "resnet50")
    assert (choice.name == "mlp") == (spec.kind == "embeddings")
    assert len(choice.why) > 5


# An embedding net starts where the embeddings are


@pytest.mark.parametrize("dim", [64, 100, 600])
def test_long_embeddings_pass_unchanged_at_first_and_can_move(dim: int) -> None:
    net, x = EmbeddingNet(dim), torch.randn(10, dim)
    assert torch.equal(net(x), x)
    net(x).square().sum().backward()
    assert float(net.outer.weight.grad.abs().max()) > 0


def test_short_vectors_are_lifted_by_fixed_random_features_that_tell_them_apart() -> None:
    net, x = EmbeddingNet(2), torch.tensor([[0.0, 0.0], [0.0, 1e-2], [3.0, -1.0]])
    lifted = net(x)
    assert torch.pdist(lifted).min() > 1e-3
    assert not any(p.requires_grad for p in net.lift.parameters())
    assert net.num_features == lifted.shape[1] == 256


def test_blocks_are_those_of_torchvision() -> None:
    """Bit for bit, and by the names of their weights; ours do without its import, which takes seconds."""
    from torchvision.models.resnet import BasicBlock

    made = residual_stages(16, (1, 2))  # of fewer channels the shortcut is computed another way
    theirs = nn.Sequential(
        BasicBlock(16, 16),
        BasicBlock(16, 32, 2, nn.Sequential(nn.Conv2d(16, 32, 1, 2, bias=False), nn.BatchNorm2d(32))),
        BasicBlock(32, 32),
    )
    theirs.load_state_dict(made.state_dict())
    assert list(theirs.state_dict()) == list(made.state_dict())
    x = torch.randn(3, 16, 9, 9)
    grads = []
    for net in (made, theirs):
        out = net(x)
        out.square().sum().backward()
        grads.append([out, *(p.grad for p in net.parameters() if p.grad is not None), *net.buffers()])
    assert len(grads[0]) == len(grads[1])
    assert all(map(torch.equal, *grads))


# Weights from a file


@pytest.fixture(scope="module")
def donor() -> nn.Module:
    torch.manual_seed(7)
    return build_backbone("small-4", images(16))


def equal_states(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


@pytest.mark.parametrize("form", ["weights.safetensors", "weights.pth", "nested.pth"])
def test_weights_come_from_a_local_file(form: str, donor: nn.Module, tmp_path: Path) -> None:
    path, state = tmp_path / form, {**donor.state_dict(), "fc.weight": torch.ones(2, 2)}
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state, "epoch": 3} if form.startswith("nested") else state, path)
    torch.manual_seed(8)
    net = build_backbone("small-4", images(16), weights=str(path))
    assert equal_states(donor, net)


def test_weights_that_do_not_fit_name_the_file_and_the_first_missing_entry(donor: nn.Module, tmp_path: Path) -> None:
    save_file(donor.state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=r"w\.safetensors does not fit .* first 'stem\.0\.weight'"):
        load_weights(build_backbone("small-5", images(16)), tmp_path / "w.safetensors")


@pytest.mark.parametrize("name", ["broken.safetensors", "broken.pth", "missing.pth"])
def test_a_file_that_is_no_weights_is_named(name: str, tmp_path: Path) -> None:
    if not name.startswith("missing"):
        (tmp_path / name).write_bytes(b"not weights")
    with pytest.raises(InputError, match=name):
        build_backbone("small-4", images(16), weights=str(tmp_path / name))


class Gadget:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.trace,)  # type: ignore[return-value]


def test_a_pickle_in_a_weights_file_is_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    torch.save({"stem.0.weight": Gadget(trace)}, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"w\.pth"):
        build_backbone("small-4", images(16), weights=str(tmp_path / "w.pth"))
    assert not trace.exists()


@pytest.mark.parametrize("content", [[1, 2], {"state_dict": 3}, {"stem.0.weight": 3}, torch.ones(2)])
def test_a_pth_file_that_holds_something_else_is_an_input_error(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"w\.pth"):
        build_backbone("small-4", images(16), weights=str(tmp_path / "w.pth"))


@pytest.mark.parametrize(
    ("entry", "taken"),
    [
        ("stem.9.weight", False),
        ("stem.9.bias", False),
        ("head.weight", True),
        ("fc.bias", True),
        ("stem.head.fc.weight", True),
    ],
)
def test_weights_of_a_larger_net_are_refused_and_its_classifier_is_left_out(entry, taken, donor, tmp_path) -> None:
    save_file({**donor.state_dict(), entry: torch.ones(2)}, tmp_path / "w.safetensors")
    net = build_backbone("small-4", images(16))
    if taken:
        load_weights(net, tmp_path / "w.safetensors")
        assert equal_states(donor, net)
    else:
        with pytest.raises(InputError, match=f"of a larger net than the backbone, which has no {entry!r}"):
            load_weights(net, tmp_path / "w.safetensors")


def test_a_pickled_net_is_refused_without_advice_to_run_it(donor: nn.Module, tmp_path: Path) -> None:
    torch.save(donor, tmp_path / "whole.pth")
    with pytest.raises(InputError, match=r"holds Python objects; save model\.state_dict") as failed:
        load_weights(build_backbone("small-4", images(16)), tmp_path / "whole.pth")
    assert "weights_only" not in str(failed.value)
    assert "\n" not in str(failed.value)
