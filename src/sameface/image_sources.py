"""Convert pictures that are not files: arrays, `data:` strings, PIL images and torch tensors.

Pillow and torch are not imported for a test of the type: the module of the type names the library.
"""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sameface.arrays import Image
from sameface.image import decode_picture

KINDS = "a path, bytes, an open binary file, a NumPy array, a PIL image or a torch tensor"


def convert(source: Any) -> Image | bytes:
    """Return a picture as an array `(h, w, 3) uint8` RGB, or as the bytes of a file."""
    module = type(source).__module__
    if isinstance(source, str):
        return read_data_string(source)
    if isinstance(source, np.ndarray):
        return expect_image(source)
    if module.startswith("PIL."):
        return decode_picture(source.copy(), "the picture")
    if module == "torch" or module.startswith("torch."):
        return tensor_to_image(source)
    raise TypeError(f"a picture must be {KINDS}, got {type(source).__name__}")


def read_data_string(text: str) -> bytes:
    """Return the bytes in a `data:image/...;base64,` string."""
    head, _, encoded = text.partition(",")
    try:
        if not head.endswith(";base64"):
            raise ValueError("no base64")
        return base64.b64decode(encoded, validate=True)
    except ValueError as error:
        reason = f"got {text[:40]!r}..."
        raise ValueError(
            f"the data: string of a picture must be base64 (data:image/png;base64,...), {reason}"
        ) from error


def expect_image(array: NDArray[Any]) -> Image:
    """Return an array `(h, w, 3) uint8`, or raise with the way out."""
    if array.dtype != np.uint8:
        way = "multiply by 255 if it holds 0 to 1, and .astype(np.uint8)"
        raise TypeError(f"image must be uint8, got {array.dtype}: {way}")
    if array.ndim == 3 and array.shape[2] == 3:
        return array
    way = "give one picture at a time, RGB with the channels last"
    if array.ndim == 2:
        way = "np.stack([image] * 3, axis=-1) for grey"
    elif array.ndim == 3 and array.shape[2] == 4:
        way = "image[:, :, :3] drops the fourth channel"
    elif array.ndim == 3 and array.shape[0] == 3:
        way = "image.transpose(1, 2, 0) for channels first"
    raise ValueError(f"image must have shape ('h', 'w', 3), got {array.shape}: {way}")


def tensor_to_image(tensor: Any) -> Image:
    """Return a torch tensor as an array `(h, w, 3) uint8`."""
    shape = tuple(tensor.shape)
    if len(shape) == 4:
        raise ValueError(f"a tensor must be one picture at a time, got {shape}: tensor[0] for the first")
    if len(shape) != 3 or 3 not in (shape[0], shape[2]):
        raise ValueError(f"a tensor must have shape (3, h, w) or (h, w, 3), got {shape}")
    pixels = tensor.detach().cpu()
    if str(pixels.dtype) != "torch.uint8":
        if not pixels.is_floating_point():
            raise TypeError(f"a tensor must be uint8 or floating point, got {pixels.dtype}")
        low, high = float(pixels.min()), float(pixels.max())
        if low < 0 or high > 1:
            raise ValueError(f"a tensor of floats must hold 0 to 1, got {low:g} to {high:g}: undo the normalisation")
        pixels = (pixels.float() * 255).round().byte()
    image: Image = np.ascontiguousarray(pixels.permute(1, 2, 0).numpy() if shape[0] == 3 else pixels.numpy())
    return image
