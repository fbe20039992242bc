"""The machine: threads, device and number format."""

import os
import subprocess
import sys

import pytest
import torch

from engine import runtime
from engine.errors import UserError


def in_new_process(code: str, **environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**kept, **environment}
    )
    return result.stdout.strip()


def test_setup_lets_waiting_threads_sleep_and_does_not_load_torch() -> None:
    code = (
        "import os, sys; from engine import runtime; runtime.setup()\n"
        "print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    )
    assert in_new_process(code) == "passive False"


def test_setup_keeps_what_the_user_has_set() -> None:
    code = "import os; from engine import runtime; runtime.setup(); print(os.environ['OMP_WAIT_POLICY'])"
    assert in_new_process(code, OMP_WAIT_POLICY="active") == "active"


def test_setup_sets_the_threads_of_torch() -> None:
    before = torch.get_num_threads()
    try:
        runtime.setup(1)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_a_quota_below_the_hosts_cores_limits_the_threads(monkeypatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(runtime, "available_cores", lambda: 3)
    runtime.setup()
    assert os.environ.pop("OMP_NUM_THREADS") == "3"


@pytest.mark.parametrize("threads", [0, -1, 100_000])
def test_a_number_of_threads_that_cannot_be_is_refused(threads: int) -> None:
    with pytest.raises(UserError, match=f"threads must be from 1 to .*, not {threads}"):
        runtime.setup(threads)


def test_the_cores_are_at_least_one_and_at_most_the_machines() -> None:
    assert 1 <= runtime.available_cores() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(("text", "cores"), [("max 100000", 8), ("150000 100000", 2), ("1000 100000", 1), ("", 8)])
def test_a_containers_quota_counts(monkeypatch, text: str, cores: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(runtime.Path, "read_text", lambda self: text)
    assert runtime.available_cores() == cores


def test_the_cpu_is_a_device_and_auto_finds_cuda_where_there_is_one(monkeypatch) -> None:
    assert runtime.pick_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert runtime.pick_device("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert runtime.pick_device("auto") == torch.device("cuda")
    assert runtime.pick_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(UserError, match="device 'cuda:2' is not there: torch sees 2 CUDA devices"):
        runtime.pick_device("cuda:2")


@pytest.mark.parametrize("name", ["gpu", "", "cpu:0", "cuda:x", "cuda:", "cuda:-1", "cuda:1:2"])
def test_an_unknown_device_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="unknown device .*known: auto, cpu, cuda"):
        runtime.pick_device(name)


def test_a_device_that_is_not_there_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for name in ("cuda", "mps"):
        with pytest.raises(UserError, match=f"device '{name}' is not there"):
            runtime.pick_device(name)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("fp32", torch.float32),
        ("float32", torch.float32),
        ("bf16", torch.bfloat16),
        ("bfloat16", torch.bfloat16),
        ("fp16", torch.float16),
    ],
)
def test_a_number_format_can_be_named(name: str, dtype: torch.dtype) -> None:
    assert runtime.pick_dtype("cpu", name) == dtype


def test_an_unknown_number_format_names_the_nearest() -> None:
    with pytest.raises(UserError, match="unknown number format 'bf61'; .*nearest: 'bf16'"):
        runtime.pick_dtype("cpu", "bf61")


@pytest.mark.parametrize(
    ("flags", "dtype"),
    [
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"avx512_bf16": False, "amx_bf16": True}, torch.bfloat16),
        ({"avx512_f": True}, torch.float32),
    ],
)
@pytest.mark.parametrize("source", ["torch", "cpuinfo"])
def test_a_cpu_uses_bf16_only_where_it_multiplies_it(monkeypatch, flags, dtype, source: str) -> None:
    if source == "torch":
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: flags, raising=False)
    else:
        monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
        monkeypatch.setattr(runtime, "_cpuinfo", lambda field: " ".join(flag for flag in flags if flags[flag]))
    assert runtime.pick_dtype("cpu") == dtype


def test_cuda_uses_bf16_where_it_is_native(monkeypatch) -> None:
    for native, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, now=native: now)
        assert runtime.pick_dtype(torch.device("cuda")) == dtype


def test_the_hardware_is_described_in_plain_values() -> None:
    import json

    described = runtime.hardware()
    assert json.loads(json.dumps(described)) == described
    assert described["cpu"] and described["cores"] >= 1 and described["torch"] == torch.__version__


def test_the_matrix_rate_is_measured_and_the_threads_are_put_back() -> None:
    before = torch.get_num_threads()
    rate = runtime.matmul_rate(torch.float32, 1, seconds=0.05)
    assert 1e8 < rate < 1e14
    assert torch.get_num_threads() == before
