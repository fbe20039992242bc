"""The check against a commit: what it says of a difference, and of a commit that is not there."""

import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tools import goldens, goldens_probe
from tools.goldens import Result, first_difference

FRAMES = {f"frame {i}": f"uint8 (1, 48, 64, 3) {i:064d}" for i in range(1, 65)}


def test_the_first_frame_that_differs_is_named() -> None:
    other = FRAMES | {"frame 9": "x" * 64, "frame 40": "y" * 64}
    assert first_difference(Result(FRAMES), Result(dict(FRAMES))) == ""
    assert first_difference(Result(FRAMES), Result(other)) == "frame 9 differs"


def test_short_values_are_shown_and_missing_ones_named() -> None:
    base = Result({"loss of row 0": "0,1.5"})
    assert first_difference(base, Result({"loss of row 0": "0,1.25"})) == (
        "loss of row 0 differs: 0,1.5 in BASE, 0,1.25 in HEAD"
    )
    assert first_difference(base, Result({})) == "loss of row 0 is only in BASE"
    assert first_difference(base, Result(base.values | {"more": "1"})) == "more is only in HEAD"
    assert first_difference(base, Result({}, "RuntimeError: no")) == "fails: RuntimeError: no"
    assert first_difference(base, None) == "HEAD does not get so far"


def test_a_tensor_is_compared_by_its_bits_its_type_and_its_shape(tmp_path: Path) -> None:
    def written(dtype: str, shape: list[int], data: bytes, metadata: str = "") -> goldens_probe.Values:
        entry = {"dtype": dtype, "shape": shape, "data_offsets": [0, len(data)]}
        head = json.dumps({"__metadata__": {"note": metadata}, "weight": entry}).encode()
        path = tmp_path / "part.safetensors"
        path.write_bytes(struct.pack("<Q", len(head)) + head + data)
        return goldens_probe.tensors_of(path, "part")

    plain = written("F32", [2], bytes(8))
    assert list(plain) == ["part weight"] and plain == written("F32", [2], bytes(8), "another")
    negative_zero = struct.pack("<2f", 0.0, -0.0)
    for other in (("F32", [2], negative_zero), ("F32", [2, 1], bytes(8)), ("I32", [2], bytes(8))):
        assert written(*other) != plain


def test_a_table_counts_what_differs_and_what_never_came(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = {"one": Result(FRAMES), "two": Result(FRAMES), "three": Result(FRAMES)}

    def broken_off(*rest: object) -> object:
        yield "one", Result(dict(FRAMES))
        yield "two", Result(FRAMES | {"frame 3": "other"})
        raise goldens.GoldensError("ImportError: no module")

    monkeypatch.setattr(goldens.Base, "results", lambda self, part: base)
    monkeypatch.setattr(goldens, "head_results", broken_off)
    assert goldens.main(["HEAD", "--only", "play", "--keep", str(tmp_path)]) == 1
    one, two, three, verdict = capsys.readouterr().out.splitlines()
    assert one.startswith("play: one") and one.endswith("equal") and two.endswith("frame 3 differs")
    assert three.endswith("HEAD breaks off: ImportError: no module")
    assert verdict.startswith("2 of 3 cases differ")


@pytest.mark.parametrize("name", ["no-such-commit", "--all", "0" * 40])
def test_an_unknown_commit_is_one_line_and_status_2(name: str) -> None:
    command = [sys.executable, goldens.__file__, "--", name]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.startswith("error: expected a commit") and len(done.stderr.splitlines()) == 1
