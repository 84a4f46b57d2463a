"""The matrix: its rewrites agree with the banks, it goes on where it ended, and it judges."""

import json

import pytest
import torch
from rich.console import Console

from pfcn.bench import __main__ as cli
from pfcn.bench import bank, matrix, table
from pfcn.bench.bank import Shape


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("system", [s for s in bank.SYSTEMS if not s.slow], ids=lambda s: s.name)
@torch.no_grad()
def test_systems_agree(system, shared):
    workload = bank.workload(Shape((5, 7, 3, 2), shared))
    model, inputs = workload.make(6, 4)
    expected = model(*inputs)
    torch.testing.assert_close(system.setup(model, *inputs)(*inputs), expected)


def test_cost_counts_each_float_once():
    for shared in (False, True):
        workload = bank.workload(Shape((5, 7, 3), shared))
        model, (x,) = workload.make(6, 4)
        floats = sum(p.numel() for p in model.parameters()) + x.numel() + model(x).numel()
        assert workload.cost(6, 4).bytes == 4 * floats
        assert workload.cost(6, 4).flops == 2 * 6 * 4 * (5 * 7 + 7 * 3)


def test_cells_that_do_not_fit_are_left_out():
    cells = list(matrix.cells([1, 2]))
    assert len({cell.key for cell in cells}) == len(cells)
    assert {cell.threads for cell in cells} == {1, 2}
    assert all(cell.bytes <= matrix.MOST_BYTES for cell in cells)
    assert not any(c.shape.widths == (256, 1024, 256) and c.instances == 10000 for c in cells)
    assert cells[0].bytes < cells[-1].bytes


def measured(name, batch, **us):
    rows = [{"system": system.replace("_", " "), "us_median": time} for system, time in us.items()]
    key = f"{name} batch={batch} threads=1"
    return {"cell": key, "widths": [8, 16, 1], "batch": batch, "threads": 1, "rows": rows}


def test_verdict():
    cell = measured("a n=10", 1, eager_loop=90, vmap=20, pfcn_live=10, pfcn_frozen=8, bound=4)
    verdict = matrix.judge(cell)
    assert (verdict.alternative, verdict.gain, verdict.over_bound) == ("vmap", 2.5, 2)
    assert matrix.judge(measured("a", 1, eager_loop=9, pfcn_live=None)) is None
    lost = measured("b n=10", 16, vmap=8, pfcn_live=10, bound=1)
    summary = matrix.summarise([cell, lost])
    assert summary["slower than the best alternative by over 5 %"].startswith("b n=10")
    assert summary["geometric mean, all"] == "1.41 (2 cells)"


def test_a_run_goes_on_where_the_last_one_ended(tmp_path, monkeypatch):
    asked = []

    def measure_cell(cell, **options):
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(cell.key)
        return measured(cell.shape.name, cell.batch, vmap=2, pfcn=1, bound=1) | {"cell": cell.key}

    monkeypatch.setattr(matrix, "measure_cell", measure_cell)
    options = {"threads": [1], "rounds": 1, "seconds": 0.1, "everything": False}
    only, file = "n=10 batch=1 ", tmp_path / "matrix.json"
    with pytest.raises(KeyboardInterrupt):
        matrix.run(file, only=only, **options)
    first = list(asked)
    assert [cell["cell"] for cell in json.loads(file.read_text())] == first
    asked.clear()
    with pytest.raises(KeyboardInterrupt):
        matrix.run(file, only=only, **options)
    assert not set(asked) & set(first)
    assert len(json.loads(file.read_text())) == 4
    matrix.heat_map(tmp_path / "matrix.svg", json.loads(file.read_text()))
    assert "</svg>" in (tmp_path / "matrix.svg").read_text()
    matrix.show(Console(width=100), json.loads(file.read_text()))


def test_the_command_needs_a_file(capsys):
    assert cli.main(["matrix"]) == 1
    assert "--json FILE" in capsys.readouterr().err


def test_page(tmp_path):
    done = [
        measured("a n=10", 1, eager_loop=90, vmap=11, pfcn_live=10, bound=4),
        measured("a n=10", 16, eager_loop=80, vmap=40, pfcn_live=10, bound=5),
    ]
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- figures: of a test -->\nold\n<!-- end -->\nafter\n")
    table.write_figures(page, matrix.markdown(done))
    text = page.read_text()
    assert text.startswith("before") and text.endswith("after\n") and "old" not in text
    assert "| a n=10, 1 thread | 1.10× vmap · 0.40 | 4.00× vmap · 0.50 |  |" in text
    assert "| vmap | 2 / 2 | 1 · 2.5× | a n=10 batch=1 threads=1 (1.10×) |" in text
    page.write_text("nothing to write between")
    with pytest.raises(ValueError, match="no lines"):
        table.write_figures(page, matrix.markdown(done))
    assert page.read_text() == "nothing to write between"
