"""Prints the model of many small networks, each on its own slice: seed_model.py INSTANCES [BATCH]."""

import sys


def main(instances, batch):
    whole = f"tensor<{batch}x{20 * instances}xf32>"
    print(f"func.func @forward(%x: {whole}) -> tensor<{batch}x{instances}xf32> {{")
    for i in range(instances):
        print(f'%wa{i} = pfcn.parameter "models.{i}.0.weight" : tensor<10x20xf32>')
        print(f'%ba{i} = pfcn.parameter "models.{i}.0.bias" : tensor<10xf32>')
        print(f'%wb{i} = pfcn.parameter "models.{i}.1.weight" : tensor<1x10xf32>')
        print(f'%bb{i} = pfcn.parameter "models.{i}.1.bias" : tensor<1xf32>')
        print(
            f"%x{i} = pfcn.slice %x dim 1 from {20 * i} to {20 * i + 20} : {whole} -> tensor<{batch}x20xf32>\n"
            f"%h{i} = pfcn.linear %x{i}, %wa{i}, %ba{i} : tensor<{batch}x20xf32>, tensor<10x20xf32>, "
            f"tensor<10xf32> -> tensor<{batch}x10xf32>\n"
            f"%y{i} = pfcn.linear %h{i}, %wb{i}, %bb{i} : tensor<{batch}x10xf32>, tensor<1x10xf32>, "
            f"tensor<1xf32> -> tensor<{batch}x1xf32>"
        )
    parts = ", ".join(f"%y{i}" for i in range(instances))
    types = ", ".join([f"tensor<{batch}x1xf32>"] * instances)
    print(f"%y = pfcn.cat {parts} dim 1 : ({types}) -> tensor<{batch}x{instances}xf32>")
    print(f"return %y : tensor<{batch}x{instances}xf32>\n}}")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "1")
