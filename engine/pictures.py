"""Grids of pictures, so that a person sees what was learned."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from engine.files import replace_file


def grid(
    rows: Sequence[Sequence[Any]], labels: Sequence[str] = (), heads: Sequence[str] = (), scale: int = 2
) -> Image.Image:
    """Rows of uint8 (H, W, 3) pictures, with a label before each row and a head above each column."""
    height, width = np.asarray(rows[0][0]).shape[:2]
    left, top = (72 if labels else 0), (14 if heads else 0)
    columns = max(len(row) for row in rows)
    sheet = Image.new("RGB", (left + columns * (width * scale + 2), top + len(rows) * (height * scale + 2)), "black")
    draw = ImageDraw.Draw(sheet)
    for i, head in enumerate(heads):
        draw.text((left + i * (width * scale + 2) + 2, 1), head, fill="white")
    for r, row in enumerate(rows):
        y = top + r * (height * scale + 2)
        if labels:
            draw.text((2, y + height * scale // 2 - 6), labels[r], fill="white")
        for i, picture in enumerate(row):
            tile = Image.fromarray(np.asarray(picture)).resize(
                (width * scale, height * scale), Image.Resampling.NEAREST
            )
            sheet.paste(tile, (left + i * (width * scale + 2), y))
    return sheet


def save_grid(path: Path, rows: Sequence[Sequence[Any]], labels: Sequence[str] = (), heads: Sequence[str] = ()) -> None:
    """Write `grid` as PNG, whole or not at all."""
    data = io.BytesIO()
    grid(rows, labels, heads).save(data, "PNG")
    replace_file(path, data.getvalue())
