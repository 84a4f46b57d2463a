"""TorchScript files of somebody who means harm: name → code, and what an import says of it.

`code` is the body of `forward(self, x)`, or a whole class whose last one is the model.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
import textwrap
import warnings
from pathlib import Path

import torch

RUNS = ""  # imports, and that is all that it does

HOSTILE: dict[str, tuple[str, str]] = {
    "endless": ("k = 0\nwhile k >= 0:\n    k = 1 - k\nreturn x", "does not end within"),
    "loop_2_40": ("for i in range(1 << 40):\n    x = x + 1\nreturn x", "calls|not end"),
    "empty_loop": ("k = 0\nfor i in range(1 << 40):\n    k += i\nreturn x", "does not end within"),
    "huge_tensor": ("return torch.ones([1 << 62]) + x.sum()", "overflow|too large|invalid"),
    "large_tensor": ("return torch.zeros([1 << 40]) + x.sum()", RUNS),
    "large_expand": ("return x.sum().expand(1 << 50).contiguous() * 2", RUNS),
    "large_number": ("return torch.tensor(1.0).repeat(1 << 40) + x.sum()", RUNS),
    "split_all": ("return torch.zeros([1 << 40]).split(1)[0] + x.sum()", "lists and strings"),
    "unbind_all": ("return torch.zeros([1 << 40]).unbind(0)[0] + x.sum()", "lists and strings"),
    "chunk_all": ("return torch.zeros([1 << 40]).chunk(1 << 40)[0] + x.sum()", "lists and strings"),
    "string_doubling": (
        "s = 'ab'\nfor i in range(60):\n    s = s + s\nreturn x + len(s)",
        "lists and strings",
    ),
    "string_joining": (
        "s = 'abababab'\nfor i in range(60):\n    s = s.join([s, s, s])\nreturn x + len(s)",
        "lists and strings",
    ),
    "string_replacing": (
        "s = 'aaaaaaaa'\nfor i in range(60):\n    s = s.replace('a', s)\nreturn x + len(s)",
        "lists and strings",
    ),
    "string_padding": ("return x + len('a'.ljust(1 << (38 + x.dim())))", "none of the operators"),
    "string_format": ("return x + len('%1000000000d' % 1)", "none of the operators"),
    "list_repeat": ("return x + len([1] * (1 << 40))", "lists and strings"),
    "list_doubling": (
        "l = [1, 2]\nfor i in range(60):\n    l.extend(l)\nreturn x + len(l)",
        "lists and strings",
    ),
    "range_list": ("return x + len([i for i in range(1 << 40)])", "does not end within|lists"),
    "saves": ("torch.save(x, PATH)\nreturn x", "aten::save is none of the operators"),
    "reads": (
        "return torch.from_file('/etc/passwd', shared=False, size=8, dtype=torch.uint8) + x.sum()",
        "none of the operators",
    ),
    "creates": (
        "return torch.from_file(PATH, shared=True, size=8, dtype=torch.uint8) + x.sum()",
        "none of the operators",
    ),
    "seeds": ("torch.manual_seed(0)\nreturn x", "none of the operators"),
    "divides": ("a = -4611686018427387904 * x.dim()\nb = 1 - x.dim()\nreturn x + a // b",
                "62 bits|62-bit"),
    "remainder": ("a = -4611686018427387904 * x.dim()\nb = 1 - x.dim()\nreturn x + a % b",
                  "62 bits"),
    "factorial": ("return x + math.factorial(1 << (38 + x.dim()))", "none of the operators"),
    "lstm_steps": (
        "return torch.rnn_tanh(torch.zeros([1 << 40, 1, 1]), torch.zeros([1, 1, 1]), "
        "[torch.zeros([1, 1])] * 2, False, 1, 0.0, False, False, False)[0] + x.sum()",
        "lists and strings",
    ),
    "prints": ("print('hello' * 3 if False else 'hello')\nreturn x", RUNS),
    "out_of_bounds": ("return x.as_strided([1 << 40], [1], 1 << 40)", "as_strided"),
    "deep_nest": ("t = x\n" + "t = -t\n" * 3000 + "return t", RUNS),
}  # fmt: skip


def build(name: str, folder: Path) -> Path:
    """The file; what it might write would be `folder/written`."""
    code = HOSTILE[name][0].replace("PATH", repr(str(folder / "written")))
    text = (
        "import math\nimport torch\nfrom torch import nn\n\n\nclass Model(nn.Module):\n"
        "    def forward(self, x):\n" + textwrap.indent(code, "        ") + "\n"
    )
    source = folder / f"hostile_{name}.py"
    source.write_text(text)
    spec = importlib.util.spec_from_file_location(source.stem, source)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(module.Model()).save(str(folder / f"{name}.pt"))
    return folder / f"{name}.pt"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        for name in sys.argv[1:] or HOSTILE:
            try:
                print(name, build(name, Path(folder)))
            except Exception as error:
                print(name, "CANNOT BUILD", str(error)[:300])
