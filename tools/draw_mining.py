"""Draw which negatives each rule chooses: `docs/mining.svg`, from the very functions that training uses.

python tools/draw_mining.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sameface.training.losses import weigh_band
from sameface.training.mining import RULES, SortedNegatives, choose_negatives, sort_negatives

TARGET = Path(__file__).resolve().parents[1] / "docs" / "mining.svg"
MARGIN = 0.2
POSITIVE = 0.45
NEGATIVES = (0.12, 0.27, 0.39, 0.49, 0.55, 0.60, 0.71, 0.86, 0.97, 1.1)
DRAWS = 400  # of the two random rules: a dot is as dark as it is often chosen
LEFT, TOP, ROW, WIDTH, REACH = 170, 60, 46, 560, 1.2
NOTES = {
    "semi-hard": "the nearest beyond the positive, inside the margin",
    "semi-hard-random": "any one inside the margin, by lot",
    "semi-hard-all": "each one inside the margin",
    "hardest": "the nearest of all",
    "batch-all": "each one whose loss is above 0",
    "distance-weighted": "one by lot, all distances as likely (0.5 to 1.4 before squaring)",
}


def make_order() -> SortedNegatives:
    """Return one anchor, one positive and the negatives, at the distances that are drawn."""
    angles = [0.0, *(float(np.arccos(1 - d / 2)) for d in (POSITIVE, *NEGATIVES))]
    rows = torch.tensor([[np.cos(angle), np.sin(angle)] for angle in angles], dtype=torch.float32)
    labels = torch.tensor([0, 0, *range(1, len(NEGATIVES) + 1)])
    return sort_negatives(rows, labels)


def count_choices(order: SortedNegatives, rule: str) -> Tensor:
    """Return how often, 0 to 1, each negative is chosen for the anchor and its positive."""
    if rule in ("semi-hard-all", "batch-all"):
        return -weigh_band(order, MARGIN, beyond=rule == "semi-hard-all").weights[0, 2:]
    counts = torch.zeros(len(NEGATIVES))
    generator = torch.Generator().manual_seed(0)
    for _ in range(DRAWS):
        chosen = choose_negatives(order, MARGIN, rule=rule, generator=generator)[0]  # type: ignore[arg-type]
        if chosen >= 0:
            counts[chosen - 2] += 1
    return counts / DRAWS


def across(distance: float) -> float:
    """Return where a distance lies on the page."""
    return LEFT + WIDTH * distance / REACH


def text(x: float, y: float, words: str, *, size: int = 13, anchor: str = "start") -> str:
    """Return a line of text."""
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}">{words}</text>'


def draw_rule(order: SortedNegatives, rule: str, y: float) -> list[str]:
    """Return one line of the picture."""
    parts = [text(10, y + 4, rule), text(LEFT, y + 21, NOTES[rule], size=11)]
    parts.append(f'<line x1="{LEFT}" x2="{LEFT + WIDTH}" y1="{y}" y2="{y}" stroke="#999"/>')
    parts.append(f'<circle cx="{across(0)}" cy="{y}" r="5" fill="#222"/>')
    parts.append(f'<rect x="{across(POSITIVE) - 5:.1f}" y="{y - 5}" width="10" height="10" fill="#0a7d38"/>')
    for distance, often in zip(NEGATIVES, count_choices(order, rule).tolist(), strict=True):
        ring = f'stroke="#c2410c" stroke-width="1.5" fill="#c2410c" fill-opacity="{often:.2f}"'
        parts.append(f'<circle cx="{across(distance):.1f}" cy="{y}" r="6" {ring}/>')
    return parts


def main() -> None:
    """Write the picture."""
    order = make_order()
    height = TOP + ROW * len(RULES) + 40
    size = f'width="760" height="{height}" viewBox="0 0 760 {height}"'
    band = across(POSITIVE), WIDTH * MARGIN / REACH
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" fill="#222">',
        f'<rect width="760" height="{height}" fill="white"/>',
        f'<rect x="{band[0]:.1f}" y="30" width="{band[1]:.1f}" height="{height - 70}" fill="#fde68a"/>',
        text(across(0), 24, "anchor", size=11, anchor="middle"),
        text(band[0], 24, "positive", size=11, anchor="middle"),
        text(band[0] + band[1], 24, "+ margin 0.2", size=11, anchor="middle"),
    ]
    for number, rule in enumerate(RULES):
        parts += draw_rule(order, rule, TOP + ROW * number)
    told = "squared distance from the anchor; a filled negative is chosen"
    parts += [text(LEFT + WIDTH / 2, height - 14, told, size=12, anchor="middle"), "</svg>"]
    TARGET.write_text("\n".join(parts) + "\n", "utf-8")


if __name__ == "__main__":
    main()
