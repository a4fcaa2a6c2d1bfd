import re
from xml.etree import ElementTree

import numpy as np
import pytest

from coterie.evaluation import reliability
from coterie.report import charts, wording
from coterie.report.scatter import scatter


def heights(drawing: str) -> list[float]:
    return [float(bar.get("height", 0)) for bar in ElementTree.fromstring(drawing).iter("rect")]


def drawn(drawing: str, tag: str, kind: str) -> list[dict[str, float]]:
    """The numbers of all elements of a class."""
    found = [one for one in ElementTree.fromstring(drawing).iter(tag) if one.get("class") == kind]
    return [{name: float(one.get(name, 0)) for name in one.keys() if name != "class"} for one in found]  # noqa: SIM118


def written(drawing: str) -> list[tuple[str, float, float]]:
    """All texts and where they stand."""
    texts = ElementTree.fromstring(drawing).iter("text")
    return [("".join(one.itertext()), float(one.get("x", 0)), float(one.get("y", 0))) for one in texts]


def test_histogram_bars_are_as_high_as_the_counts() -> None:
    drawing = charts.histogram(np.array([0.05, 0.05, 0.95, 0.95, 0.95, 0.95]), "images", bins=10)
    low, high = heights(drawing)
    assert low == pytest.approx(high / 2, abs=0.1)


def test_histogram_bars_lie_at_their_confidences_those_below_a_half_in_doubt() -> None:
    drawing = charts.histogram(np.array([0.05, 0.05, 0.45, 0.55, 1.0, 1.0]), "images", bins=10)
    (axis,), (marker,) = drawn(drawing, "line", "axis"), drawn(drawing, "line", "marker")
    wide = axis["x2"] - axis["x1"]
    middles = {
        kind: [(bar["x"] + bar["width"] / 2 - axis["x1"]) / wide for bar in drawn(drawing, "rect", kind)]
        for kind in ("bar doubt", "bar")
    }
    assert middles["bar doubt"] == pytest.approx([0.05, 0.45], abs=0.002)
    assert middles["bar"] == pytest.approx([0.55, 0.95], abs=0.002)
    assert (marker["x1"] - axis["x1"]) / wide == pytest.approx(3.1 / 6, abs=0.002)
    assert {round(bar["y"] + bar["height"] - axis["y1"]) for bar in drawn(drawing, "rect", "bar")} == {0}


def test_a_confidence_of_float32_on_the_edge_of_a_bar_or_rounded_above_one_is_in_its_bar() -> None:
    drawing = charts.histogram(np.float32([0.9, 0.7, 1.0 + 2e-7]).astype(float), "images", bins=10)
    wide, left = (lambda axis: (axis["x2"] - axis["x1"], axis["x1"]))(drawn(drawing, "line", "axis")[0])
    middles = [(bar["x"] + bar["width"] / 2 - left) / wide for bar in drawn(drawing, "rect", "bar")]
    assert middles == pytest.approx([0.75, 0.95], abs=0.002)
    low, high = heights(drawing)
    assert low == pytest.approx(high / 2, abs=0.1)


def test_curve_goes_through_its_values_and_says_the_lowest_and_the_highest() -> None:
    drawing = charts.curve([1, 2, 5], [1.0, 3.0, 2.0], "loss")
    path = next(ElementTree.fromstring(drawing).iter("path")).get("d", "")
    (x1, y1), (x2, y2), (x3, y3) = [tuple(map(float, part.split())) for part in re.split("[ML]", path)[1:]]
    assert (x2 - x1) / (x3 - x1) == pytest.approx(1 / 4, abs=0.01)
    assert (y1 - y2) / (y1 - y3) == pytest.approx(2, abs=0.05)
    said = {text: (x, y) for text, x, y in written(drawing)}
    assert y1 > y2
    assert said["3"][1] - y2 == pytest.approx(4, abs=0.11)  # half the height of a digit
    assert said.keys() == {"1", "3", "epoch 5"}
    assert [dot["cy"] for dot in drawn(drawing, "circle", "dot")] == pytest.approx([y3], abs=0.1)


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


def test_shades_have_their_first_bin_below_and_their_first_epoch_on_the_left() -> None:
    drawing = charts.shades([1, 2], [[4, 0, 0, 0], [0, 0, 0, 4]])
    (axis,) = drawn(drawing, "line", "axis")
    path = next(ElementTree.fromstring(drawing).iter("path")).get("d", "")
    (x1, y1), (x2, y2) = [tuple(map(float, part.split("h")[0].split())) for part in path.split("M")[1:]]
    assert (x1, x2) == pytest.approx((axis["x1"], (axis["x1"] + axis["x2"]) / 2))
    assert (axis["y1"] - y1) / (axis["y1"] - y2) == pytest.approx(1 / 4)


def test_reliability_diagram_has_its_bars_where_the_diagonal_says() -> None:
    confidence, right = np.array([0.3] * 4 + [0.9] * 2), np.array([True, False, False, False, True, True])
    drawing = charts.reliability_diagram(reliability(confidence, right))
    (line,) = drawn(drawing, "line", "diagonal")

    def at(share: float) -> tuple[float, float]:
        return line["x1"] + share * (line["x2"] - line["x1"]), line["y1"] + share * (line["y2"] - line["y1"])

    bars, numbers = drawn(drawing, "rect", "bar"), drawn(drawing, "rect", "bar quiet")
    for bar, number, low, accuracy in zip(bars, numbers, (4, 13), (0.25, 1.0), strict=True):
        for rect in (bar, number):
            assert at(low / 15)[0] < rect["x"] < rect["x"] + rect["width"] < at((low + 1) / 15)[0]
        assert (bar["y"] + bar["height"], bar["y"]) == pytest.approx((at(0)[1], at(accuracy)[1]), abs=0.11)
    assert numbers[0]["height"] / numbers[1]["height"] == pytest.approx(2, abs=0.05)
    for kind, low, high in (("gap over", 0.25, 0.3), ("gap under", 0.9, 1.0)):
        (gap,) = drawn(drawing, "rect", kind)
        assert (gap["y"] + gap["height"], gap["y"]) == pytest.approx((at(low)[1], at(high)[1]), abs=0.11)
    halves = [(x, y) for text, x, y in written(drawing) if text == "50%"]
    assert halves[0][1] - 4 == pytest.approx(at(0.5)[1], abs=0.11)
    assert halves[1][0] == pytest.approx(at(0.5)[0], abs=0.11)


def test_confusion_matrix_has_classes_down_and_groups_across() -> None:
    drawing = charts.confusion_matrix(np.array([[0, 5, 0], [3, 0, 1], [0, 0, 3]]), ["a", "b", "c"], [7, 8, 9])
    (field,), found = drawn(drawing, "rect", "field"), {}
    for path in ElementTree.fromstring(drawing).iter("path"):
        for corner in path.get("d", "").split("M")[1:]:
            x, y = map(float, corner.split("h")[0].split())
            row, column = (y - field["y"]) / field["height"] * 3, (x - field["x"]) / field["width"] * 3
            found[int(row), int(column)] = float(path.get("fill-opacity", 0))
    assert found == {(0, 1): 1.0, (1, 0): 0.75, (1, 2): 0.25, (2, 2): 1.0}
    assert [text for text, _, _ in written(drawing)][-4:] == ["100", "75", "25", "100"]


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


def test_map_has_each_dot_at_its_place_in_the_colour_of_its_group_bolder_where_sure() -> None:
    places = np.array([[0.0, 0.0], [10.0, 10.0], [5.0, 10.0]])
    drawing = scatter(places, np.array([0, 1, 1]), np.float32([0.4, 0.7, 0.9]).astype(float), {})
    dots = {path.get("class"): path.get("d") for path in ElementTree.fromstring(drawing).iter("path")}
    assert dots == {"dots b0 c0": "M34 34h0", "dots b1 c1": "M926 566h0", "dots b2 c1": "M480 566h0"}


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
        (wording.short_percent(0.004), "<1%"),
        (wording.short_percent(0.005), "<1%"),
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
