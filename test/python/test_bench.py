"""The benchmark: its systems compute the same, it measures in rounds, and failures become rows."""

import dataclasses
import json
import sys
import types

import pytest
import torch

from pfcn.bench import __main__ as cli
from pfcn.bench import reference
from pfcn.bench.bound import bound
from pfcn.bench.layers import LAYERS
from pfcn.bench.measure import Row, measure
from pfcn.bench.seed import SEED
from pfcn.bench.workload import Cost, LeftOut, System

KEYS = {"system", "us_median", "us_min", "max_abs_err", "setup_seconds", "wall_30_calls_s"}
# torch.compile takes ten seconds for any model; that it agrees is torch's own affair.
SYSTEMS = [s for s in SEED.systems if "compile" not in s.name]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)
def test_system_agrees_with_eager(system, batch):
    model, inputs = SEED.make(5, batch)
    with torch.no_grad():
        expected = model(*inputs)
        try:
            call = system.setup(model, *inputs)
        except LeftOut as reason:
            assert (
                system.name == "multi-stream"
                or system.name.endswith("CUDA graph")
                or system.ceiling
            )
            pytest.skip(str(reason))
        result = call(*inputs)
    torch.testing.assert_close(result, expected)
    assert result.shape == (batch, 5)


@pytest.mark.parametrize("n", [16, 21])
@pytest.mark.parametrize("system", [s for s in SEED.systems if s.ceiling], ids=lambda s: s.name)
def test_the_kernel_by_hand_agrees_with_eager(system, n):
    model, inputs = SEED.make(n, 1)
    with torch.no_grad():
        try:
            call = system.setup(model, *inputs)
        except LeftOut as reason:
            assert "AVX512" not in torch.backends.cpu.get_cpu_capability()
            pytest.skip(str(reason))
        torch.testing.assert_close(call(*inputs), model(*inputs))


def test_the_kernel_by_hand_needs_avx512_and_a_compiler(monkeypatch):
    reference.load.cache_clear()
    model, inputs = SEED.make(16, 1)
    system = next(s for s in SEED.systems if s.ceiling)
    with monkeypatch.context() as patch:
        patch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
        [row] = measure([system], model, inputs, rounds=1, seconds=0.0)
        assert row.reason == "this CPU has no AVX-512"
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(reference.shutil, "which", lambda name: None)
    [row] = measure([system], model, inputs, rounds=1, seconds=0.0)
    assert row.reason.startswith("no C++ compiler: none of clang++-22")


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("workload", LAYERS, ids=lambda workload: workload.name)
def test_rewrites_of_layers_by_hand_agree_with_eager(workload, batch):
    model, inputs = workload.make(3, batch)
    systems = [s for s in workload.systems if not s.slow]
    rows = measure(systems, model, inputs, rounds=1, seconds=0.0)
    assert {row.system: row.reason for row in rows} == {s.name: None for s in systems}
    assert all(row.max_abs_err < 1e-4 for row in rows)
    count = sum(p.numel() for p in model.parameters()) + inputs[0].numel() + model(*inputs).numel()
    assert workload.cost(3, batch).bytes == 4 * count


def test_rounds_are_interleaved_and_every_call_is_counted():
    order = []

    def system(name):
        def setup(model, x):
            def call(x):
                order.append(name)
                return model(x)

            return call

        return System(name, setup)

    model, inputs = SEED.make(2, 1)
    rows = measure([system("a"), system("b")], model, inputs, rounds=4, seconds=0.0)
    assert [len(row.samples) for row in rows] == [4, 4]  # no time to spend: one call a turn
    assert order[-8:] == ["a", "b", "b", "a", "a", "b", "b", "a"]
    for row in rows:
        assert row.us_min == min(row.samples) <= row.us_median <= max(row.samples)
        assert row.to_dict().keys() == KEYS


def test_a_system_that_cannot_run_is_a_row_with_the_reason():
    def leaves(model, x):
        raise LeftOut("no such device")

    def breaks(model, x):
        raise ValueError("cannot\nsecond line")

    def transposes(model, x):
        return lambda x: model(x).t()

    model, inputs = SEED.make(2, 1)
    systems = [System("left", leaves), System("broken", breaks), System("shape", transposes)]
    rows = measure(systems, model, inputs, rounds=1, seconds=0.0)
    assert [row.reason for row in rows] == [
        "no such device",
        "ValueError: cannot",
        "wrong result: shape (2, 1), not (1, 2)",
    ]
    assert all(row.us_median is None for row in rows)


def test_a_wrong_number_shows_as_its_error():
    model, inputs = SEED.make(2, 1)
    [row] = measure(
        [System("off", lambda m, x: lambda x: m(x) + 0.5)], model, inputs, rounds=1, seconds=0.0
    )
    assert row.max_abs_err == pytest.approx(0.5, abs=1e-5)


def test_cost_counts_each_float_once():
    cost = SEED.cost(1000, 16)
    model, inputs = SEED.make(1000, 16)
    floats = sum(p.numel() for p in model.parameters()) + inputs[0].numel() + 16 * 1000
    assert cost.bytes == 4 * floats
    assert cost.flops == 2 * 1000 * 16 * (20 * 10 + 10 * 1)


@pytest.mark.parametrize(
    ("bandwidth", "peak", "us", "about"),
    [
        (2e9, 1e15, 1000, "2.00 MB at 2 GB/s"),  # moving the bytes takes longer
        (2e12, 1e9, 3000, "3.0 Mflop at 1 Gflop/s"),  # the operations do
    ],
)
def test_bound_is_the_slower_of_moving_and_computing(monkeypatch, bandwidth, peak, us, about):
    asked = []
    probes = types.SimpleNamespace(
        probe_read_bandwidth=lambda size, threads: asked.append((size, threads)) or bandwidth,
        probe_peak_flops=lambda threads: peak,
    )
    monkeypatch.setitem(sys.modules, "pfcn._C", probes)
    monkeypatch.setattr(sys.modules["pfcn"], "_C", probes, raising=False)
    row = bound(Cost(bytes=2_000_000, flops=3_000_000), threads=2, device="cpu")
    assert asked == [(2_000_000, 2)]  # at the size of the working set, with the threads of the run
    assert row.us_median == pytest.approx(us)
    assert row.about == about
    assert bound(Cost(1, 1), threads=1, device="cuda").reason == "measured on the CPU only"


def test_command_line(tmp_path, monkeypatch, capsys):
    quick = dataclasses.replace(SEED, systems=SYSTEMS)
    monkeypatch.setattr(cli, "WORKLOADS", {"seed": quick})
    threads = torch.get_num_threads()
    file, picture = tmp_path / "rows.json", tmp_path / "rows.svg"
    command = "seed --instances 3 --batch 2 --rounds 2 --seconds 0.01".split()
    try:
        assert cli.main([*command, "--json", str(file), "--plot", str(picture)]) == 0
    finally:
        torch.set_num_threads(threads)
    rows = {row["system"]: row for row in json.loads(file.read_text())}
    assert rows.keys() == {s.name for s in SYSTEMS} | {"bound"}
    assert all(row.keys() - {"reason"} == KEYS for row in rows.values())
    assert rows["baddbmm by hand"]["us_median"] > 0
    assert "needs CUDA streams" in rows["multi-stream"]["reason"]
    out = capsys.readouterr().out
    assert "baddbmm by hand" in out
    assert "Left out: torch.jit.script, frozen: minutes to set up" in out
    assert "</svg>" in picture.read_text()


@pytest.mark.parametrize(
    ("pfcn_us", "rest"),
    [
        (10, "10× as fast as PyTorch does, and 2× as fast as the best of the rest (vmap)."),
        (19, "5.3× as fast as PyTorch does, and about as fast as the best of the rest (vmap)."),
        (
            40,
            "2.5× as fast as PyTorch does, and the best of the rest (vmap) is 2× as fast as pfcn.",
        ),
    ],
)
def test_the_closing_line_follows_from_the_rows(pfcn_us, rest):
    times = {"eager loop": 100, "vmap": 20, "pfcn (live weights)": pfcn_us, "bound": 1}
    rows = [Row(name, us_median=us) for name, us in times.items()]
    assert rest in cli.meaning([*rows, Row("multi-stream", reason="no CUDA")])
    assert "has no row" in cli.meaning(rows[:2])


def test_list_names_the_workloads(capsys):
    assert cli.main(["list"]) == 0
    assert capsys.readouterr().out.startswith("seed: ")


def test_bad_arguments_are_refused(capsys):
    with pytest.raises(SystemExit):
        cli.main(["seed", "--batch", "0"])
    assert "0 is not a positive number" in capsys.readouterr().err


def test_without_a_cuda_device_the_message_says_so(capsys):
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    assert cli.main(["seed", "--device", "cuda", "--instances", "2"]) == 1
    assert "pfcn.bench: no CUDA device: " in capsys.readouterr().err


def test_cuda_rows_say_on_the_cpu_that_they_need_a_gpu():
    model, inputs = SEED.make(2, 1)
    systems = [s for s in SEED.systems if s.name.endswith("CUDA graph")]
    assert len(systems) == 2
    for row in measure(systems, model, inputs, rounds=1, seconds=0.0):
        assert row.reason == "needs CUDA graphs; the CPU has none"
