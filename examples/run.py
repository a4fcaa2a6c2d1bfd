"""Run the notebooks of this folder and keep their output in them.

    pip install nbclient ipykernel
    python examples/run.py               # all of them, or those that are named: python examples/run.py photos

The site shows them as they are kept here (`make docs`); `tests/test_examples.py` runs their code.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent


def renew(path: Path) -> None:
    """Run one notebook in a fresh kernel. Times and warnings of libraries (standard error) are not kept."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, kernel_name="python3", record_timing=False).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    nbformat.write(notebook, path)
    print(path.name)


if __name__ == "__main__":
    for name in sys.argv[1:] or sorted(path.stem for path in HERE.glob("*.ipynb")):
        renew(HERE / f"{name}.ipynb")
