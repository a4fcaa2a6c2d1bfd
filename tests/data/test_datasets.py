from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import IterableDataset, TensorDataset

from coterie.data import labels_of, open_source
from coterie.types import InputError, ItemSpec

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 16, 12, 3), dtype=np.uint8)


class Listed(torch.utils.data.Dataset):
    def __init__(self, items: list) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int):
        item = self.items[index]
        if isinstance(item, Exception):
            raise item
        return item


FORMS = {
    "pillow": lambda pixels: Image.fromarray(pixels),
    "labelled": lambda pixels: (Image.fromarray(pixels), 3),
    "array": lambda pixels: pixels,
    "tensor": lambda pixels: torch.from_numpy(pixels).permute(2, 0, 1),
    "float": lambda pixels: (torch.from_numpy(pixels).permute(2, 0, 1) / 255, "label"),
}


@pytest.mark.parametrize("limit", [0, 1 << 30])
@pytest.mark.parametrize("form", FORMS)
def test_items_of_every_form_give_the_same_images(form, limit):
    dataset = Listed([FORMS[form](pixels) for pixels in PIXELS])
    source = open_source(dataset, memory_limit=limit)
    index = torch.tensor([8, 0, 0, 5])
    assert np.array_equal(source.items.take(index).numpy(), PIXELS[index.numpy()].transpose(0, 3, 1, 2))
    assert source.items.spec == ItemSpec("images", 3, 16, 12, high=1.0 if form == "float" else 0.0)
    assert labels_of(dataset, source.ids) is None


def test_a_dataset_may_be_used_again_after_it_was_opened(tmp_path):
    dataset = Listed([Image.fromarray(pixels) for pixels in PIXELS])
    first = open_source(dataset, memory_limit=0, cache=tmp_path)
    again = open_source(dataset, memory_limit=0, cache=tmp_path)
    assert any("from the cache" in note for note in again.notes)
    assert again.fingerprint == first.fingerprint
    assert torch.equal(again.items.take(torch.arange(9)), first.items.take(torch.arange(9)))


def test_vectors_are_embeddings():
    vectors = torch.randn(7, 5)
    source = open_source(TensorDataset(vectors, torch.zeros(7)))
    assert torch.equal(source.items.take(torch.arange(7)), vectors)


def test_sizes_may_differ_and_values_are_stretched_over_all_items():
    items = [torch.full((1, 8 + row, 8), float(row)) for row in range(5)]
    source = open_source(Listed(items))
    assert source.items.spec == ItemSpec("images", 1, 64, 64, low=0.0, high=4.0)
    assert source.items.take(torch.arange(5)).float().mean((1, 2, 3)).round().tolist() == [0, 64, 128, 191, 255]
    later = open_source(Listed(items[3:4]), like=source.items.spec)
    assert torch.equal(later.items.take(torch.tensor([0])), source.items.take(torch.tensor([3])))


def test_items_that_raise_are_skipped():
    source = open_source(Listed([*PIXELS, OSError("image file is truncated")]))
    assert len(source.items) == 9
    assert [(item.id, item.reason) for item in source.skipped] == [("9", "truncated")]


class Endless(IterableDataset):
    def __iter__(self):
        return iter([])


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (Listed([]), "is empty"),
        (Endless(), "only map-style Datasets"),
        (Listed([{"picture": 1}, {"picture": 2}]), "Item 0 of the Dataset Listed is a dict of picture"),
        (Listed([*PIXELS, PIXELS[0] / 255]), "Item 9 of the Dataset Listed has dtype float64"),
        (Listed([*PIXELS, np.zeros((3, 3, 3, 3), np.uint8)]), "Item 9 .*is no image"),
        (Listed([PIXELS[0]]), "n_samples=1"),
        (Listed([torch.tensor(1.0), torch.tensor(2.0)]), "Item 0 of the Dataset Listed is a single number"),
        (Listed([np.array(["a", "b"])] * 2), "Item 0 of the Dataset Listed is an array of dtype <U1"),
        (Listed(["a", "b"]), "Item 0 of the Dataset Listed is of type str"),
        (Listed([torch.zeros(3), torch.zeros(4)]), "Item 1 of the Dataset Listed has shape"),
        (Listed([torch.zeros(1, 4, 4), torch.full((1, 4, 4), torch.nan)]), "contains NaN"),
        (Listed([RuntimeError("sizes differ:\n 3 and 4")] * 2), r"the last: RuntimeError: sizes differ: 3 and 4\)\."),
        (Listed([torch.ones(3), ValueError("a\nb")]), r"Item 1 .* cannot be read \(ValueError: a b\); leave it out\."),
        (Listed([*PIXELS[:2], ValueError("boom")]), "1 of the 3 images in the Dataset Listed cannot be read .*boom"),
    ],
)
def test_wrong_datasets_get_one_sentence(dataset, message):
    with pytest.raises(InputError, match=message):
        open_source(dataset)
