"""Make the photographs in `samples/` from two packages: cut, shrunk to 640 pixels, without metadata.

python tools/make_samples.py
"""

from __future__ import annotations

import io
from pathlib import Path

import PIL.Image

from packages import SOURCE, WHEEL, fetch_member

SAMPLES = Path(__file__).parent.parent / "samples"
LONGEST = 640

LINUX = ("--platform", "manylinux_2_28_x86_64", "--python-version", "3.11", "--implementation", "cp")
PORTRAITS = ("face_recognition==1.3.0", "5e5efdd1686aa566af0d3cc1313b131e4b197657a8ffd03669e6d3fad92705ec", SOURCE)
ASTRONAUT = (
    "scikit-image==0.26.0",
    "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af",
    (*WHEEL, *LINUX),
)
IMAGES = "face_recognition-1.3.0/tests/test_images"

# File to make, package, member, and the part to keep (left, top, right, bottom) or None for all.
PICTURES = (
    ("barack-obama-1.jpg", PORTRAITS, f"{IMAGES}/obama.jpg", None),
    ("barack-obama-2.jpg", PORTRAITS, f"{IMAGES}/obama2.jpg", (0, 0, 535, 1200)),
    ("barack-obama-3.jpg", PORTRAITS, f"{IMAGES}/obama3.jpg", (150, 100, 1250, 1500)),
    ("joe-biden.jpg", PORTRAITS, f"{IMAGES}/biden.jpg", (0, 0, 970, 1300)),
    ("eileen-collins.jpg", ASTRONAUT, "skimage/data/astronaut.png", None),
)


def main() -> None:
    """Write the photographs."""
    for name, (requirement, sha256, options), member, part in PICTURES:
        data = fetch_member(requirement, sha256, member, options=options)
        picture = PIL.Image.open(io.BytesIO(data)).convert("RGB")
        picture = picture.crop(part) if part else picture
        picture.thumbnail((LONGEST, LONGEST), PIL.Image.Resampling.LANCZOS)
        picture.save(SAMPLES / name, quality=88)
        print(name, picture.size)


if __name__ == "__main__":
    main()
