"""Make the network of the gallery's first pass: products of whole numbers, in src/sameface/gallery.

    python tools/make_first_pass.py

`scores = probes @ codes`, `(t, q, n) int32`: `codes` `(t, w, n) int8` are the rows of a gallery, in tiles,
each row a column, and `probes` is `(q, w) uint8`. For numbers of these kinds in this order ONNX Runtime has a
kernel that takes a single probe, and need not copy the codes first.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper

PLACE = Path(__file__).parent.parent / "src" / "sameface" / "gallery" / "first_pass.onnx"


def build() -> onnx.ModelProto:
    """Return the network."""
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["probes", "codes"], ["scores"])],
        "first pass",
        [
            helper.make_tensor_value_info("probes", TensorProto.UINT8, ["q", "w"]),
            helper.make_tensor_value_info("codes", TensorProto.INT8, ["t", "w", "n"]),
        ],
        [helper.make_tensor_value_info("scores", TensorProto.INT32, ["t", "q", "n"])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)


if __name__ == "__main__":
    PLACE.write_bytes(build().SerializeToString())
