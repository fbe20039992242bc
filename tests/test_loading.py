"""Opening worlds, pictures and checkpoints, whole and broken."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.config import WorldConfig, load_world
from engine.errors import UserError
from engine.loading import fitted, load_codec, load_starts, open_world, read_image
from tests.support.weights import write_weights

CONFIG = load_world("doom-plain")


def write_checkpoint(folder: Path, **changes) -> Path:
    return write_weights(folder, CONFIG.buttons, **changes)


def test_a_checkpoint_opens_as_a_world_that_plays(tmp_path: Path) -> None:
    world = open_world(CONFIG, checkpoint=write_checkpoint(tmp_path), threads=1, batch=2, memory="full", steps=1)
    world.reset(0, np.zeros((2, 1, 48, 64, 3), np.uint8))
    assert world.step(np.zeros(6, np.uint8)).shape == (2, 48, 64, 3)
    assert (world.mode, world.steps) == ("full", 1)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"buttons": ["fire"]}, r"trained for buttons \['fire'\]"),
        ({"generator": None}, "has no generator"),
        ({"codec": 3}, "has no codec"),
        ({"generator": {"dim": 7}}, "generator"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_named(tmp_path: Path, changes: dict, says: str) -> None:
    with pytest.raises(UserError, match=says):
        open_world(CONFIG, checkpoint=write_checkpoint(tmp_path, **changes), threads=1)


def test_weights_that_do_not_fit_their_config_are_named(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["generator"]["depth"] = 7
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="generator: blocks.2.* is missing"):
        open_world(CONFIG, checkpoint=tmp_path, threads=1)
    config["codec"]["channels"] = 32
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"codec: the weights do not fit: basis: expected \(768, 32\)"):
        load_codec(tmp_path)


def test_a_world_is_opened_in_the_preset_of_its_checkpoint(tmp_path: Path) -> None:
    rich = load_world("doom")
    folder = write_checkpoint(tmp_path)
    with pytest.raises(UserError, match="draws 48x64 pixels, doom has 96x128"):
        open_world(rich, checkpoint=folder, threads=1)
    world = open_world(fitted(rich, folder), checkpoint=folder, threads=1)
    assert (world.height, world.width) == (48, 64)
    assert fitted(rich, None) == rich


def test_a_missing_checkpoint_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none"):
        open_world(CONFIG, checkpoint=tmp_path / "none", threads=1)


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


def test_every_world_has_start_frames() -> None:
    for name in ("doom", "doom-plain"):
        config = load_world(name)
        starts = load_starts(config)
        shape = (config.shape.height, config.shape.width, 3)
        assert len(starts) >= 16 and all(frame.shape == shape for frame in starts.values())
        assert list(starts) == sorted(starts)


def test_a_world_without_start_frames_asks_for_a_picture() -> None:
    bare: WorldConfig = replace(CONFIG, starts="")
    with pytest.raises(UserError, match="--image"):
        load_starts(bare)


def test_grey_pictures_of_many_bits_are_scaled_and_not_clipped(tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (48, 1))
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    Image.fromarray((ramp / 65535).astype(np.float32)).save(tmp_path / "float.tiff")
    for name in ("deep.png", "float.tiff"):
        found = read_image(tmp_path / name, 48, 64)
        assert abs(found[..., 0].astype(int) - np.linspace(0, 255, 64)).max() <= 1
