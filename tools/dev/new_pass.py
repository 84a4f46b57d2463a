#!/usr/bin/env python3
"""Writes the beginnings of a pass: its entry in Passes.td, its .cpp, and its two lit tests.

    tools/dev/new_pass.py Transforms ShareOperands "Read what all instances share once"

makes `--pfcn-share-operands`. It builds as it is and leaves the module alone; its tests fail until
they say what it does.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
ROOMS = ["Transforms", "Codegen"]

ENTRY = """def {name}Pass : Pass<"{flag}", "::mlir::func::FuncOp"> {{
  let summary = "{summary}";
  let description = [{{
    What it does, in torch's and MLIR's terms. What it declines, and how it says so: a
    remark, and no error.
  }}];
  let dependentDialects = ["::mlir::pfcn::PfcnDialect"];
}}

"""

SOURCE = """//===- {name}.cpp - {summary} -===//
//
// The idea, in at most six lines.
//
//===----------------------------------------------------------------------------===//

#include "pfcn/Dialect/Pfcn.h"
#include "pfcn/{room}/Passes.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Pass/Pass.h"

namespace mlir::pfcn {{
#define GEN_PASS_DEF_{macro}PASS
#include "pfcn/{room}/Passes.h.inc"
}} // namespace mlir::pfcn

using namespace mlir;
using namespace mlir::pfcn;

namespace {{

struct {name} : mlir::pfcn::impl::{name}PassBase<{name}> {{
  void runOnOperation() override {{
    getOperation().walk([&](InstancesOp group) {{ (void)group; }});
  }}
}};

}} // namespace
"""

TEST = """// RUN: pfcn-opt %s --{flag} | FileCheck %s
// {note}

// CHECK-LABEL: func.func @forward
// CHECK: what the pass makes of it
func.func @forward(%x: tensor<2x4xf32>) -> tensor<2x4xf32> {{
  %init = pfcn.empty : tensor<2x4xf32>
  %y = pfcn.instances "relu_x2" count 2 ins(%x : tensor<2x4xf32>) [#pfcn.access<select dim 0>]
      outs(%init : tensor<2x4xf32>) [#pfcn.access<select dim 0>] {{
  ^bb0(%a: tensor<4xf32>):
    %0 = pfcn.relu %a : tensor<4xf32>
    pfcn.yield %0 : tensor<4xf32>
  }} -> tensor<2x4xf32>
  return %y : tensor<2x4xf32>
}}
"""


def insert(path: Path, text: str, before: str) -> None:
    """Puts a text before the last line that begins with `before`."""
    head, mark, tail = path.read_text().rpartition(before)
    if not mark:
        sys.exit(f"{path} has no line {before!r}")
    path.write_text(head + text + mark + tail)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("room", choices=ROOMS)
    parser.add_argument("name", help="in CamelCase, without Pass")
    parser.add_argument("summary", help="one line")
    parser.add_argument("--root", type=Path, default=ROOT, help="another checkout")
    given = parser.parse_args()
    if not re.fullmatch(r"([A-Z][a-z0-9]*)+", given.name):
        parser.error(f"{given.name} is not CamelCase")
    words = re.sub(r"(?<!^)(?=[A-Z])", "-", given.name).lower()
    facts = {
        "name": given.name,
        "room": given.room,
        "summary": given.summary,
        "flag": f"pfcn-{words}",
        "macro": given.name.upper(),
    }
    files = {
        f"lib/{given.room}/{given.name}.cpp": SOURCE,
        f"test/{given.room}/{words}.mlir": TEST.replace("{note}", "What it does, and what not."),
        f"test/Docs/{words}.mlir": TEST.replace("{note}", "The example of docs/reference."),
    }
    for name in files:
        if (given.root / name).exists():
            parser.error(f"{name} exists")
    for name, text in files.items():
        (given.root / name).write_text(text.format(**facts))
    room = given.root / "include" / "pfcn" / given.room
    insert(room / "Passes.td", ENTRY.format(**facts), "#endif")
    sources = given.root / "lib" / given.room / "CMakeLists.txt"
    sources.write_text(sources.read_text().replace("PRIVATE ", f"PRIVATE {given.name}.cpp ", 1))
    print(f"wrote {', '.join(files)}; entered in Passes.td and CMakeLists.txt of {given.room}")
    print("next: the description, the code, the tests; its place in lib/Pipelines; `make docs`")
    return 0


if __name__ == "__main__":
    sys.exit(main())
