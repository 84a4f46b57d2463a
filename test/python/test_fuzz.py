"""A fixed sample of the random banks of test/fuzz against eager, and the reduction of a failure."""

import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "fuzz"))
import banks
import fuzz
import reduce


@pytest.mark.parametrize("first", range(0, 80, 20))
def test_banks(first):
    torch.set_num_threads(1)
    for seed in range(first, first + 20):
        case = banks.draw(seed)
        if case.mode in ("exported", "dynamo"):
            continue  # seconds each, of torch's own; test_exported and test_dynamo have them
        try:
            fuzz.check(case)
        except Exception as error:
            if fuzz.runs_in_eager(case):
                raise AssertionError(f"test/fuzz/fuzz.py --count 1 --seed {seed}") from error


def test_each_kind_is_drawn():
    cases = list(map(banks.draw, range(1000)))
    names = ("mode", "body", "source", "join", "edit", "dtype")
    drawn = {name: {getattr(case, name) for case in cases} for name in names}
    assert drawn["mode"] == set(banks.MODES)
    assert drawn["body"] == set(banks.networks.BODIES)
    assert drawn["source"] == set(banks.SOURCES)
    assert drawn["join"] == set(banks.JOINS)
    assert drawn["edit"] == {"", *banks.EDITS}
    assert drawn["dtype"] >= {"float32", "float64", "bfloat16", "float16", *banks.INTEGERS}


def test_a_wrong_result_is_found_and_reduced(monkeypatch):
    """A compiler that is wrong wherever there is a tanh."""
    right = fuzz.compile_for

    def compile_wrongly(case, model, arguments):
        fast = right(case, model, arguments)
        is_wrong = any(layer.get("activation") == "tanh" for layer in case.layers)
        return (lambda *given: torch.utils._pytree.tree_map(lambda t: t + 1, fast(*given))) if (
            is_wrong) else fast  # fmt: skip

    monkeypatch.setattr(fuzz, "compile_for", compile_wrongly)
    seed = next(
        seed
        for seed in range(1000)
        if (case := banks.draw(seed)).mode == "eval"
        and case.count > 4
        and case.body == "mlp"
        and [layer["activation"] for layer in case.layers].count("tanh") == 1
        and len(case.layers) > 1
    )
    case = banks.draw(seed)
    with pytest.raises(fuzz.Differs):
        fuzz.check(case)
    small = reduce.minimise(case, fuzz.fails)
    assert small.count == small.batch == small.width == small.out == 1
    assert [layer["activation"] for layer in small.layers] == ["tanh"]
    again = banks.Case(**json.loads(json.dumps(small.fields())))
    assert fuzz.fails(again)
