import base64
import hashlib
import io
import json
import re
from collections.abc import Callable
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from coterie.data.encoding import encode
from coterie.evaluation import evaluate
from coterie.measuring import evaluate_run
from coterie.report import write_report
from coterie.types import Encoding, InputError
from helpers.review_runs import put_far_outside, write_run

MakeRun = Callable[..., Path]
VOID = {"meta", "link", "img", "br", "input"}


class Page(HTMLParser):
    """The page as a browser would see it: its elements with attributes, its visible text, its scripts."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.scripts: list[str] = []
        self.feed(self.source)
        assert self.open == [], "every element is closed"

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif self.open and self.open[-1] not in ("style", "title"):
            self.text += " " + data

    def all(self, tag: str, kind: str | None = None) -> list[dict[str, str | None]]:
        return [a for t, a in self.elements if t == tag and (kind is None or kind in (a.get("class") or "").split())]

    def words(self) -> str:
        return re.sub(r"\s+", " ", self.text)


VARIANTS = {
    "images": {},
    "labels": {"class_names": ["cat", "dog", "owl"]},
    "embeddings": {"kind": "embeddings"},
    "many groups": {"n": 400, "k": 40, "top": 5, "class_names": [f"class {i}" for i in range(40)]},
    "large images": {"side": 80},
    "failed": {
        "has_result": False,
        "status": "failed",
        "failure": {"reason": "All collapsed.", "advice": "Try again."},
    },
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_page_is_one_file_that_asks_for_nothing(make_run: MakeRun, variant: str) -> None:
    run = make_run(**VARIANTS[variant])
    path = write_report(run)
    page = Page(path)
    assert path == run / "report.html"
    assert not list(run.glob("*.unfinished"))
    for tag, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "srcset", "action", "data", "poster"):
            assert (attributes.get(name) or "data:").startswith(("data:", "#")), (tag, attributes)
        assert not any(name.startswith("on") for name in attributes)
    assert "http:" not in page.source
    assert "https:" not in page.source
    assert "url(" not in page.source
    assert "@import" not in page.source


def test_every_link_leads_somewhere(make_run: MakeRun) -> None:
    page = Page(write_report(make_run(class_names=["a", "b"])))
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    links = [(a["href"] or "")[1:] for a in page.all("a")]
    assert links
    assert set(links) <= set(ids)


def test_only_our_script_runs(make_run: MakeRun) -> None:
    """Names that a user cannot choose, such as those of downloaded files, stay text."""
    attack = "<script>alert(1)</script>.png"
    quote = "\"'><img src=x onerror=alert(1)>"
    run = make_run(
        ids=[f"{attack}{i}" for i in range(60)],
        class_names=[quote, "b"],
        source={"name": attack, "origin": quote, "skipped": [{"id": attack, "reason": quote}], "notes": [attack]},
        warnings=[attack],
        command=quote,
        stages=[{"name": attack, "settings": {quote: attack}}],
    )
    page = Page(write_report(run))
    assert len(page.all("script")) == len(page.scripts) == 1
    assert all((a.get("src") or "").startswith("data:") for a in page.all("img"))
    assert attack in page.text
    policy = next(a["content"] or "" for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(hashlib.sha256(page.scripts[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy


def test_a_name_does_not_turn_the_numbers_behind_it(make_run: MakeRun) -> None:
    turned = "\u202egnp.exe"
    run = make_run(ids=[f"{i}{turned}" for i in range(60)], warnings=[turned], command=turned)
    text = write_report(run).read_text()
    assert "\u202e" not in text
    assert "\\u202egnp.exe" in text


def test_pictures_are_the_pixels_and_have_texts(make_run: MakeRun) -> None:
    run = make_run()
    page = Page(write_report(run))
    pictures = [a for a in page.all("img") if (a["src"] or "").startswith("data:image")]
    with np.load(run / "gallery.npz") as gallery:
        assert len(pictures) == len(gallery["rows"]) == len(page.all("button", "thumb"))
        first = Image.open(io.BytesIO(base64.b64decode((pictures[0]["src"] or "").split(",")[1])))
        np.testing.assert_array_equal(np.asarray(first), gallery["images"][0])
        assert (pictures[0]["alt"] or "").startswith(f"{gallery['ids'][0]}: group 0, confidence ")
    assert all(a.get("alt") for a in pictures)
    assert all(a.get("aria-label") for a in page.all("svg", "chart"))


def test_no_picture_waits_until_it_is_scrolled_to(make_run: MakeRun) -> None:
    pictures = Page(write_report(make_run())).all("img")
    assert len(pictures) > 1
    assert all(picture.get("loading") is None for picture in pictures), "browsers print such pictures as empty boxes"


def test_groups_are_cards_and_many_groups_are_rows(make_run: MakeRun) -> None:
    few = Page(write_report(make_run(k=4)))
    assert len(few.all("article", "card")) == 4
    many = Page(write_report(make_run(n=400, k=40, top=5)))
    assert len(many.all("article", "card")) == 0
    assert sum((a.get("id") or "").startswith("group-") for a in many.all("tr")) == 40


def test_an_empty_group_is_said_to_be_empty(make_run: MakeRun) -> None:
    page = Page(write_report(make_run(n_clusters=6)))
    assert "4 of 6" in page.words()
    assert page.words().count("Nothing was put here.") == 2


def test_embeddings_show_ids_in_place_of_pictures(make_run: MakeRun) -> None:
    page = Page(write_report(make_run(kind="embeddings", ids=[f"row{i}" for i in range(60)])))
    assert not page.all("img")
    assert not page.all("dialog")
    assert "60 embeddings in 4 groups" in page.words()
    assert sum((a.get("title") or "").startswith("row") for a in page.all("code")) > 40


@pytest.mark.parametrize("top", [0, 3])
def test_doubtful_items_name_the_second_likeliest_group(make_run: MakeRun, top: int) -> None:
    run = make_run(kind="embeddings")
    table = pq.read_table(run / "result.parquet").to_pydict()
    run = make_run(kind="embeddings", top=top)
    words = Page(write_report(run)).words()
    most_doubtful = table["probabilities"][int(np.argmin(table["confidence"]))]
    second = int(np.argsort(most_doubtful)[-2])
    assert f"{100 * max(most_doubtful):.0f}% or {second} ({100 * most_doubtful[second]:.0f}%)" in words


@pytest.mark.parametrize("top", [0, 3])
def test_the_other_group_of_an_item_between_two_is_not_its_own(make_run: MakeRun, top: int) -> None:
    run = make_run(kind="embeddings", top=top)
    columns = pq.read_table(run / "result.parquet").to_pydict()
    doubtful = int(np.argmin(columns["confidence"]))
    columns["label"][doubtful], columns["confidence"][doubtful] = 0, 0.11
    if top:
        columns["top_labels"][doubtful], columns["top_probabilities"][doubtful] = [0, 2, 1], [0.11, 0.11, 0.0]
    else:
        columns["probabilities"][doubtful] = [0.11, 0.0, 0.11, 0.0]
    pq.write_table(pa.table(columns), run / "result.parquet")
    assert "11% or 2 (11%)" in Page(write_report(run)).words()


def test_numbers_of_the_labels_appear(make_run: MakeRun) -> None:
    run = make_run(class_names=["cat", "dog", "owl"])
    metrics = json.loads((run / "metrics.json").read_text()) | {"labels": "They equal the run's own groups"}
    (run / "metrics.json").write_text(json.dumps(metrics))
    words = Page(write_report(run)).words()
    assert "Against true labels Of 60 images with a known label" in words
    assert "Labels: They equal the run's own groups." in words
    for key in ("acc", "nmi", "ece", "aurc"):
        assert f"{100 * metrics[key]:.1f}%" in words
    assert "clustering head 12.3% 45.6%" in words
    assert "stands for cat" in words


def test_without_labels_nothing_claims_to_be_measured(make_run: MakeRun) -> None:
    words = Page(write_report(make_run())).words()
    for word in ("Against true labels", "accuracy", "Reliability", "found"):
        assert word not in words


def test_what_is_accepted_is_counted_of_all_where_few_have_a_label(make_run: MakeRun) -> None:
    """With labels of 6 of 60 pictures the page said that 6 of all are accepted at any confidence."""
    run = make_run(class_names=["cat", "dog", "owl"])
    p = np.array(pq.read_table(run / "result.parquet")["probabilities"].to_pylist())
    labels = np.where(np.arange(60) < 6, np.arange(60) % 3, -1)
    metrics = evaluate(labels, p, class_names=["cat", "dog", "owl"], resamples=0)
    (run / "metrics.json").write_text(json.dumps(metrics))
    words = Page(write_report(run)).words()
    expected, error = 100 * (1 - p.max(1).mean()), 100 * metrics["acceptance"][0]["error"]
    assert f"errors expected found of 6 labelled any 100.0% 60 {expected:.1f}% {error:.1f}%" in words


def test_merges_by_a_person_are_not_called_judgements_of_items(make_run: MakeRun) -> None:
    words = Page(write_report(make_run(labels_used={"merges": 2}))).words()
    assert "Merges by a person took part A person put groups together" in words
    assert "judged labels" not in words
    words = Page(write_report(make_run(labels_used={"merges": 2, "judged": 7}))).words()
    assert "7 judged labels took part People said of these items where they belong" in words


def test_headline_counts_and_says_how_sure(make_run: MakeRun) -> None:
    words = Page(write_report(make_run())).words()
    assert "60 images in 4 groups" in words
    assert "Sorted by moco in 1 min 15 s." in words
    encoding = asdict(Encoding("dinov2-small", "vit", "ab" * 32, "Apache-2.0", "pictures alone", 224, origin=""))
    encoding |= {"mean": [0.5] * 3, "std": [0.5] * 3}
    source = {"name": "photos", "n": 60, "spec": {"kind": "embeddings", "dim": 5, "encoding": encoding}}
    words = Page(write_report(make_run(backbone={"name": "identity"}, source=source))).words()
    assert "Sorted by moco in 1 min 15 s, on embeddings by dinov2-small." in words
    assert "time after the embedding 1 min 15 s" in words
    assert re.search(r"Mean confidence is \d+\.\d%: if it can be believed, about \d+ of 60 images", words)


def test_a_failed_run_says_so_first(make_run: MakeRun) -> None:
    words = Page(write_report(make_run(**VARIANTS["failed"]))).words()
    assert "This run failed All collapsed. Try again." in words
    assert words.index("This run failed") < words.index("60 images")


@pytest.mark.parametrize(("status", "text"), [("running", "not finished"), ("stopped", "was stopped")])
def test_an_unfinished_run_says_so(make_run: MakeRun, status: str, text: str) -> None:
    assert text in Page(write_report(make_run(status=status))).words()


def test_what_was_left_out_is_listed(make_run: MakeRun) -> None:
    skipped = [{"id": f"bad_{i}.jpg", "reason": "truncated"} for i in range(700)]
    words = Page(
        write_report(make_run(source={"name": "x", "skipped": skipped, "notes": ["Grey became RGB."]}))
    ).words()
    assert "bad_0.jpg truncated" in words
    assert "and 200 more" in words
    assert "Grey became RGB." in words


def test_a_bare_run_yaml_is_enough(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("status: running\n")
    assert "not finished" in Page(write_report(tmp_path)).words()


def test_a_half_written_line_of_history_is_passed_over(make_run: MakeRun) -> None:
    run = make_run()
    with (run / "history.jsonl").open("a") as file:
        file.write('{"stage": "moco", "epo')
    assert "3 epochs" in Page(write_report(run)).words()


@pytest.mark.parametrize("name", ["run.yaml", "metrics.json", "result.parquet", "gallery.npz", "map.npz"])
def test_a_broken_file_is_named(make_run: MakeRun, name: str) -> None:
    run = make_run()
    (run / name).write_bytes(b"{ no such format")
    with pytest.raises(InputError, match=re.escape(name)):
        write_report(run)


def test_a_pickle_is_never_opened(make_run: MakeRun) -> None:
    run = make_run()
    np.savez(run / "map.npz", rows=np.array([{}], dtype=object), xy=np.zeros((1, 2)))
    with pytest.raises(InputError, match=r"map\.npz"):
        write_report(run)


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no run\.yaml"):
        write_report(tmp_path)


def test_confidences_that_are_not_calibrated_promise_nothing(make_run: MakeRun) -> None:
    words = Page(write_report(make_run(calibrated=False, notes=["Neighbours differ."]))).words()
    assert re.search(r"Mean confidence is \d+\.\d%, not calibrated", words)
    assert "if it can be believed" not in words
    assert "Accept the sure part" not in words
    assert "Neighbours differ." in words


def test_rows_far_outside_are_accepted_at_no_threshold(tmp_path: Path) -> None:
    """Before, the table counted them, and `accept` does not."""
    p = np.array([[0.99, 0.01], [0.97, 0.03], [0.04, 0.96], [0.3, 0.7]], np.float32)
    run = write_run(tmp_path / "run", p, kind="embeddings")
    put_far_outside(run, "0")
    metrics = evaluate_run(run, encode(["b", "a", "b", "b"]))
    assert [(row["count"], row["error"]) for row in metrics["acceptance"] if row["threshold"] in (0.0, 0.95)] == [
        *((3, 0.0), (2, 0.0))
    ]
    page = write_report(run).read_text(encoding="utf-8")
    assert "1 far outside the others: not accepted." in page
    assert re.search(r"(?s)≥ 95%.*?<span>50\.0%</span></td><td>2</td><td>3\.5%</td><td>0\.0%</td>", page)
