"""Every input that people have: paths, bytes, files, arrays, PIL images, torch tensors, data: strings."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from pictures import draw_quarters, encode, orientation_tag, store_turned

from sameface import Recognizer, hash_image, read_image
from sameface.picture_files import buffer_image

QUARTERS = draw_quarters()


def tensors() -> dict[str, torch.Tensor]:
    """The same picture as tensors of every layout."""
    whole = torch.from_numpy(QUARTERS.copy())
    return {
        "HWC uint8": whole,
        "CHW uint8": whole.permute(2, 0, 1),
        "CHW float": whole.permute(2, 0, 1).float() / 255,
        "HWC half": whole.half() / 255,
        "with a gradient": (whole.permute(2, 0, 1).float() / 255).requires_grad_(),
    }


@pytest.mark.parametrize("name", tensors())
def test_a_torch_tensor_is_read(name: str) -> None:
    np.testing.assert_array_equal(read_image(tensors()[name]), QUARTERS)


def test_a_pil_image_is_read_in_any_mode() -> None:
    np.testing.assert_array_equal(read_image(PIL.Image.fromarray(QUARTERS)), QUARTERS)
    grey = PIL.Image.fromarray(QUARTERS[:, :, 0])
    np.testing.assert_array_equal(read_image(grey), np.repeat(QUARTERS[:, :, :1], 3, axis=2))
    clear = PIL.Image.new("RGBA", (4, 3), (255, 0, 0, 0))
    assert (read_image(clear) == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_pil_image_is_turned_upright_and_stays_as_it_was(orientation: int) -> None:
    data = encode(store_turned(QUARTERS, orientation), "PNG", exif=orientation_tag(orientation))
    image = PIL.Image.open(io.BytesIO(data))
    np.testing.assert_array_equal(read_image(image), QUARTERS)
    assert image.getexif().get(0x0112, 1) == orientation


def test_a_data_string_is_read() -> None:
    text = "data:image/png;base64," + base64.b64encode(encode(QUARTERS, "PNG")).decode()
    np.testing.assert_array_equal(read_image(text), QUARTERS)
    assert hash_image(text) == hash_image(encode(QUARTERS, "PNG"))
    with pytest.raises(ValueError, match="data: string of a picture must be base64"):
        read_image("data:image/png;base64,!!!")


def test_the_channels_of_opencv_are_turned_round() -> None:
    np.testing.assert_array_equal(read_image(QUARTERS[:, :, ::-1], channels="bgr"), QUARTERS)
    with pytest.raises(ValueError, match="channels must be 'rgb' or 'bgr', got 'rbg'"):
        read_image(QUARTERS, channels="rbg")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="channels is for arrays"):
        read_image(encode(QUARTERS, "PNG"), channels="bgr")


@pytest.mark.parametrize(
    ("array", "kind", "way"),
    [
        (np.zeros((4, 5)), TypeError, r"got float64: multiply by 255 if it holds 0 to 1, and .astype\(np.uint8\)"),
        (np.zeros((4, 5, 3), np.float32), TypeError, r"\.astype\(np.uint8\)"),
        (np.zeros((4, 5), np.uint8), ValueError, r"got \(4, 5\): np.stack\(\[image\] \* 3, axis=-1\) for grey"),
        (np.zeros((4, 5, 4), np.uint8), ValueError, r"image\[:, :, :3\] drops the fourth channel"),
        (np.zeros((3, 4, 5), np.uint8), ValueError, r"image.transpose\(1, 2, 0\) for channels first"),
        (np.zeros((1, 4, 5, 3), np.uint8), ValueError, r"one picture at a time"),
    ],
)
def test_another_array_is_refused_with_the_way_out(array: np.ndarray, kind: type[Exception], way: str) -> None:
    with pytest.raises(kind, match=way):
        read_image(array)


@pytest.mark.parametrize(
    ("tensor", "kind", "way"),
    [
        (torch.zeros(2, 3, 4, 5), ValueError, "one picture at a time"),
        (torch.zeros(4, 5), ValueError, r"\(3, h, w\) or \(h, w, 3\), got \(4, 5\)"),
        (torch.full((3, 4, 5), 2.0), ValueError, "0 to 1, got 2 to 2: undo the normalisation"),
        (torch.zeros((3, 4, 5), dtype=torch.int64), TypeError, "uint8 or floating point, got torch.int64"),
    ],
)
def test_another_tensor_is_refused_with_the_way_out(tensor: torch.Tensor, kind: type[Exception], way: str) -> None:
    with pytest.raises(kind, match=way):
        read_image(tensor)


@pytest.mark.parametrize("wrong", [None, 3, [QUARTERS], {"picture": 1}])
def test_anything_else_is_named_by_its_type(wrong: object) -> None:
    kinds = "a path, bytes, an open binary file, a NumPy array, a PIL image or a torch tensor"
    for function in (read_image, hash_image, buffer_image):
        with pytest.raises(TypeError, match=f"a picture must be {kinds}, got {type(wrong).__name__}"):
            function(wrong)  # type: ignore[operator]


def test_the_same_face_comes_of_every_input(recognizer: Recognizer, samples: dict[str, Path]) -> None:
    path = samples["joe-biden"]
    _, wanted = recognizer.embed(path)
    pixels = read_image(path)
    text = "data:image/jpeg;base64," + base64.b64encode(path.read_bytes()).decode()
    for source in (path.read_bytes(), pixels, PIL.Image.open(path), torch.from_numpy(pixels.copy()), text):
        _, rows = recognizer.embed(source)
        np.testing.assert_array_equal(rows, wanted)
    assert recognizer.verify(PIL.Image.open(path), text).same
    assert recognizer.template(PIL.Image.open(path)).picture == hash_image(pixels)
