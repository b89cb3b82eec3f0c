"""ONNX Runtime without telemetry; every module imports it from here.

From release 1.29 on its official builds send names and hashes of models and an id of the machine, unless
ORT_DISABLE_TELEMETRY is set before they are loaded. The user may set it to 0.
"""

from __future__ import annotations

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as faults

__all__ = ["faults", "onnxruntime"]
