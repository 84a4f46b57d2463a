"""Writes the metadata of the source tree's package beside it, so that entry points are found
without installing.

usage: metadata.py pyproject.toml python/
"""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path(sys.argv[1]).read_text())["project"]
folder = Path(sys.argv[2]) / f"{project['name']}-{project['version']}.dist-info"
folder.mkdir(exist_ok=True)
(folder / "METADATA").write_text(
    f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
)
lines = []
for group, entries in project.get("entry-points", {}).items():
    lines += [f"[{group}]", *(f"{name} = {target}" for name, target in entries.items()), ""]
(folder / "entry_points.txt").write_text("\n".join(lines))
