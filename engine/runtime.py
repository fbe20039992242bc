"""The machine: threads, device, number format, and what it can do at best. torch is imported only on use."""

import math
import os
import platform
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import UserError, unknown

if TYPE_CHECKING:
    import torch

_DTYPES = {
    "fp32": "float32",
    "bf16": "bfloat16",
    "fp16": "float16",
    "float32": "float32",
    "bfloat16": "bfloat16",
    "float16": "float16",
}


def setup(threads: int | None = None) -> None:
    """Prepare this process for torch; call it before anything imports torch.

    OpenMP's workers sleep while they wait, unless the user's environment says otherwise: busy waiting makes
    every pass several times slower as soon as another process wants the cores. `threads` sets the number of
    threads of one operation; None leaves it to torch, within what a container may use. Raises UserError for
    a number that this machine cannot have.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    cores = available_cores()
    if threads is None:
        if cores < (os.cpu_count() or 1):  # torch counts the host's cores, not the container's
            os.environ.setdefault("OMP_NUM_THREADS", str(cores))
        return
    most = os.cpu_count() or 1
    if not 1 <= threads <= most:
        raise UserError(f"threads must be from 1 to {most} on this machine, not {threads}")
    import torch

    torch.set_num_threads(threads)


def available_cores() -> int:
    """Return how many cores this process may use: its affinity, or a container's quota where that is less."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(cores, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no control groups here, or no quota: "max"
        return cores


def pick_device(name: str = "auto") -> "torch.device":
    """Return the device called ``cpu``, ``cuda``, ``cuda:1`` or ``mps``; ``auto`` is CUDA where there is one.

    Raises UserError for a name that torch does not know or a device that is not there.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (":" in name and not (kind == "cuda" and index.isdecimal())):
        raise UserError(unknown("device", name, ("auto", "cpu", "cuda", "cuda:0", "mps")))
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count <= int(index or 0):
            raise UserError(f"device {name!r} is not there: torch sees {count} CUDA devices; use 'cpu' or 'auto'")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UserError("device 'mps' is not there; use 'cpu' or 'auto'")
    return torch.device(name)


def pick_dtype(device: "torch.device | str", name: str = "auto") -> "torch.dtype":
    """Return the number format called ``fp32``, ``bf16`` or ``fp16``; ``auto`` is the fastest safe one.

    That is bf16 where the hardware multiplies it natively (a CUDA device, or a CPU with AVX512_BF16 or AMX),
    and fp32 elsewhere, where bf16 would be slower. Raises UserError for an unknown name.
    """
    import torch

    if name != "auto":
        if name not in _DTYPES:
            raise UserError(unknown("number format", name, ("auto", "fp32", "bf16", "fp16")))
        return getattr(torch, _DTYPES[name])
    kind = torch.device(device).type
    if kind == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = kind == "cpu" and cpu_has_bf16()
    return torch.bfloat16 if native else torch.float32


def cpu_has_bf16() -> bool:
    """Return whether the CPU multiplies bf16 natively (AVX512_BF16 or AMX), so that it beats fp32."""
    import torch

    wanted = ("avx512_bf16", "amx_bf16")
    if hasattr(torch.cpu, "get_capabilities"):
        found = torch.cpu.get_capabilities()
        return any(found.get(flag, False) for flag in wanted)
    flags = _cpuinfo("flags").split()
    return any(flag in flags for flag in wanted)


def hardware() -> dict[str, Any]:
    """Return what the figures of a benchmark depend on.

    Keys: cpu (name), cores (usable), threads (of torch), system, python, torch, gpu (name or None) and
    gpu_memory_bytes (or None).
    """
    import torch

    gpu = torch.cuda.get_device_properties(0) if torch.cuda.is_available() else None
    return {
        "cpu": _cpuinfo("model name") or platform.processor() or platform.machine(),
        "cores": available_cores(),
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "gpu": gpu.name if gpu else None,
        "gpu_memory_bytes": gpu.total_memory if gpu else None,
    }


def matmul_rate(
    dtype: "torch.dtype",
    threads: int | None = None,
    *,
    device: "torch.device | str" = "cpu",
    seconds: float = 0.3,
) -> float:
    """Measure the rate of a large matrix product, in FLOP/s: the limit that a pass is compared with.

    The best of the repetitions that fit into `seconds` counts, because another process can only slow one
    down. The number of threads is put back afterwards.
    """
    import torch

    device = torch.device(device)
    size = 4096 if device.type == "cuda" else 1024
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        left = torch.ones(size, size, dtype=dtype, device=device)
        right = torch.ones(size, size, dtype=dtype, device=device)
        best, stop, runs = math.inf, math.inf, 0
        while runs < 3 or time.perf_counter() < stop:
            start = time.perf_counter()
            torch.mm(left, right)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            end = time.perf_counter()
            if runs == 0:
                stop = end + seconds  # the first product also pays for setting up
            else:
                best = min(best, end - start)
            runs += 1
    finally:
        torch.set_num_threads(before)
    return 2.0 * size**3 / best


def _cpuinfo(field: str) -> str:
    """Return a field of the first processor in /proc/cpuinfo, or an empty text where there is none."""
    if not sys.platform.startswith("linux"):
        return ""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == field), "")
