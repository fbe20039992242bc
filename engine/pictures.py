"""Pictures, uint8 (H, W, 3): read from files, brought to a size, put side by side on a sheet, written as PNG.

What is done to a picture is here, once. Pillow is loaded where it is needed, so that nobody waits for it at the start.
"""

import io
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.errors import UserError
from engine.files import check_path, replace_file, write_error

if TYPE_CHECKING:
    from PIL import Image

LINE = 14
"""Height of a line of text on a sheet, in pixels."""
MARGIN = 72
"""Width of what stands before a row of a sheet, in pixels."""


def read_image(path: str | Path, height: int, width: int) -> np.ndarray:
    """Any picture as uint8 (height, width, 3): first frame, turned as its EXIF says, cut to the aspect, averaged."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as opened:
            opened.seek(0)
            image = _in_colour(ImageOps.exif_transpose(opened))
            return np.asarray(ImageOps.fit(image, (width, height), Image.Resampling.BOX)).copy()
    except FileNotFoundError as error:
        raise UserError(f"image {path}: there is no such file") from error
    except IsADirectoryError as error:
        raise UserError(f"image {path}: this is a folder; expected a picture such as a PNG or JPEG") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(
            f"image {path}: cannot be read as a picture ({error}); expected PNG, JPEG, GIF or WebP"
        ) from error


def _in_colour(image: "Image.Image") -> "Image.Image":
    """A picture of any kind in red, green and blue, of 8 bits each."""
    from PIL import Image

    if image.mode == "F" or image.mode.startswith("I"):  # more than 8 bits of grey: Pillow would clip them
        levels = np.asarray(image, np.float64)
        top = 65535.0 if image.mode.startswith("I;16") else max(1.0, float(levels.max(initial=0.0)))
        top = 1.0 if image.mode == "F" and top <= 1.0 else top
        image = Image.fromarray((np.clip(levels / top, 0, 1) * 255).round().astype(np.uint8))
    # Transparent parts are shown on black, not with whatever colour lies behind them.
    black = Image.new("RGBA", image.size, "black")
    return Image.alpha_composite(black, image.convert("RGBA")).convert("RGB")


def scale_for(size: int, target: int) -> int:
    """The smallest whole factor that makes `size` pixels at least `target`."""
    return max(1, math.ceil(target / size))


def magnify(picture: np.ndarray, scale: int) -> np.ndarray:
    """Repeat every pixel `scale` times in both directions: uint8 (H, W, 3) -> (H*scale, W*scale, 3)."""
    return picture if scale == 1 else picture.repeat(scale, axis=0).repeat(scale, axis=1)


def resize(picture: np.ndarray, height: int, width: int, fit: str = "stretch") -> np.ndarray:
    """Bring a picture uint8 (H, W, 3) to (height, width, 3): the mean of what falls on a pixel, or the nearest one.

    The nearest one is taken where the picture is the smaller one. fit: how another aspect is brought to this one,
    ``stretch`` it, ``pad`` it with black, or ``crop`` it.
    """
    picture = to_aspect(picture, height, width, fit)
    rows, columns = np.arange(height) * picture.shape[0] // height, np.arange(width) * picture.shape[1] // width
    if height > picture.shape[0] or width > picture.shape[1]:
        return picture[rows][:, columns]
    sums = np.add.reduceat(np.add.reduceat(picture.astype(np.float32), rows, 0), columns, 1)
    counts = np.diff(rows, append=picture.shape[0])[:, None] * np.diff(columns, append=picture.shape[1])
    return np.rint(sums / counts[..., None]).astype(np.uint8)


def to_aspect(picture: np.ndarray, height: int, width: int, fit: str) -> np.ndarray:
    """Bring a picture uint8 (H, W, C) to the aspect of height : width by black bars or by a cut, or leave it.

    fit: ``pad``, ``crop`` or ``stretch``, as `resize` takes it; ValueError for any other.
    """
    if fit not in ("stretch", "pad", "crop"):
        raise ValueError(f"fit must be one of stretch, pad, crop, not {fit!r}")
    h, w = picture.shape[:2]
    if fit == "stretch" or h * width == w * height:
        return picture
    too_wide = w * height > h * width
    if fit == "crop":
        h_new, w_new = (h, max(1, round(h * width / height))) if too_wide else (max(1, round(w * height / width)), w)
        top, left = (h - h_new) // 2, (w - w_new) // 2
        return picture[top : top + h_new, left : left + w_new]
    h_new, w_new = (round(w * height / width), w) if too_wide else (h, round(h * width / height))
    padded = np.zeros((h_new, w_new, picture.shape[2]), np.uint8)
    top, left = (h_new - h) // 2, (w_new - w) // 2
    padded[top : top + h, left : left + w] = picture
    return padded


def shrink_fast(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bring a picture uint8 (H, W, 3) to a smaller (height, width, 3) with Pillow, which is quicker than `resize`.

    Means are rounded otherwise, by a level here and there, and where one size does not divide the other, each pixel is
    the mean of others. Frames of Doom were always made so, and must go with what was learnt from.
    """
    from PIL import Image

    image = Image.fromarray(picture)
    factor = image.width // width
    if (image.width, image.height) == (factor * width, factor * height):
        return np.array(image.reduce(factor))
    return np.array(image.resize((width, height), Image.Resampling.BOX))


def grid(
    rows: Sequence[Sequence[Any]],
    labels: Sequence[str] = (),
    heads: Sequence[str] = (),
    captions: Sequence[Sequence[str]] = (),
    *,
    scale: int = 2,
    gap: int = 2,
) -> np.ndarray:
    """Put rows of pictures of one size, uint8 (H, W, 3), on a black sheet, uint8 (height, width, 3).

    labels: one before each row. heads: one above each column. captions: one above each picture, by row. scale:
    whole number by which the pictures are magnified. gap: pixels between two of them. Rows may differ in length.
    Raises UserError where there is no picture.
    """
    from PIL import Image, ImageDraw

    if not rows or not rows[0]:
        raise UserError("a sheet needs at least one picture")
    height, width = (scale * size for size in np.asarray(rows[0][0]).shape[:2])
    left, top, line = (MARGIN if labels else 0), (LINE if heads else 0), (LINE if captions else 0)
    across, down = width + gap, line + height + gap
    columns = max(len(row) for row in rows)
    sheet = Image.new("RGB", (left + columns * across - gap, top + len(rows) * down - gap), "black")
    draw = ImageDraw.Draw(sheet)
    for i, head in enumerate(heads):
        draw.text((left + i * across + 2, 1), head, fill="white")
    for r, row in enumerate(rows):
        y = top + r * down
        if labels:
            draw.text((2, y + line + height // 2 - 6), labels[r], fill="white")
        for i, picture in enumerate(row):
            x = left + i * across
            if captions:
                draw.text((x + 2, y + 1), captions[r][i], fill="white")
            sheet.paste(Image.fromarray(magnify(np.asarray(picture), scale)), (x, y + line))
    return np.array(sheet)


def png(picture: np.ndarray, *, small: bool = False) -> bytes:
    """A picture, uint8 (H, W, 3), as a PNG file's bytes. small: take the time to make them few."""
    from PIL import Image

    data = io.BytesIO()
    Image.fromarray(picture).save(data, "PNG", optimize=small)
    return data.getvalue()


def save_grid(path: Path, rows: Sequence[Sequence[Any]], labels: Sequence[str] = (), heads: Sequence[str] = ()) -> None:
    """Write `grid` as PNG, whole or not at all. Raises OSError."""
    replace_file(path, png(grid(rows, labels, heads)))


def save_picture(path: str | os.PathLike[str], picture: np.ndarray, scale: int = 1) -> Path:
    """Write a picture, uint8 (H, W, 3), magnified by `scale`, as PNG; whole or not at all. Returns the path.

    Raises UserError where it cannot be written, or the name does not end in ``.png``.
    """
    path = check_path(path, (".png",))
    try:
        replace_file(path, png(magnify(picture, scale)))
    except OSError as error:
        raise write_error(path, error) from error
    return path
