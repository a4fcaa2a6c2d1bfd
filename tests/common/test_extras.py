"""Optional packages that are missing, and that are there and broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from coterie.common.extras import imported
from coterie.types import InputError


def test_a_package_that_is_broken_is_not_called_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`import ray.data` under python -OO was told as coterie's own error, a wrong build of faiss as a missing one."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken_one.py").write_text("None + 'docstring'")
    (tmp_path / "wrong_build.py").write_text("raise ImportError('GLIBC_2.99 not found.')")
    (tmp_path / "half_there.py").write_text("import no_such_package")
    (tmp_path / "greedy.py").write_text("raise MemoryError")
    assert imported("json", "absent").dumps([]) == "[]"
    for name in ("no_such_package", "half_there"):
        with pytest.raises(InputError, match=r"^Install it\.$"):
            imported(name, "Install it.")
    with pytest.raises(InputError, match=r"package broken_one is installed, but cannot be imported here \(TypeError"):
        imported("broken_one", "Install it.")
    with pytest.raises(InputError, match=r"\(ImportError: GLIBC_2\.99 not found\): repair it"):
        imported("wrong_build", "Install it.")
    with pytest.raises(MemoryError):
        imported("greedy", "Install it.")
