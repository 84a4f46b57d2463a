"""Writes torch's operator schemas as data, for front ends that read a graph without torch.

usage: .venv/bin/python tools/dev/aten_schemas.py > lib/Import/Standalone/AtenSchemas.inc

One string literal per operator that writes to none of its arguments; `~` marks those that draw
random numbers.
"""

import re

import torch


def lines() -> list[str]:
    result = []
    for schema in torch._C._jit_get_all_schemas():
        is_of_tensors = not re.search(r"\bt\b", str(schema))  # and not of lists of anything
        if not schema.name.startswith("aten::") or schema.is_mutable or not is_of_tensors:
            continue
        if not any("Tensor" in str(value.type) for value in schema.returns):
            continue
        text = str(schema).removeprefix("aten::").replace("\\", "\\\\").replace('"', '\\"')
        result.append(f'"{"~" if is_random(schema) else ""}{text}",')
    return sorted(set(result))


def is_random(schema: torch.FunctionSchema) -> bool:
    try:
        tags = torch._C._get_operation_overload(schema.name, schema.overload_name)[-1]
    except (RuntimeError, TypeError):
        return False
    return torch.Tag.nondeterministic_seeded in tags


if __name__ == "__main__":
    print("\n".join(lines()))
