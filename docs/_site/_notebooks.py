"""A notebook as a page: its text, its code, and the output that is kept in it. Needs no kernel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parents[2] / "examples"


def page(name: str) -> str:
    """The notebook `examples/NAME.ipynb` in Markdown."""
    cells = json.loads((EXAMPLES / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    parts = [f"`examples/{name}.ipynb`, run by `python examples/run.py {name}`"]
    for cell in cells:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(text)
            continue
        parts.append(f"```python\n{text}\n```")
        parts += [shown for output in cell["outputs"] if (shown := output_of(output))]
    title = parts[1].split("\n", 1)
    return "\n\n".join([title[0], parts[0], *title[1:], *parts[2:]]) + "\n"


def output_of(output: dict[str, Any]) -> str:
    """What a cell gave: a picture where there is one, else text."""
    data = output.get("data", {})
    if "image/png" in data:
        picture = "".join(data["image/png"]).replace("\n", "")
        return f'<img alt="output of the cell above" src="data:image/png;base64,{picture}">'
    text = "".join(output.get("text") or data.get("text/plain") or "").rstrip()
    return f"```text\n{text}\n```" if text else ""
