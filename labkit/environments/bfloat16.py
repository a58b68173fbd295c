"""Whether bfloat16 works on this CPU: tried in a child process, because a CPU that advertises AMX may die of it (SIGILL)."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

from labkit.environments import home, machine

# Matrix products and attention in the shapes of a decode, a batch of decodes and a prefill, against float32. bfloat16 keeps 8 bits.
TRIAL = """
import torch
torch.manual_seed(0)
f = torch.nn.functional
for rows in (1, 2, 8, 64, 256):
    a, b = torch.randn(rows, 256), torch.randn(256, 704)
    got, want = (a.bfloat16() @ b.bfloat16()).float(), a.bfloat16().float() @ b.bfloat16().float()
    assert torch.allclose(got, want, rtol=2e-2, atol=2e-1), f"matmul with {rows} rows is off by {(got - want).abs().max()}"
    q, k, v = (torch.randn(2, 4, n, 64).bfloat16() for n in (rows, 256, 256))
    got, want = f.scaled_dot_product_attention(q, k, v).float(), f.scaled_dot_product_attention(q.float(), k.float(), v.float())
    assert torch.allclose(got, want, rtol=2e-2, atol=2e-2), f"attention with {rows} queries is off by {(got - want).abs().max()}"
"""


def proven(python: Path = Path(sys.executable), timeout: float = 120.0) -> bool:
    """True when torch of `python`'s environment has computed in bfloat16 on this CPU, correctly, in a child process.

    The answer is kept in LABKIT_HOME for this CPU, this environment and its torch. It is about torch's own kernels: vLLM's attention on the
    CPU has kernels of its own, so vLLM stays with float32 there unless asked otherwise.
    """
    answers = home.home() / "bfloat16.json"
    torch = next((path.name for path in python.parents[1].glob("lib/python*/site-packages/torch-*.dist-info")), "")
    cpu = machine.cpu()
    key = hashlib.sha256(json.dumps([cpu.name, cpu.instruction_sets, str(python), torch]).encode()).hexdigest()
    try:
        known = json.loads(answers.read_text())
    except (OSError, ValueError):
        known = {}
    if key not in known:
        try:
            done = subprocess.run([str(python), "-c", TRIAL], capture_output=True, stdin=subprocess.DEVNULL, timeout=timeout)
        except subprocess.TimeoutExpired:
            return False
        known[key] = done.returncode == 0
        temporary = answers.with_suffix(f".{key[:8]}")
        temporary.write_text(json.dumps(known))
        temporary.replace(answers)
    return known[key]
