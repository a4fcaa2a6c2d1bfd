"""`--finetune`: a finished run on an encoder's embeddings teaches the encoder itself, lightly, by self-labelling.

The run's probabilities teach a linear head on its embeddings; then head and encoder go on together by SCAN's third step
(`methods/scan3.py`), with distorted pictures, whose targets stay what this head said of all pictures at the start. What
comes out is a model of pictures like one trained from scratch: its backbone has the encoder's form and its own weights,
so nothing reads the cached embeddings any more.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from coterie.encoders.opening import Encode, open_items, wanted_by
from coterie.encoders.trunk import start_of_encoder
from coterie.networks.backbones import Start
from coterie.networks.features import some_rows
from coterie.prediction.model import Model
from coterie.records import judgements_in, read_record
from coterie.training.plan import RunSettings
from coterie.types import Encoding, InputError, Source

METHOD = "scan3"
# Of the self-labelling, where the user sets nothing: few steps, small ones, by what the run said, with the batch
# statistics that the encoder came with. Labels by the net itself, of the surer half of each batch, drew 3,000 pictures
# of CIFAR-10 into one group: the groups that it is unsure of are never among the surest.
LIGHT: dict[str, Any] = {"epochs": 3, "learning_rate": 1e-4, "labels": "start", "at_least": 1.0}
LIGHT |= {"balance": False, "keep_statistics": True}
BATCH = 64
ITEMS = 20_000  # that the head is taught on, at most
STEPS = 100  # of L-BFGS
DECAY = 1e-4
OTHERS = ("views.", "calibrate.")  # parts of a run whose settings are not the method's


@dataclass(frozen=True)
class Teacher:
    """A run's probabilities and embedding of each picture, and the encoder as a backbone."""

    start: Start
    features: Float[Tensor, "m d"]
    said: Float[Tensor, "m k"]

    def teach(self, head: nn.Module) -> None:
        """Teach a head on the backbone's features the run's probabilities, by cross-entropy."""
        device = next(head.parameters()).device
        features, said = self.features.to(device), self.said.to(device)
        scale = features.std()  # with which the decay is the same whatever the embeddings' scale
        optimiser = torch.optim.LBFGS(head.parameters(), max_iter=STEPS, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimiser.zero_grad()
            decay = sum((weight.square().sum() for weight in head.parameters()), start=torch.zeros((), device=device))
            value = F.cross_entropy(head(features), said) + DECAY * scale**2 * decay
            value.backward()
            return value

        optimiser.step(loss)


def check_finetune(settings: RunSettings) -> None:
    """Raise InputError for settings that cannot be combined with `finetune`."""
    if settings.init is None:
        raise InputError(
            "--finetune goes on from a finished run on an encoder's embeddings: fit that first, and give its folder "
            "with --init."
        )
    if settings.judged is not None:
        raise InputError("--judged is for a calibration head on the run's own features: leave --finetune out.")
    for name in ("encoder", "image_size", "backbone"):
        if getattr(settings, name) not in (None, "none", "auto"):
            raise InputError(
                f"--finetune trains the encoder of {settings.init}, as it sees the pictures: leave "
                f"--{name.replace('_', '-')} out."
            )


def encoding_to_train(init: Model, settings: RunSettings) -> Encoding:
    """The encoder of the run to go on from.

    Raises InputError for a run without one, of another number of groups, or in which judgements of people took part.
    """
    where, encoding = settings.init, init.spec.encoding
    assert where is not None
    if init.merges or (os.path.lexists(Path(where) / "run.yaml") and judgements_in(read_record(Path(where)))):
        raise InputError(
            f"Judgements of people took part in what {where} says of its pictures, and labels never train a net: "
            "fine-tune a run without them."
        )
    if encoding is None or init.spec.kind != "embeddings":
        raise InputError(
            f"{where} groups no embeddings that coterie made of pictures, and --finetune trains the encoder of such a "
            "run: leave it out, or fit the pictures with --encoder first."
        )
    if settings.n_clusters not in ("auto", init.k):
        raise InputError(f"{where} has {init.k} groups, and fine-tuning goes on with them: give -k {init.k}.")
    return encoding


def lighter(settings: RunSettings, n: int) -> RunSettings:
    """The settings with the light preset wherever the user set nothing."""
    if not isinstance(settings.method, str) or settings.preset != "practical":
        return settings
    light = {f"{METHOD}.{name}": value for name, value in {**LIGHT, "batch_size": min(BATCH, n)}.items()}
    given = {f"{METHOD}.{name.rpartition('.')[2]}" for name in settings.overrides if not name.startswith(OTHERS)}
    if settings.epochs is not None:
        given.add(f"{METHOD}.epochs")
    overrides = {name: value for name, value in light.items() if name not in given} | dict(settings.overrides)
    return replace(settings, overrides=overrides)


def finetuned(teacher: Teacher) -> str:
    """A note for the run."""
    said = teacher.start.choice.why.removeprefix("the encoder ")
    return f"The weights of {said} are trained on here; the groups to begin with are those of the run given by --init."


def teacher_of(
    source: Any,
    pictures: Source,
    init: Model,
    *,
    device: str,
    folder: Path | None,
    path: str,
    options: dict[str, Any],
    dry: bool,
    say: Callable[[str], None],
) -> Teacher:
    """Embed the pictures as the run did (or find that done in `folder`), and ask the run about them.

    Raises InputError where the embedded pictures are not those that were decoded.
    """
    encoding = init.spec.encoding
    assert encoding is not None
    start = start_of_encoder(encoding, pictures.items.spec, device)
    encode = Encode(wanted_by(encoding, device), folder, path, dry=dry)
    say(f"embedding all pictures with {encoding.encoder}, for the groups to begin with")
    embedded = open_items(source, like=init.spec, encode=encode, **options)
    if len(embedded.items) != len(pictures.items) or (not dry and list(embedded.ids) != list(pictures.ids)):
        raise InputError(f"The pictures of {pictures.name} changed while they were read: run the command again.")
    rows = some_rows(len(embedded.items), ITEMS)
    rows = torch.arange(len(embedded.items), device="cpu") if rows is None else rows
    said = init.predict(embedded).probabilities[rows]
    return Teacher(start, embedded.items.take(rows).float(), said)
