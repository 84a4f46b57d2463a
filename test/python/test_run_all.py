"""The runner's counting: what it makes of its tools' reports, and of tools that leave none."""

import importlib.util
import sys
from pathlib import Path

import pytest

_path = Path(__file__).parent.parent / "run_all.py"
_spec = importlib.util.spec_from_file_location("run_all", _path)
run_all = importlib.util.module_from_spec(_spec)
sys.modules["run_all"] = run_all
_spec.loader.exec_module(run_all)


def counts(outcome):
    return outcome.passed, outcome.failed, outcome.skipped


def test_lit_codes_are_counted_and_unknown_ones_fail():
    codes = ["PASS", "XFAIL", "FAIL", "XPASS", "UNRESOLVED", "TIMEOUT", "UNSUPPORTED", "NEW-CODE"]
    report = {"tests": [{"name": c, "code": c} for c in codes]}
    assert counts(run_all.count_lit(report)) == (2, 5, 1)


def test_junit_of_pytest_and_googletest():
    xml = """<testsuites><testsuite>
      <testcase name="a"/>
      <testcase name="b"><failure/></testcase>
      <testcase name="c"><error/></testcase>
      <testcase name="d"><skipped/></testcase>
      <testcase name="e" status="notrun"/>
      <testcase name="f"><properties/></testcase>
    </testsuite></testsuites>"""
    assert counts(run_all.count_junit(xml)) == (2, 2, 2)


def test_no_test_and_unexplained_exit_are_failures():
    assert counts(run_all.settle(run_all.Outcome(), 0, "")) == (0, 1, 0)
    assert counts(run_all.settle(run_all.Outcome(passed=3), 139, "")) == (3, 1, 0)
    assert counts(run_all.settle(run_all.Outcome(passed=3, failed=2), 1, "")) == (3, 2, 0)


def test_a_stale_report_never_counts(tmp_path):
    report = tmp_path / "report.json"
    report.write_text('{"tests": [{"code": "PASS"}]}')
    outcome = run_all.with_report(["false"], report, lambda text: run_all.Outcome(passed=1))
    assert counts(outcome) == (0, 1, 0)


def test_code_blocks():
    text = "a\n```python\nx = 1\n\ny = 2\n```\n```bash norun\nls\n```\n"
    blocks = list(run_all.code_blocks(text))
    assert [(b.language, b.info, b.line, b.text) for b in blocks] == [
        ("python", "", 2, "x = 1\n\ny = 2\n"),
        ("bash", "norun", 7, "ls\n"),
    ]
    with pytest.raises(ValueError, match="line 1 is never closed"):
        list(run_all.code_blocks("```bash\nls\n"))


def test_last_line_and_exit_status(monkeypatch, tmp_path, capsys):
    def crash():
        raise RuntimeError("gone")

    stages = {"good": lambda: run_all.Outcome(passed=4, skipped=1), "crash": crash}
    monkeypatch.setattr(run_all, "STAGES", stages)
    monkeypatch.setattr(run_all, "RESULTS", tmp_path)
    monkeypatch.setenv("PYTHONPATH", "")
    assert run_all.main([]) == 1
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "4 passed, 1 failed, 1 skipped"
    assert "RuntimeError: gone" in out
    assert run_all.main(["good"]) == 0


def test_a_long_log_keeps_its_beginning_and_end():
    log = "\n".join(map(str, range(10))) + "x" * 50
    assert run_all.excerpt(log, lines=2, width=5).splitlines() == [
        "0",
        "1",
        "… 6 lines left out …",
        "8",
        "9xxxx …",
    ]
    assert run_all.excerpt("a\nb", lines=1) == "a\nb"


def test_readme_blocks_run_as_written(monkeypatch, tmp_path):
    """With a pfcn-opt that copies its input, or says `fused` when given a flag."""
    opt = tmp_path / "bin" / "pfcn-opt"
    opt.parent.mkdir()
    opt.write_text('#!/bin/sh\n[ "$1" = --fuse ] && echo fused || grep -v wrong\n')
    opt.chmod(0o755)
    monkeypatch.setattr(run_all, "ROOT", tmp_path)
    monkeypatch.setattr(run_all, "BUILD", tmp_path)

    def outcome(*blocks):
        text = "\n".join(f"```{head}\n{body}\n```" for head, body in blocks)
        (tmp_path / "README.md").write_text(text)
        return counts(run_all.readme())

    assert outcome(("bash", "test -e README.md"), ("bash", "false\ntrue"), ("text", "no")) == (
        1,
        1,
        0,
    )
    assert outcome(("bash norun", "exit 1"), ("bash", "pfcn-opt --fuse")) == (1, 0, 0)
    assert outcome(("mlir", "right"), ("mlir", "wrong")) == (1, 1, 0)
    assert outcome(("mlir", "right"), ("mlir fuse=--fuse", "  fused")) == (2, 0, 0)
    assert outcome(("mlir", "right"), ("mlir fuse=--fuse", "right")) == (1, 1, 0)
    assert outcome(("text", "nothing to run")) == (0, 1, 0)
