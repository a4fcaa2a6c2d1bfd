"""A fitted model: predict with it, save it as safetensors with a JSON manifest, load it without a pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from coterie.calibration import Calibration, calibration_head, keep_groups
from coterie.catalogue import method_class
from coterie.common.outputs import remove_parts, write_atomically
from coterie.common.words import in_a_line
from coterie.contract import Method, calibrated, gives_logits, logits_of, name_of, predict
from coterie.networks.backbones import build_backbone
from coterie.networks.draws import OwnDraws, forms_alone, with_memory
from coterie.networks.features import chunk_size, stream
from coterie.networks.net import Net
from coterie.prediction.answers import check_answers, check_numbers
from coterie.prediction.bank import Bank, load_bank, save_bank
from coterie.prediction.manifest import FORMAT, Manifest, read_manifest
from coterie.prediction.merging import merge_columns
from coterie.prediction.ood import Scorer, available, scorer
from coterie.records.files import check_regular, utf8_path
from coterie.training.coerce import settings_of
from coterie.training.plan import resolved
from coterie.types import Assignments, InputError, ItemSpec, Source

BANK = "ood.safetensors"


@dataclass
class Model:
    """A trained net with the method that reads it, and a calibration head on top where one was trained."""

    net: Net
    method: Method
    k: int
    backbone: str
    spec: ItemSpec
    family: str
    bank: Bank | None = None  # what out-of-distribution scores compare with
    calibration: Calibration | None = None  # of the head `post_hoc`, where there is one
    names: dict[int, str] = field(default_factory=dict)  # of groups, those that were given
    merges: list[tuple[int, int]] = field(default_factory=list)  # a group and the one it was merged into, in order

    def __post_init__(self) -> None:
        # `stream` puts back the mode that it found: with that of training, a prediction that ends would change the net
        # of another that goes on in its own thread.
        self.net.eval()

    def calibrate_by(self, head: nn.Module, calibration: Calibration) -> None:
        """Use this head for the confidences from now on; the method's own heads are reported beside it."""
        self.net.add({"post_hoc": head.eval()})
        self.calibration = calibration

    def heads_of(self, features: Tensor) -> dict[str, Tensor]:
        """Probabilities by head; the first is the answer. A method's own `cal` is `raw` beside the one from here."""
        return {name: merge_columns(p, self.merges) for name, p in self._unmerged(features).items()}

    def _unmerged(self, features: Tensor) -> dict[str, Tensor]:
        own = predict(self.method, self.net, features)
        if self.calibration is None:
            return own
        calibrated = {"cal": self._calibrated_logits(features, own).softmax(1)}
        return calibrated | {"raw" if name == "cal" else name: p for name, p in own.items()}

    def logits_of(self, features: Tensor) -> dict[str, Tensor]:
        """The logits of the heads of `heads_of`; heads without logits are left out."""
        own = logits_of(self.method, self.net, features)
        if self.calibration is None:
            return own
        calibrated = {"cal": self._calibrated_logits(features, predict(self.method, self.net, features))}
        return calibrated | {"raw" if name == "cal" else name: z for name, z in own.items()}

    def _calibrated_logits(self, features: Tensor, own: dict[str, Tensor]) -> Tensor:
        """Logits of the calibration head, changed so that the method's own group has the largest (`keep_groups`)."""
        return keep_groups(self.net.post_hoc(features), next(iter(own.values())).argmax(1))

    @property
    def calibrated(self) -> bool:
        """Whether the confidences of the answer are calibrated."""
        return self.calibration is not None or calibrated(self.method)

    @property
    def gives_logits(self) -> bool:
        """Whether the head that gives the answer has logits."""
        return self.calibration is not None or gives_logits(self.method)

    def predict(
        self,
        source: Source,
        *,
        embedding: bool = False,
        ood_scores: Sequence[str] = (),
        progress: Callable[[int], None] | None = None,
    ) -> Assignments:
        """Probabilities of every item, head by head; 4·k bytes an item and head, and 4·d with `embedding`.

        `ood_scores` are names of `prediction.ood.SCORES`; raises InputError for one that this model cannot give, and
        RunFailed where a probability is no number.
        """
        names: list[str] = []
        score = self._scorer(ood_scores)

        def compute(view: Tensor) -> Tensor:
            features = self.net.backbone(view)
            heads = self.heads_of(features)
            check_answers(self.method, heads, len(features), self.k)
            names[:] = list(heads)
            columns = score(heads[names[0]], features)
            return torch.cat([*heads.values(), *columns, *([features] if embedding else [])], dim=1)

        n, at = len(source.items), 0
        out = torch.empty(0)
        for chunk in stream(self.net, source.items, compute, progress=progress):
            if at == 0:
                out = torch.empty(n, chunk.shape[1])
            check_numbers(chunk[:, : self.k * len(names)], source.ids, at)
            out[at : at + len(chunk)] = chunk
            at += len(chunk)
        widths = [self.k] * len(names) + [1] * len(ood_scores) + [self.net.width] * embedding
        parts = out.split(widths, dim=1)
        heads = dict(zip(names, parts, strict=False))
        scores = {name: parts[len(names) + i][:, 0].contiguous() for i, name in enumerate(ood_scores)}
        return Assignments(source.ids, heads[names[0]], heads, parts[-1] if embedding else None, scores)

    def scores_of_fitted(self, ood_scores: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Out-of-distribution scores (m,), all or these, of the fitted items that the model keeps, to compare with.

        Raises InputError for a score that this model cannot give, and for a model that keeps no items.
        """
        if self.bank is None:
            raise InputError("This model was saved without a sample of its fitted items: fit it again.")
        names = available(logits=self.gives_logits, bank=self.bank) if ood_scores is None else ood_scores
        score, was_training = self._scorer(names), self.net.training
        self.net.eval()
        with torch.inference_mode():
            chunks = self.bank.features.to(self.net.mean.device).split(chunk_size(self.spec))
            answers = [(next(iter(self.heads_of(rows).values())), rows) for rows in chunks]
            found = torch.cat([torch.cat(score(p, rows), dim=1) for p, rows in answers]).cpu()
        self.net.train(was_training)
        return dict(zip(names, found.clone().unbind(1), strict=True))

    def _scorer(self, names: Sequence[str]) -> Scorer:
        def logits(features: Tensor) -> Tensor:
            return next(iter(self.logits_of(features).values()))

        return scorer(names, logits if self.gives_logits else None, self.bank, self.net.mean.device)

    def save(self, folder: Path) -> None:
        """Write `weights.safetensors`, `manifest.json` and the bank `ood.safetensors`, each whole or not at all."""
        write_atomically(folder / "weights.safetensors", self.weights())
        if self.bank is not None:
            save_bank(folder / BANK, self.bank)
        else:
            (folder / BANK).unlink(missing_ok=True)  # of a model that was saved here before
        write_atomically(folder / "manifest.json", self.manifest())

    def weights(self) -> bytes:
        """What `weights.safetensors` holds: the parts of the net that answer."""
        from safetensors.torch import save

        answers = (*(self.method.card.answers or self.net.head_names), "post_hoc")
        unneeded = tuple(f"{name}." for name in self.net.head_names if name not in answers)
        state = {
            key: v.detach().cpu().contiguous()
            for key, v in self.net.state_dict().items()
            if not key.startswith(unneeded)
        }
        return save(state)

    def manifest(self) -> str:
        """What `manifest.json` holds."""
        name, settings, row_norm = name_of(self.method), resolved(self.method), self.net.row_norm
        parts = (self.k, self.backbone, self.spec, self.family, self.calibration, row_norm, self.net.limit)
        entries = asdict(Manifest(FORMAT, name, settings, *parts))
        enlarge = self.net.enlarge if self.net.enlarge > 1 else None
        given = {"names": self.names, "merges": self.merges, "enlarge": enlarge}
        # A model that nobody named, and that looks at whole images, keeps the manifest that it always had.
        entries = {key: value for key, value in (entries | given).items() if value or key not in given}
        return json.dumps(entries, indent=2) + "\n"


def check_model_folder(folder: Path, model: Model) -> None:
    """Raise InputError where a folder holds another model, another run, or other files."""
    try:
        if not os.path.lexists(folder):
            return
        if not folder.is_dir():
            raise InputError(f"{folder} is a file: give another folder.")
        remove_parts(folder)
        weights, manifest = folder / "model" / "weights.safetensors", folder / "model" / "manifest.json"
        above = [weights.parent] if weights.parent.is_dir() else []
        if list(folder.iterdir()) == above and not any(inside for place in above for inside in place.iterdir()):
            return  # nothing, or what a save left that failed at once
        ours = weights.is_file() and weights.read_bytes() == model.weights()
        # Without a manifest it is a save that ended early: of a full disk, say.
        same = ours and (not os.path.lexists(manifest) or _unnamed(manifest.read_bytes()) == _unnamed(model.manifest()))
    except OSError as error:
        raise InputError(f"{folder} cannot be used ({error.strerror}): give another folder.") from error
    if not same:
        what = "another run" if (folder / "run.yaml").exists() or weights.exists() else "other files"
        what = "this model with other groups" if ours else what
        raise InputError(f"{folder} holds {what}: give an empty folder or a new one.")


def _unnamed(manifest: str | bytes) -> dict[str, object] | None:
    """What a manifest says but for the names of groups, which may be given anew; None where it cannot be read."""
    try:
        return {key: value for key, value in json.loads(manifest).items() if key != "names"}
    except (ValueError, AttributeError, RecursionError):
        return None


def load_model(folder: Path, device: torch.device | str = "cpu") -> Model:
    """Load what `Model.save` wrote, from the model folder or from a run folder that has one.

    Raises InputError when there is no model, when it is of another format version or does not fit, and when the folder
    holds a pickle, which could run code.
    """
    from safetensors.torch import load_file

    if (folder / "model").is_dir():
        folder = folder / "model"
    manifest = read_manifest(folder)
    method = settings_of(method_class(manifest.method), manifest.settings, manifest.method)
    weights = folder / "weights.safetensors"
    # First without memory: the sizes that a manifest asks for must be those of the weights before a net is made.
    _check_weights(weights, _build(manifest, method, "meta"))
    with OwnDraws():
        net = _build(manifest, method, "cpu")
    with utf8_path(weights) as opened:
        net.load_state_dict(load_file(opened))
    net.to(device).eval()
    bank = load_bank(folder / BANK, net.width)
    k, spec = manifest.n_clusters, manifest.spec
    about = (manifest.calibration, manifest.names, manifest.merges)
    return Model(net, method, k, manifest.backbone, spec, manifest.family, bank, *about)


def _build(manifest: Manifest, method: Method, device: str) -> Net:
    """The net that the manifest describes, to be given its weights. Raises InputError for one that cannot be.

    Heads that only training needs, such as queues, never take memory.
    """
    spec, k = manifest.spec, manifest.n_clusters
    size = spec.channels if spec.kind == "images" else spec.dim
    try:
        with forms_alone() if device == "meta" else torch.device(device):
            trunk = build_backbone(manifest.backbone, spec)
            net = Net(trunk, spec, torch.zeros(size), torch.ones(size), half=False, row_norm=manifest.row_norm)
            net.limit, net.enlarge = manifest.limit, manifest.enlarge
        with forms_alone():
            heads = method.heads(net, k)
            kept = {name: head for name, head in heads.items() if name in (method.card.answers or heads)}
            if manifest.calibration is not None:
                kept["post_hoc"] = calibration_head(net.width, manifest.calibration.hidden, k)
        if device != "meta":
            kept = {name: with_memory(head, device) for name, head in kept.items()}
        net.add(kept)
    except InputError:
        raise
    except Exception as error:  # whatever layers say to sizes that no layer can have
        reason = in_a_line(error)
        raise InputError(
            f"The manifest of the model describes a net that cannot be built ({reason}): fit the model again."
        ) from error
    return net


def _check_weights(path: Path, net: Net) -> None:
    """Raise InputError unless the file holds the tensors of this net (without memory), and no other, all finite."""
    from safetensors import safe_open

    try:
        check_regular(path)
        with utf8_path(path) as opened, safe_open(opened, framework="pt") as file:
            stored = {name: file.get_slice(name) for name in list(file.keys())}
            wanted = net.state_dict()
            for name in {**wanted, **stored}:
                has = tuple(stored[name].get_shape()) if name in stored else ()
                needs = tuple(wanted[name].shape) if name in wanted else ()
                # A table of a module's own has as many rows as it was filled with.
                part = slice(1 if name.endswith("_extra_state") else 0, None)
                if name not in stored or name not in wanted or len(has) != len(needs) or has[part] != needs[part]:
                    raise ValueError(f"{name} has the shape {has}, not {needs}")
            for name, tensor in wanted.items():
                value = file.get_tensor(name)
                if value.dtype != tensor.dtype:
                    raise ValueError(f"{name} holds {value.dtype}, not {tensor.dtype}")
                if not torch.isfinite(value).all():
                    raise ValueError(f"{name} has numbers that are not finite")
    except Exception as error:  # safetensors has errors of its own for each kind of damage
        reason = in_a_line(error)
        raise InputError(
            f"The weights in {path.parent} do not fit their manifest ({reason}): fit the model again."
        ) from error
