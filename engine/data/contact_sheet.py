"""One picture of a shard: some episodes as rows, some moments of each as columns, with labels."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from safetensors import safe_open

CELL = 128
MARGIN = 14


def contact_sheet(path: Path, episodes: int = 8, moments: int = 8) -> bytes:
    """Return a PNG of the first `episodes` of the shard at `path`, each at `moments` evenly spread frames."""
    with safe_open(path, framework="numpy") as shard:
        number, map_seeds = shard.get_tensor("episode"), shard.get_tensor("map_seed")
        frames = shard.get_slice("frames")
        _, height, width, _ = frames.get_shape()
        cell = CELL, round(CELL * height / width)
        rows = min(episodes, len(map_seeds))
        sheet = Image.new("RGB", (moments * cell[0], rows * (cell[1] + MARGIN)))
        draw = ImageDraw.Draw(sheet)
        for row in range(rows):
            places = np.flatnonzero(number == row)
            for column in range(moments):
                moment = round(column * (len(places) - 1) / max(1, moments - 1))
                frame = frames[int(places[moment]) : int(places[moment]) + 1][0]
                corner = column * cell[0], row * (cell[1] + MARGIN)
                draw.text((corner[0] + 2, corner[1] + 1), f"map {map_seeds[row]}  frame {moment}", fill="white")
                picture = Image.fromarray(frame).resize(cell, Image.Resampling.NEAREST)
                sheet.paste(picture, (corner[0], corner[1] + MARGIN))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()
