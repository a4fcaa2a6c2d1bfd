"""What the tests of the app's pages do in a browser again and again."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page, expect

from helpers.app_runs import Running


def ready(page: Page, path: str, app: Running) -> None:
    page.goto(app.address + path)


def tiles(page: Page) -> Any:
    """The tiles of the grid that have their item."""
    return page.locator("#grid .cell[data-row]")


def open_group(page: Page, app: Running, group: int) -> None:
    ready(page, f"g/{group}", app)
    expect(tiles(page).first).to_be_focused()


def decided(app: Running, page: Page, count: int) -> None:
    """Wait until the log has so many events after its first line, and the page has heard of it."""
    app.review.wait(count - 1, 30)
    expect(page.locator("#saved")).to_have_text("saved")
    assert app.review.last == count
