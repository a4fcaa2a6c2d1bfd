"""The bars of a board's figure."""

import json

import board_figure
from board_figure import bars


def record(row, acc, failed=None):
    return {"row": row, "failed": failed, "metrics": {"acc": acc, "confidence": 0.9}, "heads": {}}


def test_a_figure_is_written_and_has_a_line_for_each_row_that_ran(tmp_path):
    records = [record("moco", 0.5), record("moco", 0.7), record("cc", 0.6), {"row": "tcc", "failed": "collapsed"}]
    (tmp_path / "board_cdc_digits-60.json").write_text(json.dumps({"records": records}))
    board_figure.main(["cdc", "digits-60", "--results", str(tmp_path), "--figures", str(tmp_path / "figures")])
    png = (tmp_path / "figures" / "board_cdc_digits-60.png").read_bytes()
    assert png.startswith(b"\x89PNG")
    heights = [int.from_bytes(bars("cdc", some)[20:24], "big") for some in (records, records[2:])]
    assert heights[0] > heights[1]
