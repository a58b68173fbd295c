"""The NVIDIA GPUs that `nvidia-smi` tells of. Standard library only: it decides which torch is installed."""

import shutil
import subprocess
from dataclasses import dataclass

LEAST_DRIVER = 580  # major version that CUDA 13 asks for: https://docs.nvidia.com/deploy/cuda-compatibility/


@dataclass(frozen=True, slots=True)
class Gpu:
    name: str
    memory: int  # bytes
    driver: str  # "580.95.05"
    capability: str  # "9.0"


def gpus() -> list[Gpu]:
    """[] where there is no `nvidia-smi`, or it does not answer within ten seconds."""
    if not shutil.which("nvidia-smi"):
        return []
    command = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version,compute_cap", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=10, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return []
    if said.returncode:
        return []
    rows = [[part.strip() for part in line.split(",")] for line in said.stdout.splitlines()]
    return [Gpu(row[0], int(row[1]) << 20 if row[1].isdigit() else 0, row[2], row[3]) for row in rows if len(row) == 4]
