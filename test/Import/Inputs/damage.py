"""Archives of torch.export with one thing wrong in each, made of heads.pt2.

usage: damage.py heads.pt2 FOLDER
"""

import json
import sys
import zipfile
from pathlib import Path

source, folder = Path(sys.argv[1]), Path(sys.argv[2])
folder.mkdir(parents=True, exist_ok=True)
whole = source.read_bytes()
files = {
    info.filename: zipfile.ZipFile(source).read(info) for info in zipfile.ZipFile(source).infolist()
}
MODEL = "heads/models/model.json"


def write(name, changes, compression=zipfile.ZIP_STORED):
    """The archive with other contents for some files; None leaves a file out."""
    with zipfile.ZipFile(folder / f"{name}.pt2", "w", compression) as archive:
        for path, contents in {**files, **changes}.items():
            if contents is not None:
                archive.writestr(path, contents)


def write_model(name, change):
    model = json.loads(files[MODEL])
    change(model)
    write(name, {MODEL: json.dumps(model)})


def graph(model):
    return model["graph_module"]["graph"]


def set_target(model, target, which=0):
    graph(model)["nodes"][which]["target"] = target


def mutate_buffer(model):
    spec = model["graph_module"]["signature"]["output_specs"][0]
    arg = spec.pop("user_output")["arg"]["as_tensor"]
    spec["buffer_mutation"] = {"arg": arg, "buffer_name": "running_mean"}


def set_symbol(model, text):
    for meta in graph(model)["tensor_values"].values():
        for size in meta["sizes"]:
            if "as_expr" in size:
                size["as_expr"]["expr_str"] = text


(folder / "empty.pt2").write_bytes(b"")
(folder / "short.pt2").write_bytes(whole[: len(whole) // 2])
position = whole.index(b'"graph_module"')
(folder / "flipped.pt2").write_bytes(whole[:position] + b"?" + whole[position + 1 :])
write("compressed", {}, zipfile.ZIP_DEFLATED)
write("other", {name: None for name in files if name.endswith("archive_format")})
write("version", {"heads/archive_version": "7"})
write("order", {"heads/byteorder": "big"})
write("weightless", {"heads/data/weights/weight_3": None})
write("two", {"heads/models/second.json": files[MODEL]})
write("text", {MODEL: "{]"})
write_model("schema", lambda model: model["schema_version"].update(major=9))
write_model("graphless", lambda model: model["graph_module"].pop("graph"))
write_model("inplace", lambda model: set_target(model, "torch.ops.aten.tanh_.default", 2))
write_model("control", lambda model: set_target(model, "torch.ops.higher_order.cond"))
write_model("foreign", lambda model: set_target(model, "torch.ops.mylib.shift.default", 2))
write_model("mutation", mutate_buffer)
write_model("data", lambda model: set_symbol(model, "Symbol('u0', integer=True)"))
write_model("strange", lambda model: set_symbol(model, "Zeta(Integer(2))"))
write_model("unread", lambda model: graph(model)["nodes"].pop(0))
