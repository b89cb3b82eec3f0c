"""ONNX Runtime, told to keep to itself; whoever needs it takes it from here.

Its official builds report to their maker from release 1.29 on (the names and hashes of models, an id of the
machine), and keep a file of what they have not sent yet, unless they are told not to before they are loaded.
Whoever sets ORT_DISABLE_TELEMETRY=0 has decided otherwise.
"""

from __future__ import annotations

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as faults

__all__ = ["faults", "onnxruntime"]
