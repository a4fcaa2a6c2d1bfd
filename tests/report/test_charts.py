import re
from xml.etree import ElementTree

import numpy as np
import pytest

from coterie.evaluation import reliability
from coterie.report import charts, wording
from coterie.report.scatter import scatter


def heights(drawing: str) -> list[float]:
    return [float(bar.get("height", 0)) for bar in ElementTree.fromstring(drawing).iter("rect")]


def test_histogram_bars_are_as_high_as_the_counts() -> None:
    drawing = charts.histogram(np.array([0.05, 0.05, 0.95, 0.95, 0.95, 0.95]), "images", bins=10)
    low, high = heights(drawing)
    assert low == pytest.approx(high / 2, abs=0.1)


def test_curve_leaves_a_gap_where_a_loss_is_not_finite() -> None:
    drawing = charts.curve([1, 2, 3, 4], [3.0, float("nan"), 2.0, float("inf")], "loss")
    path = next(ElementTree.fromstring(drawing).iter("path")).get("d", "")
    assert re.sub(r"[\d. ]", "", path) == "MM"
    assert "nan" not in drawing


@pytest.mark.parametrize("values", [[float("nan")], [0.0], [5.0, 5.0], list(np.linspace(1, 0, 2000))])
def test_curve_draws_whatever_comes(values: list[float]) -> None:
    drawing = charts.curve(range(1, len(values) + 1), values, 'a "label" <b>')
    assert ElementTree.fromstring(drawing).get("aria-label") == 'a "label" <b>'
    assert len(drawing) < 10_000


@pytest.mark.parametrize("epochs", [1, 3, 400])
def test_shades_darken_with_a_bins_share_and_stay_small(epochs: int) -> None:
    histograms = [[0] * 49 + [100], [75, *[0] * 48, 25], [0] * 50] * epochs
    drawing = charts.shades(range(1, epochs + 1), histograms[:epochs])
    cells = {cell.get("fill-opacity"): cell.get("d", "") for cell in ElementTree.fromstring(drawing).iter("path")}
    columns = min(epochs, 60)
    assert "1" in cells  # all items in one bin
    assert sum(path.count("M") for path in cells.values()) <= 2 * columns
    if epochs == 3:
        assert {shade: path.count("M") for shade, path in cells.items()} == {"1": 1, "0.9": 1, "0.5": 1}
    assert len(drawing) < 10_000


def test_reliability_diagram_draws_each_filled_bin_thrice() -> None:
    confidence = np.array([0.3, 0.3, 0.9, 0.99])
    drawing = charts.reliability_diagram(reliability(confidence, np.array([True, False, True, True])))
    assert len(heights(drawing)) == 3 * 3


def test_confusion_matrix_fills_the_diagonal() -> None:
    drawing = charts.confusion_matrix(np.diag([5, 3, 2]), ["a", "<b>", "a name longer than the room for it"], [2, 0, 1])
    root = ElementTree.fromstring(drawing)
    cells = [path for path in root.iter("path") if path.get("class") == "cell"]
    assert [(cell.get("fill-opacity"), (cell.get("d") or "").count("M")) for cell in cells] == [("1", 3)]
    texts = ["".join(text.itertext()) for text in root.iter("text")]
    assert texts == ["a", "<b>", "a name longer t…", "2", "0", "1", "100", "100", "100"]


def test_a_large_confusion_matrix_stays_small() -> None:
    counts = np.random.default_rng(0).integers(0, 50, (200, 220))
    drawing = charts.confusion_matrix(counts, [str(i) for i in range(200)], list(range(220)))
    ElementTree.fromstring(drawing)
    assert len(drawing) < 1_000_000


@pytest.mark.parametrize("n", [1, 300, 20_000])
def test_map_shows_each_group_and_at_most_five_thousand_dots(n: int) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 7
    root = ElementTree.fromstring(
        scatter(rng.normal(size=(n, 2)), labels, rng.random(n), {0: "data:image/png;base64,"})
    )
    dots = sum((path.get("d") or "").count("M") for path in root.iter("path"))
    assert dots == min(n, 5000)
    assert len([g for g in root.iter("g") if g.get("class") == "badge"]) == min(n, 7)
    assert len(list(root.iter("image"))) == 1


def test_map_with_all_items_at_one_place() -> None:
    drawing = scatter(np.zeros((30, 2)), np.arange(30) % 3, np.ones(30), {})
    assert "nan" not in drawing
    badges = {g.get("transform") for g in ElementTree.fromstring(drawing).iter("g")}
    assert len(badges) == 3


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (wording.percent(0.934), "93.4%"),
        (wording.percent(0.99999), ">99.9%"),
        (wording.percent(0.0001), "<0.1%"),
        (wording.percent(-0.0123), "−1.2%"),
        (wording.percent(-0.0001), "0.0%"),
        (wording.percent(None), "–"),
        (wording.short_percent(0.999), ">99%"),
        (wording.short_percent(1.0), "100%"),
        (wording.points(-0.034), "3.4 points"),
        (wording.gap(-0.034), "3.4 points too low"),
        (wording.gap(0.0006), "0.1 points too high"),
        (wording.gap(-0.0004), "as high as it should be"),
        (wording.number(12345.6), "12,346"),
        (wording.number(-999.6), "-1,000"),
        (wording.number(999.4), "999"),
        (wording.number(0.00021345), "0.000213"),
        (wording.number(float("inf")), "not finite"),
        (wording.duration(0), "0.0 s"),
        (wording.duration(59.7), "1 min"),
        (wording.duration(75), "1 min 15 s"),
        (wording.duration(3660), "1 h 1 min"),
        (wording.shorten("photos/a/long/path.jpg", 9), "…path.jpg"),
    ],
)
def test_numbers_read_as_a_person_would_write_them(found: str, expected: str) -> None:
    assert found.replace("\N{NO-BREAK SPACE}", " ") == expected
