"""Pictures are read, brought to a size, put on a sheet and written in one way each."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine import pictures
from engine.errors import UserError
from engine.pictures import grid, magnify, png, read_image, resize, save_grid, save_picture, scale_for, to_aspect


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 256, (height, width, 3), np.uint8)


def grey(rows: list[list[int]]) -> np.ndarray:
    return np.array(rows, np.uint8)[..., None].repeat(3, 2)


def test_a_picture_is_magnified_by_whole_pixels() -> None:
    assert magnify(grey([[1, 2]]), 2)[..., 0].tolist() == [[1, 1, 2, 2], [1, 1, 2, 2]]
    picture = noise(3, 4)
    assert magnify(picture, 1) is picture and magnify(picture, 3).shape == (9, 12, 3)


@pytest.mark.parametrize(("size", "target", "scale"), [(48, 480, 10), (96, 480, 5), (100, 480, 5), (500, 480, 1)])
def test_the_scale_is_the_smallest_that_reaches_a_size(size: int, target: int, scale: int) -> None:
    assert scale_for(size, target) == scale


def test_a_picture_shrinks_to_the_mean_and_grows_by_the_nearest() -> None:
    picture = grey([[0, 10, 20], [20, 30, 40]])
    assert resize(picture, 1, 1)[0, 0].tolist() == [20, 20, 20]
    assert resize(picture, 2, 2)[..., 0].tolist() == [[0, 15], [20, 35]]
    assert resize(picture, 4, 3)[:, 0, 0].tolist() == [0, 0, 20, 20]
    assert np.array_equal(resize(picture, 2, 3), picture)


def test_pictures_of_another_aspect_are_stretched_padded_or_cut() -> None:
    tall = np.arange(8 * 3, dtype=np.uint8).reshape(8, 3, 1).repeat(3, 2) + 1
    assert to_aspect(tall, 48, 64, "stretch") is tall
    padded = to_aspect(tall, 48, 64, "pad")
    assert padded.shape == (8, 11, 3) and np.array_equal(padded[:, 4:7], tall)
    assert not padded[:, :4].any() and not padded[:, 7:].any()
    cut = to_aspect(tall, 48, 64, "crop")
    assert cut.shape == (2, 3, 3) and np.array_equal(cut, tall[3:5])
    wide = tall.transpose(1, 0, 2)
    assert to_aspect(wide, 48, 64, "pad").shape == (6, 8, 3) and to_aspect(wide, 48, 64, "crop").shape == (3, 4, 3)
    resized = resize(tall, 48, 64, "pad")
    assert resized.shape == (48, 64, 3) and not resized[:, :23].any() and resized[:, 30].all()
    with pytest.raises(ValueError, match="not 'squeeze'"):
        to_aspect(tall, 48, 64, "squeeze")


def test_the_quick_way_to_shrink_takes_the_mean_too_and_rounds_a_half_up() -> None:
    picture = grey([[0, 1, 8, 8], [0, 1, 8, 9]])
    assert pictures.shrink_fast(picture, 1, 2)[..., 0].tolist() == [[1, 8]]
    assert resize(picture, 1, 2)[..., 0].tolist() == [[0, 8]]  # to the even one
    large = noise(120, 160)
    assert pictures.shrink_fast(large, 48, 64).shape == (48, 64, 3)
    apart = resize(large, 60, 80).astype(int) - pictures.shrink_fast(large, 60, 80)
    assert abs(apart).max() == 1


def test_a_sheet_shows_pictures_in_rows_with_gaps_between_them() -> None:
    drawn = [noise(4, 6, seed) for seed in range(7)]
    sheet = grid([drawn[:3], drawn[3:6], drawn[6:]], scale=1, gap=1)
    assert sheet.dtype == np.uint8 and sheet.shape == (3 * 5 - 1, 3 * 7 - 1, 3)
    assert np.array_equal(sheet[5:9, 7:13], drawn[4])
    assert not sheet[4].any() and not sheet[:, 6].any() and not sheet[10:, 6:].any()
    double = grid([drawn[:3], drawn[3:6]])
    assert double.shape == (2 * (8 + 2) - 2, 3 * (12 + 2) - 2, 3)
    assert np.array_equal(double[10:18, 14:26], magnify(drawn[4], 2))
    with pytest.raises(UserError, match="at least one picture"):
        grid([])


def test_a_sheet_has_room_for_what_is_written_beside_its_pictures() -> None:
    dark = [[np.zeros((20, 40, 3), np.uint8)] * 2] * 3
    plain = grid(dark, scale=1, gap=0)
    assert plain.shape == (60, 80, 3) and not plain.any()
    headed = grid(dark, heads=["+1", "+2"], scale=1, gap=0)
    assert headed.shape == (60 + 14, 80, 3) and headed[:14, :40].any() and headed[:14, 40:].any()
    assert not headed[14:].any()
    labelled = grid(dark, ["real", "drawn", "held"], scale=1, gap=0)
    assert labelled.shape == (60, 80 + 72, 3) and not labelled[:, 72:].any()
    assert all(labelled[20 * i : 20 * (i + 1), :72].any() for i in range(3))
    captioned = grid(dark, captions=[["a", "b"], ["c", "d"], ["e", "f"]], scale=1, gap=0)
    assert captioned.shape == (3 * (20 + 14), 80, 3)
    for i in range(3):
        above, below = np.split(captioned[34 * i : 34 * (i + 1)], [14])
        assert above[:, :40].any() and above[:, 40:].any() and not below.any()


def test_a_picture_is_written_whole_and_comes_back_as_it_was(tmp_path: Path) -> None:
    picture = noise(12, 16)
    path = save_picture(tmp_path / "a.png", picture, 2)
    assert np.array_equal(np.asarray(Image.open(path)), magnify(picture, 2))
    assert np.array_equal(read_image(path, 24, 32), magnify(picture, 2))
    save_grid(tmp_path / "b.png", [[picture, picture]], ["real"])
    assert np.array_equal(np.asarray(Image.open(tmp_path / "b.png")), grid([[picture, picture]], ["real"]))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "b.png"]
    flat = np.full((64, 64, 3), 7, np.uint8)
    assert len(png(flat, small=True)) <= len(png(flat))
    with pytest.raises(UserError, match=r"ends in \.png"):
        save_picture(tmp_path / "a.jpg", picture)


def test_any_picture_becomes_a_frame(tmp_path: Path) -> None:
    colours = {"red": (255, 0, 0), "blue": (0, 0, 255)}
    for mode in ("RGB", "RGBA", "L", "P", "1", "CMYK", "I;16"):
        path = tmp_path / f"{mode.replace(';', '')}.{'tiff' if mode == 'CMYK' else 'png'}"
        Image.new(mode, (301, 77)).save(path)
        assert read_image(path, 48, 64).shape == (48, 64, 3)
    first, second = (Image.new("RGB", (20, 15), colour) for colour in colours.values())
    first.save(tmp_path / "moving.gif", save_all=True, append_images=[second])
    assert read_image(tmp_path / "moving.gif", 48, 64)[10, 10].tolist() == [255, 0, 0]
    Image.new("RGB", (1, 1), "blue").save(tmp_path / "dot.png")
    assert (read_image(tmp_path / "dot.png", 48, 64) == colours["blue"]).all()


def test_a_picture_is_turned_as_its_exif_says_and_cut_in_the_middle(tmp_path: Path) -> None:
    image = Image.new("RGB", (64, 48), "black")
    image.paste("white", (0, 0, 64, 24))
    exif = Image.Exif()
    exif[0x0112] = 3  # turned by 180 degrees
    image.save(tmp_path / "turned.png", exif=exif)
    frame = read_image(tmp_path / "turned.png", 48, 64)
    assert frame[5].max() == 0 and frame[40].min() == 255
    wide = Image.new("RGB", (640, 48), "black")
    wide.paste("white", (288, 0, 352, 48))
    wide.save(tmp_path / "wide.png")
    assert read_image(tmp_path / "wide.png", 48, 64).min() == 255


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 30])
def test_what_is_no_picture_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"broken\.png"):
        read_image(path, 48, 64)
    with pytest.raises(UserError, match="no such file"):
        read_image(tmp_path / "absent.png", 48, 64)
    with pytest.raises(UserError, match="this is a folder"):
        read_image(tmp_path, 48, 64)


def test_grey_pictures_of_many_bits_are_scaled_and_not_clipped(tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (48, 1))
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    Image.fromarray((ramp / 65535).astype(np.float32)).save(tmp_path / "float.tiff")
    for name in ("deep.png", "float.tiff"):
        found = read_image(tmp_path / name, 48, 64)
        assert abs(found[..., 0].astype(int) - np.linspace(0, 255, 64)).max() <= 1
