"""Make the network of the gallery's first pass: products of whole numbers, in src/sameface/gallery.

    python tools/make_first_pass.py

`scores = codes @ probes`, `(n, q) int32`: `codes` `(n, d) uint8` are the rows of a gallery, `probes` is
`(d, q) int8`.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper

PLACE = Path(__file__).parent.parent / "src" / "sameface" / "gallery" / "first_pass.onnx"


def build() -> onnx.ModelProto:
    """Return the network."""
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["codes", "probes"], ["scores"])],
        "first pass",
        [
            helper.make_tensor_value_info("codes", TensorProto.UINT8, ["n", "d"]),
            helper.make_tensor_value_info("probes", TensorProto.INT8, ["d", "q"]),
        ],
        [helper.make_tensor_value_info("scores", TensorProto.INT32, ["n", "q"])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)


if __name__ == "__main__":
    PLACE.write_bytes(build().SerializeToString())
