from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from coterie.common.outputs import write_atomically
from coterie.training.checkpoints import load_tree, save_tree
from coterie.types import InputError

DTYPES = (torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool)


def tensor(seed: int) -> Tensor:
    shape = [(), (0,), (3,), (2, 4)][seed % 4]
    return torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(seed)).to(DTYPES[seed % len(DTYPES)])


leaves = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**60), 2**60), st.floats(allow_nan=False), st.text(max_size=5),
    st.integers(0, 100).map(tensor),
)  # fmt: skip
keys = st.one_of(st.text(max_size=4), st.integers(-3, 3))
trees = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3))


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        same_keys = (
            isinstance(other, dict) and list(one) == list(other) and set(map(type, one)) == set(map(type, other))
        )
        return same_keys and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(equal, one, other))
    return type(one) is type(other) and one == other


@given(tree=trees)
@settings(max_examples=60, deadline=None)
def test_a_tree_comes_back_as_it_was(tree: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("tree") / "x.safetensors"
    save_tree(path, tree)
    assert equal(tree, load_tree(path))


def test_keys_that_read_alike_are_kept_apart(tmp_path: Path) -> None:
    tree = {1: torch.tensor(1), "1": torch.tensor(2), "a/b": torch.tensor(3), "a": {"b": torch.tensor(4)}}
    save_tree(tmp_path / "x", tree)
    assert equal(tree, load_tree(tmp_path / "x"))


def test_tensors_that_share_storage_or_lie_oddly_in_memory_are_kept(tmp_path: Path) -> None:
    base = torch.arange(24.0).view(1, 2, 3, 4)
    tree = {"whole": base, "again": base, "row": base[0, 1], "turned": base.permute(0, 3, 1, 2), "step": base[..., ::2]}
    tree["parameter"] = torch.nn.Parameter(base)
    tree["channels last"] = base.contiguous(memory_format=torch.channels_last)
    save_tree(tmp_path / "x", tree)
    found = load_tree(tmp_path / "x")
    assert all(torch.equal(value, found[name]) for name, value in tree.items())
    assert found["whole"].data_ptr() != found["again"].data_ptr()


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.SGD])
def test_an_optimiser_goes_on_bit_for_bit_from_its_saved_state(kind: Any, tmp_path: Path) -> None:
    def fresh() -> tuple[torch.nn.Linear, torch.optim.Optimizer]:
        torch.manual_seed(0)
        net = torch.nn.Linear(3, 2)
        return net, kind(net.parameters(), lr=0.1, **({"momentum": 0.9} if kind is torch.optim.SGD else {}))

    def train(net: torch.nn.Linear, optimiser: torch.optim.Optimizer, seeds: range) -> None:
        for seed in seeds:
            optimiser.zero_grad()
            net(torch.randn(4, 3, generator=torch.Generator().manual_seed(seed))).square().mean().backward()
            optimiser.step()

    net, optimiser = fresh()
    train(net, optimiser, range(3))
    save_tree(tmp_path / "x", {"net": net.state_dict(), "optimiser": optimiser.state_dict()})
    train(net, optimiser, range(3, 6))

    again, its_optimiser = fresh()
    saved = load_tree(tmp_path / "x")
    again.load_state_dict(saved["net"])
    its_optimiser.load_state_dict(saved["optimiser"])
    train(again, its_optimiser, range(3, 6))
    assert torch.equal(net.weight, again.weight)


# A file is whole or it is the old one


@pytest.fixture
def small_files_only() -> Any:
    """Let the system refuse files above 4 kB, as a full disk does: in the middle of the writing."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(on: bool) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096 if on else soft, hard))

    yield limit
    limit(False)


def test_a_write_that_fails_half_way_leaves_the_old_file_and_nothing_else(
    small_files_only: Any, tmp_path: Path
) -> None:
    path = tmp_path / "state"
    save_tree(path, {"step": 1})
    small_files_only(True)
    with pytest.raises(InputError, match=r"state could not be written .*: allow larger files"):
        save_tree(path, {"step": 2, "net": torch.zeros(10_000)})
    small_files_only(False)
    assert load_tree(path) == {"step": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["state"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="folder could not be written"):
        write_atomically(tmp_path / "folder", "text")
    assert [file.name for file in tmp_path.iterdir()] == ["folder"]


def test_missing_folders_are_made_and_text_is_utf8(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a" / "b" / "c.txt", "größer")
    assert (tmp_path / "a" / "b" / "c.txt").read_text(encoding="utf-8") == "größer"


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "other safetensors", "missing"])
def test_a_damaged_checkpoint_is_an_input_error_that_names_it(damage: str, tmp_path: Path) -> None:
    from safetensors.torch import save

    path = tmp_path / "cdc.safetensors"
    save_tree(path, {"net": torch.zeros(1000)})
    whole = path.read_bytes()
    content = {"cut": whole[:-100], "empty": b"", "text": b"hello", "other safetensors": save({"a": torch.ones(1)})}
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(content[damage])
    with pytest.raises(InputError, match=r"cdc\.safetensors (is not a checkpoint|cannot be read)"):
        load_tree(path)
