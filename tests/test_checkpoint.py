"""Checkpoints: whole or refused, at any moment."""

import contextlib
import errno
import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from engine import checkpoint
from engine.errors import UserError

CONFIG = {"world": "doom-plain", "buttons": ["forward", "back"], "notes": {"steps": 3}}


def tensors(seed: int = 0) -> dict[str, dict[str, Tensor]]:
    draw = torch.Generator().manual_seed(seed)
    return {
        "codec": {"mean": torch.randn(3, 4, generator=draw), "count": torch.tensor(7)},
        "generator": {
            "half": torch.randn(5, generator=draw).half(),
            "brain": torch.randn(2, 3, generator=draw).bfloat16(),
            "empty": torch.zeros(0, 2),
        },
    }


def equal(left: dict[str, dict[str, Tensor]], right: dict[str, dict[str, Tensor]]) -> bool:
    return left.keys() == right.keys() and all(
        left[group].keys() == right[group].keys()
        and all(
            tensor.dtype == right[group][name].dtype and torch.equal(tensor, right[group][name])
            for name, tensor in left[group].items()
        )
        for group in left
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    checkpoint.save(tmp_path / "a" / "nano", CONFIG, tensors())
    return tmp_path / "a" / "nano"


def file_of(folder: Path, group: str) -> Path:
    return folder / json.loads((folder / "config.json").read_text())["files"][group]["file"]


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


def message(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        checkpoint.load(folder)
    text = str(caught.value)
    assert "\n" not in text and str(folder) in text
    return text


def test_what_is_saved_is_loaded_in_its_own_dtype(folder: Path) -> None:
    config, loaded = checkpoint.load(folder)
    assert equal(loaded, tensors())
    assert {key: config[key] for key in CONFIG} == CONFIG
    assert config["format"] == "loci-checkpoint-1"


def test_the_same_tensors_make_the_same_files(folder: Path, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "b", CONFIG, tensors())
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        path.name: path.read_bytes() for path in (tmp_path / "b").iterdir()
    }


def test_tensors_that_share_memory_or_are_transposed_are_saved_by_value(tmp_path: Path) -> None:
    weight = torch.arange(6.0).reshape(2, 3).requires_grad_()
    given = {"codec": {"a": weight, "tied": weight, "part": weight[1:], "turned": weight.T}}
    checkpoint.save(tmp_path, {}, given)
    assert equal(checkpoint.load(tmp_path)[1], {"codec": {k: v.detach() for k, v in given["codec"].items()}})


def test_a_new_save_replaces_the_old_one_and_leaves_nothing_behind(folder: Path) -> None:
    (folder / "README.md").write_text("the user's own")
    (folder / ".codec.safetensors.1.tmp").write_text("left by a killed save")
    checkpoint.save(folder, CONFIG, {"codec": tensors(1)["codec"]})
    assert equal(checkpoint.load(folder)[1], {"codec": tensors(1)["codec"]})
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["README.md", "config.json", file_of(folder, "codec").name]
    )


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("survives", [False, True], ids=["killed", "failed"])
def test_a_save_that_stops_at_any_step_leaves_the_old_or_the_new_checkpoint_whole(
    folder: Path, monkeypatch, step: str, survives: bool
) -> None:
    """Every call of each system step is made the last one in turn: before it and after it."""

    class Stop(BaseException):
        pass

    def stop_at(call: int, after: bool) -> int:
        """Save new tensors, stopped at one call of `step`; return how many calls there were."""
        calls = 0
        real = getattr(os, step)

        def stopping(*arguments: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == call and not after:
                raise Stop
            result = real(*arguments, **named)
            if calls == call:
                raise Stop
            return result

        with monkeypatch.context() as patch:
            patch.setattr(os, step, stopping)
            if not survives:  # a killed process does not clean up
                patch.setattr(checkpoint, "_remove_stale", lambda folder: None)
                patch.setattr(Path, "unlink", lambda self, missing_ok=False: None)
            with contextlib.suppress(Stop):
                checkpoint.save(folder, CONFIG, tensors(1))
        return calls

    old, call, outcomes = tensors(), 0, set()
    while True:
        call += 1
        for after in (False, True):
            shutil.rmtree(folder)
            checkpoint.save(folder, CONFIG, old)
            if stop_at(call, after) < call:
                assert call > 2 and True in outcomes
                return
            loaded = checkpoint.load(folder)[1]
            assert equal(loaded, old) or equal(loaded, tensors(1))
            outcomes.add(equal(loaded, old))
            checkpoint.save(folder, CONFIG, tensors(2))  # and the next save works and cleans up
            assert equal(checkpoint.load(folder)[1], tensors(2)) and len(list(folder.iterdir())) == 3


def test_a_failed_save_does_not_take_the_weights_of_a_broken_config(folder: Path, monkeypatch) -> None:
    (folder / "config.json").write_text("{ mended by hand")
    weights = set(folder.glob("*.safetensors"))
    monkeypatch.setattr(checkpoint, "replace_file", lambda path, data: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        checkpoint.save(folder, CONFIG, tensors(1))
    assert weights <= set(folder.iterdir())


def test_loading_while_a_newer_one_is_swapped_in_gives_one_of_the_two(folder: Path, monkeypatch) -> None:
    real = checkpoint._read_group
    swapped: list[bool] = []

    def swap_first(*arguments: Any) -> Any:
        if not swapped:
            swapped.append(True)
            checkpoint.save(folder, CONFIG, tensors(1))
        return real(*arguments)

    monkeypatch.setattr(checkpoint, "_read_group", swap_first)
    assert equal(checkpoint.load(folder)[1], tensors(1))


def test_a_missing_folder_file_or_config_is_named(folder: Path, tmp_path: Path) -> None:
    assert "no such folder; train this world first" in message(tmp_path / "absent")
    path = file_of(folder, "generator")
    path.unlink()
    assert f"{path.name} is missing" in message(folder)
    (folder / "config.json").unlink()
    assert "no config.json in it" in message(folder)
    assert "expected a folder" in message(next(folder.glob("codec-*.safetensors")))


def test_a_truncated_file_and_a_flipped_bit_are_found(folder: Path) -> None:
    path = file_of(folder, "codec")
    data = path.read_bytes()
    for length in (0, 4, len(data) - 1):
        path.write_bytes(data[:length])
        assert f"truncated: {length} bytes" in message(folder)
    path.write_bytes(data + b"\0")
    assert "altered" in message(folder)
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert "altered: its sha256" in message(folder)
    path.write_bytes(data)
    checkpoint.load(folder)


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a pickle was executed",))


@pytest.mark.parametrize("kind", ["pickle", "torch"])
def test_a_pickle_is_never_read(folder: Path, kind: str) -> None:
    path = file_of(folder, "codec")
    if kind == "pickle":
        path.write_bytes(pickle.dumps({"x": Bomb()}))
    else:
        torch.save({"x": Bomb()}, path)
    assert "this is a pickle, which is never read" in message(folder)
    assert "pickle" in message(path)


def test_a_safetensors_file_that_begins_like_a_pickle_is_read(tmp_path: Path) -> None:
    """Its first byte is the low byte of the header's length, and may be 0x80."""
    for length in range(1, 80):
        checkpoint.save(tmp_path, {}, {"codec": {"x" * length: torch.zeros(1)}})
        if file_of(tmp_path, "codec").read_bytes()[0] == 0x80:
            assert list(checkpoint.load(tmp_path)[1]["codec"]) == ["x" * length]
            return
    pytest.fail("no header of 128 bytes came up")


def test_garbage_with_the_right_sum_is_refused(folder: Path) -> None:
    data = b"\x05\0\0\0\0\0\0\0{nope"
    file_of(folder, "codec").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    edit(folder, lambda config: config["files"]["codec"].update(sha256=digest, bytes=len(data)))
    assert "not a safetensors file of 'codec'" in message(folder)


@pytest.mark.parametrize(
    "name", ["../x.safetensors", "/etc/x.safetensors", "a/b.safetensors", "a\\b.safetensors", "..safetensors",
             ".x.safetensors", "x.pt", "", "C:x.safetensors", "x.safetensors\n"],
)  # fmt: skip
def test_a_name_that_leads_out_of_the_folder_is_refused(folder: Path, name: str) -> None:
    edit(folder, lambda config: config["files"]["codec"].update(file=name))
    assert "which is not a safetensors file in the folder" in message(folder)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "not valid JSON"),
        ("\xff", "not valid JSON"),
        ("[" * 200_000, "not valid JSON"),
        ("[]", "has format '[]'"),
        ('{"format": "loci-checkpoint-2"}', "has format 'loci-checkpoint-2'; this version reads"),
        ('{"format": "loci-checkpoint-1"}', "no table 'files'"),
        ('{"format": "loci-checkpoint-1", "files": {"codec": "x"}}', "does not give file, sha256 and bytes"),
        (
            '{"format": "loci-checkpoint-1", "files": {"c": {"file": 1}}}',
            "does not give file, sha256 and bytes",
        ),
    ],
)
def test_a_wrong_config_is_one_clear_line(folder: Path, text: str, expected: str) -> None:
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    assert expected in message(folder)


def test_an_enormous_config_is_not_read(folder: Path) -> None:
    with open(folder / "config.json", "wb") as file:
        file.truncate(checkpoint.MAX_CONFIG_BYTES + 1)
    assert "larger than" in message(folder)


def test_saving_over_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("mine")
    with pytest.raises(UserError, match="this is a file"):
        checkpoint.save(tmp_path / "x", CONFIG, tensors())
    assert (tmp_path / "x").read_text() == "mine"


def test_a_full_disk_is_an_os_error_that_names_the_file(folder: Path, monkeypatch) -> None:
    """A write that fails has no file name of its own in Python."""

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = file_of(folder, "codec")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device: '.*codec-.*safetensors'"):
        checkpoint.save(folder, CONFIG, tensors(1))
    assert equal(checkpoint.load(folder)[1], tensors()) and before.exists()
    assert len(list(folder.iterdir())) == 3


def test_the_files_have_the_permissions_of_any_new_file(folder: Path) -> None:
    (folder / "plain").write_text("")
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1


def test_matrices_in_8_bits_come_back_nearly_the_same_at_half_the_size(tmp_path: Path) -> None:
    weights = {"w": torch.randn(64, 48), "none": torch.zeros(0, 4), "b": torch.randn(64), "scale": torch.randn(3, 2)}
    checkpoint.save(tmp_path / "16", {}, {"m": {name: t.half() for name, t in weights.items()}})
    checkpoint.save(tmp_path / "8", {}, {"m": checkpoint.in_8_bits(weights)})
    _, found = checkpoint.load(tmp_path / "8")
    assert found["m"].keys() == weights.keys()
    for name, tensor in weights.items():
        torch.testing.assert_close(found["m"][name], tensor, atol=0.02, rtol=0)
    sizes = {kind: sum(p.stat().st_size for p in (tmp_path / kind).glob("*.safetensors")) for kind in ("8", "16")}
    assert sizes["8"] < 0.7 * sizes["16"]
