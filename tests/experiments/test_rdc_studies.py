"""The scripts behind R-DC's figures, from start to end on a few digits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("narrow_autoencoders")
SHORT = ["digits", "--items", "600", "--seeds", "0", "--set=acai.epochs=1", "--set=rdc.epochs=2"]


@pytest.fixture
def places(tmp_path: Path) -> list[str]:
    return [word for name in ("runs", "results", "figures") for word in (f"--{name}", str(tmp_path / name))]


def content_of(tmp_path: Path, name: str) -> Any:
    found = (tmp_path / "results" / f"{name}.json").read_text()
    assert str(tmp_path) not in found
    assert (tmp_path / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    return json.loads(found)


def test_the_curves_have_a_line_for_every_epoch_and_are_read_again(places: list[str], tmp_path: Path) -> None:
    import geometry_curves

    words = [*SHORT, "--set=dynae.epochs=1", *places]
    geometry_curves.main(words)
    content = content_of(tmp_path, "geometry_curves")
    found = {record["method"]: [line["epoch"] for line in record["lines"]] for record in content["records"]}
    assert found == {"acai": [1], "rdc": [1, 2], "dynae": [1]}
    assert all(0 < line["intrinsic"] < 20 and 0 < line["acc"] <= 1 for line in content["records"][1]["lines"])
    geometry_curves.main(words)
    assert content_of(tmp_path, "geometry_curves") == content


def test_noise_is_added_to_z_scored_pixels_and_both_phases_are_scored(places: list[str], tmp_path: Path) -> None:
    import noise

    images = np.random.default_rng(0).integers(0, 255, (5000, 3, 3)).astype(np.uint8)
    images[:, 0, 0] = 7
    found = noise.noisy(images, 0.5, 0)
    assert found.std(0)[3:] == pytest.approx(np.full(6, 1.25**0.5), rel=0.05)
    assert found.std(0)[0] == pytest.approx(0.5, rel=0.05)
    assert np.abs(noise.noisy(images, 0.0, 0)[:, 0]).max() == 0
    noise.main([*SHORT, "--sigmas", "0.1", *places])
    (record,) = content_of(tmp_path, "noise")["records"]
    assert set(record["methods"]) == {"acai", "rdc"}
    assert set(record["methods"]["rdc"]) == set(noise.METRICS)


def test_codes_contract_until_no_core_point_is_left(places: list[str], tmp_path: Path) -> None:
    import rdc_contraction

    from coterie import Clusterer

    run = tmp_path / "phase1"
    Clusterer(10, "ae", epochs=1, calibrate=False, random_state=0, output=run).fit("digits")
    words = ["digits", "-k", "10", "--init", str(run), "--items", "300", "--results", str(tmp_path / "results")]
    rdc_contraction.main(words)
    found = json.loads((tmp_path / "results" / "rdc_contraction_digits.json").read_text())
    assert str(tmp_path) not in json.dumps(found)
    by_row = {(r["title"], r["step"]): r for r in found["records"]}
    first = next(iter(rdc_contraction.ROWS))
    assert len({by_row[title, 0]["acc"] for title in rdc_contraction.ROWS}) == 1  # all from the same codes
    assert by_row[first, 0]["core_share"] == pytest.approx(0.5, abs=0.02)
    assert by_row[first, 20]["core_share"] < 0.1
    assert by_row["M = 5, no filters", 20]["core_share"] == 1.0


def test_a_step_goes_half_way_to_the_mean_of_the_neighbours(places: list[str]) -> None:
    import rdc_contraction
    import torch

    z = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    before, after = rdc_contraction.contract(z, 4, None, 1.0, 1)
    near = torch.cdist(z, z).fill_diagonal_(torch.inf).topk(4, largest=False).indices
    torch.testing.assert_close(before["z"], z)
    torch.testing.assert_close(after["z"], (z + z[near].mean(1)) / 2)


def test_what_a_shift_does_to_a_code_is_measured_against_the_nearest_neighbour(
    places: list[str], tmp_path: Path
) -> None:
    import rdc_shift
    import torch

    from coterie import Clusterer

    clean = torch.randn(500, 4, generator=torch.Generator().manual_seed(0))
    found = rdc_shift.measured(clean, 0.8 * clean + torch.tensor([3.0, 0.0, 0.0, 0.0]))
    assert found["slope"] == pytest.approx(0.8, abs=1e-4)
    assert found["nearest"] == pytest.approx(
        float(torch.cdist(clean, clean).fill_diagonal_(9).amin(1).mean()), rel=1e-4
    )
    run = tmp_path / "phase1"
    Clusterer(10, "ae", epochs=1, calibrate=False, random_state=0, output=run).fit("digits")
    rdc_shift.main(["digits", "--inits", str(run), "--results", str(tmp_path / "results")])
    told = json.loads((tmp_path / "results" / "rdc_shift_digits.json").read_text())
    assert str(tmp_path) not in json.dumps(told)
    assert told["records"][0]["n"] == 1797
    assert told["records"][0]["moved"] > 0
