"""The README's table of methods, from the catalogue."""

from __future__ import annotations

from coterie.catalogue import method_class, own_names
from coterie.contract import is_trained


def chain(name: str) -> str:
    """The stages that lead to a method on images, as they are typed."""
    before = method_class(name).card.starts_from
    return f"`{name}`" if before is None else f"{chain(before)} → `{name}`"


def methods() -> str:
    """One row for each method of the package: what it is, and which stages it goes through."""
    rows = ["| method | system | family | stages | reads |", "|---|---|---|---|---|"]
    for name in own_names():
        kind = method_class(name)
        card = kind.card
        stages = chain(name) if is_trained(kind) else "no training"
        title = f"[{card.title}](docs/methods/{name}.md) ({card.year})"
        rows.append(f"| `{name}` | {title} | {card.family} | {stages} | {', '.join(card.accepts)} |")
    return "\n".join(rows) + "\n"


BLOCKS = {"methods": methods}
