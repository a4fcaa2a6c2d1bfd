import base64
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from coterie.report import gallery_rows
from coterie.report.gallery import thumbnail

items = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9)), max_size=60)


@given(items, st.integers(1, 8))
@settings(deadline=None, max_examples=60)
def test_rows_are_those_of_a_slow_search(pairs: list[tuple[int, int]], per_cluster: int) -> None:
    expected = []
    for cluster in sorted({label for label, _ in pairs}):
        members = [row for row, (label, _) in enumerate(pairs) if label == cluster]
        members.sort(key=lambda row: (-pairs[row][1], row))
        surest = members[: min(per_cluster, -(-len(members) // 2))]
        doubtful = members[::-1][: min(per_cluster, len(members) - len(surest))]
        expected += [(row, cluster, 0) for row in surest] + [(row, cluster, 1) for row in doubtful]
    labels = np.array([label for label, _ in pairs], dtype=np.int32)
    found = gallery_rows(labels, np.array([c / 9 for _, c in pairs], dtype=np.float32), per_cluster)
    assert list(zip(*(part.tolist() for part in found), strict=True)) == expected
    assert len(set(found.rows.tolist())) == len(found.rows)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "L"), (3, "RGB"), (4, "RGBA"), (7, "L")])
def test_small_images_are_kept_pixel_by_pixel(channels: int, mode: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 13, channels), dtype=np.uint8)
    kind, data = thumbnail(pixels).split(",")
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert (kind, image.mode) == ("data:image/png;base64", mode)
    middle = slice(channels // 2, channels // 2 + 1)
    np.testing.assert_array_equal(
        np.asarray(image).reshape(9, 13, -1), pixels if channels in (3, 4) else pixels[..., middle]
    )


@pytest.mark.parametrize("channels", [1, 3, 4, 5])
def test_large_images_shrink_and_keep_their_shape(channels: int) -> None:
    kind, data = thumbnail(np.full((400, 200, channels), 90, dtype=np.uint8), 100).split(",")
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert (kind, image.size) == ("data:image/jpeg;base64", (50, 100))
    assert abs(int(np.asarray(image).flat[0]) - 90) <= 3
