"""Every screen for people who see little or use no mouse: axe-core's rules, a focus that is seen, the story by keys."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from helpers.app_runs import Running

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright.sync_api import Page, expect

SCREENS = {
    "": ".review",
    "g/2": "#grid .cell[data-row]",
    "g/-1": "h1",
    "queue": "#task[data-row]",
    "compare/1/2": "#between .cell",
    "split/2": ".part",
    "map": "#in-view .cell",
    "accept": "#by-group tbody tr",
    "audit": "#task[data-place]",
    "history": "#history li",
    "export": "#export",
    "g/999": "h1",
}
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
FAULTS = """async (rules) => {
    const found = await axe.run(document, { runOnly: rules, resultTypes: ["violations"] });
    return found.violations.map((one) => `${one.id}: ${one.nodes.map((node) => node.html.slice(0, 120)).join(" | ")}`);
}"""
# What has the focus, whether anything shows that it has, and whether it lies in the window.
FOCUS = """() => {
    const node = document.activeElement, style = getComputedStyle(node), box = node.getBoundingClientRect();
    const shown = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
    return [node.outerHTML.slice(0, 80), shown, box.bottom > 0 && box.top < innerHeight, node === document.body];
}"""


@pytest.fixture
def busy(app: Running) -> Running:
    """A review with some of everything, and an open audit."""
    review = app.review
    review.rename(0, "cats").move(review.state.members(1)[:3], 2).reject(review.state.members(3)[:2])
    review.draw(20, max_error=0.1, seed=0)
    review.propose_split(2, 2)  # what it imports takes a busy machine longer than a page is waited for
    return app


def faults(page: Page) -> dict[str, list[str]]:
    """What axe finds in the light and in the dark colours of a screen."""
    source = resources.files(pytest.importorskip("axe_playwright_python", reason="axe-core is not installed"))
    if not page.evaluate("'axe' in window"):
        page.evaluate((source / "axe.min.js").read_text(encoding="utf-8"))
    found = {}
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        assert page.evaluate(f"matchMedia('(prefers-color-scheme: {scheme})').matches")
        found[scheme] = page.evaluate(FAULTS, RULES)
    return {scheme: said for scheme, said in found.items() if said}


def test_axe_finds_nothing(browser: Any, busy: Running) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    page = context.new_page()
    page.set_default_timeout(60_000)
    found = {}
    for path, ready in SCREENS.items():
        page.goto(busy.address + path)
        page.wait_for_selector(ready, state="attached")
        found[path] = faults(page)
        if path == "g/2":
            page.keyboard.press("f")
            page.wait_for_selector("#sweep-text")
            found["the sweep"] = faults(page)
        if path == "":
            page.keyboard.press("?")
            found["the keys"] = faults(page)
    context.close()
    assert {path: said for path, said in found.items() if said} == {}


@pytest.mark.parametrize("path", ["", "g/2", "queue", "history", "export"])
def test_the_focus_is_seen_wherever_tab_leads(page: Page, busy: Running, path: str) -> None:
    page.goto(busy.address + path)
    page.wait_for_selector(SCREENS[path], state="attached")
    assert page.locator("[tabindex]:not([tabindex='0'], [tabindex='-1'])").count() == 0
    seen = []
    for _ in range(25):
        page.keyboard.press("Tab")
        what, shown, inside, outside = page.evaluate(FOCUS)
        if outside:
            break
        assert shown, what
        assert inside, what
        seen.append(what)
    assert len(set(seen)) >= 4


@pytest.mark.usefixtures("home")
def test_the_story_by_keyboard_alone(page: Page, app: Running, tmp_path: Path) -> None:
    """Name, compare, merge, split, sweep with a stray, undo, doubtful ones, an audit, an export: no mouse."""
    review, key = app.review, page.keyboard.press
    review.propose_split(2, 2)  # imports

    def decided(count: int) -> None:
        review.wait(count - 1, 30)
        expect(page.locator("#saved")).to_have_text("saved")
        assert review.last == count

    def tab_to(name: str) -> None:
        for _ in range(200):
            if page.evaluate("document.activeElement.id") == name:
                return
            key("Tab")
        pytest.fail(f"the Tab key does not reach #{name}")

    number = int(page.locator(".review").first.get_attribute("data-group") or -1)
    key("n")
    page.keyboard.type("tabby cats")
    key("Enter")
    decided(1)
    expect(page.locator(f'.review[data-group="{number}"]')).to_be_focused()  # the focus is kept after an act
    other = next(group for group in (1, 2, 3) if group != number)
    key("c")
    page.keyboard.type(str(other))
    key("Enter")
    page.wait_for_url("**/compare/**")
    expect(page.locator("#between .cell").first).to_be_visible()
    key("m")
    page.wait_for_url(re.compile(r"/g/\d+"))
    decided(2)
    merged = int(page.url.rpartition("/")[2])
    expect(page.locator("#grid .cell[data-row]").first).to_be_focused()
    key("s")
    page.wait_for_url(f"**/split/{merged}")
    expect(page.locator("#take")).to_be_enabled()
    key("Enter")
    page.wait_for_url("**/?sort=number")
    decided(3)
    key("z")
    decided(4)
    key("/")
    page.keyboard.type(str(merged))
    key("Enter")
    page.wait_for_url(f"**/g/{merged}")
    expect(page.locator("#grid .cell[data-row]").first).to_be_focused()
    key("f")
    expect(page.locator("#sweep-text")).to_be_visible()
    key("ArrowRight")
    key("x")
    expect(page.locator("#sweeping .struck")).to_have_count(1)
    key("f")
    expect(page.locator("#sweeping")).to_be_hidden()
    decided(6)  # a rejection and an approval
    key("q")
    expect(page.locator("#task[data-row]")).to_be_focused()
    row = page.locator("#task").get_attribute("data-row")
    key("a")
    expect(page.locator(f'#task[data-row="{row}"]')).to_have_count(0)
    decided(7)
    key("v")
    page.wait_for_url("**/audit")
    tab_to("size")
    key("Control+a")
    page.keyboard.type("20")
    key("Enter")
    for place in range(20):
        expect(page.locator(f'#task[data-place="{place}"]')).to_be_focused()
        key("f")
    expect(page.locator("#end")).to_be_focused()
    key("Enter")
    expect(page.locator("#audit-1")).to_be_visible()
    page.wait_for_load_state("load")
    key("e")
    page.wait_for_url("**/export")
    tab_to("out")
    key("Control+a")
    page.keyboard.type(str(tmp_path / "groups.csv"))
    key("Enter")
    expect(page.locator("#job")).to_contain_text("groups.csv")
    assert (tmp_path / "groups.csv").read_text(encoding="utf-8").startswith("id,label,name")
