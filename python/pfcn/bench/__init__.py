"""Benchmarks: a workload under pfcn, and under everything its users would have tried instead.

`python -m pfcn.bench list` names the workloads; `python -m pfcn.bench seed` runs one. The data
goes one way: a workload (`seed.py`) gives a model, its inputs and its rivals (`systems.py`);
`measure.py` times them in interleaved rounds; `table.py` shows the rows.
"""
