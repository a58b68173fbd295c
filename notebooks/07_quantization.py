# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 07 · Quantization
#
# Fewer bits for each number: a model takes less memory, and what is freed holds more requests. In this notebook you will see
#
# 1. **bits and bytes** of one layer: the grid of values that a few bits can stand for, and the error that rounding to it makes,
# 2. why some layers are hard: **outlier channels**, and what GPTQ, AWQ and SqueezeLLM do about them,
# 3. what it costs in the text: **perplexity**, **exact recall**, and the **first token that differs**,
# 4. what it buys in memory: a running engine is quantized **while it serves**, and the KV map grows,
# 5. the same checkpoints in the **real vLLM**, and what vLLM no longer takes.
#
# It takes about ten minutes. Set `server = "vllm"` for part 5; all other parts run in the glass box.

# %% tags=["parameters"]
server = "glassbox"  # glassbox, vllm
model = "tiny"
scale = "small"  # or "full": more text for every measurement
interactive = True

# %% tags=["setup"]
import json
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import sleep

import torch

import labkit as lab
from labkit import trace
from labkit.lessons import Lesson
from labkit.load.table import Table
from labkit.models import folder
from labkit.models.prompts import prompt
from labkit.models.shapes import Shape, shapes
from labkit.views.words import thousands

lesson = Lesson("07 Quantization", interactive=interactive)
predict, check = lesson.predict, lesson.check
shape = Shape.from_config(json.loads((folder(model) / "config.json").read_text()))
layer = "layers.1.mlp.down_proj"
torch.set_num_threads(1)  # the products are small here: several threads would wait for each other

# %% [markdown]
# ## 1 · Bits and bytes of one layer
# A weight in float32 takes 32 bits. With 4 bits there are 16 numbers to choose from, so each group of weights gets 16 **levels** of its own: evenly spaced ones need a single number to
# describe, the **scale**, the distance between two levels. The scale is stored too.
#
# ### Predict

# %% jupyter={"source_hidden": true} tags=["predict"]
predict.number(
    "4 bits a weight, and for every 64 weights one scale in 16 bits. How many bits does a weight take, all in all?",
    answer=4 + 16 / 64,
    hints={
        4: "The scales are stored too: 16 bits for every 64 weights.",
        20: "A scale is shared by 64 weights.",
        8: "16 levels need 4 bits; the scale is shared by 64 weights.",
    },
    explain="4 + 16 / 64. With groups of 16 it would be 5.",
)

# %% [markdown]
# ### Run
# One layer of the model, round-to-nearest in 4 bits. Turn the dials, click a weight, move over the weights with the arrow keys: everything is worked out anew as you go.

# %%
weights = lab.look(model, layer=layer, method="rtn", bits=4, group_size=64)

# %% [markdown]
# **What you see.** Left, a window on the matrix, before and after. Then the error: it is not spread evenly, because the levels of each group reach up to the group's greatest weight. One large weight
# makes the steps coarse for 63 others. At the right the **levels** stand over the histogram of the weights: most weights are small, and evenly spaced levels spend most of their bits where few weights are.
#
# NF4 puts its sixteen levels where normally distributed weights are, dense in the middle:

# %%
weights.set(method="nf4")
even, normal = weights.bench.look(layer, "rtn", 4, 64), weights.look
weights.still()

# %% [markdown]
# ### Exercise
# Write round-to-nearest for one group. The grid is symmetric: its scale is `2 * max(|w|) / (2 ** bits - 1)`, a code is the nearest whole number to `w / scale`, and codes go from `-2 ** (bits - 1)` up to
# `2 ** (bits - 1) - 1`. Give back the values that the codes stand for. A group of zeros stays as it is.


# %% tags=["exercise"]
def round_to_nearest(weights: list[float], bits: int) -> list[float]: ...


# %% jupyter={"source_hidden": true} tags=["check"]
group = [1.0, -0.5, 0.25, 0.0]
check.exercise(
    "round_to_nearest",
    round_to_nearest,
    cases=[
        ((group, 4), [7 * 2 / 15, -4 * 2 / 15, 2 * 2 / 15, 0.0]),
        ((group, 2), [2 / 3, -2 / 3, 0.0, 0.0]),
        (([0.03, -0.1], 8), [38 * 0.2 / 255, -128 * 0.2 / 255]),
        (([0.0, 0.0], 4), [0.0, 0.0]),
    ],
    diagnoses=[
        (
            lambda f: f(group, 4)[1] == -4,
            "Those are the codes. What the model computes with are the values they stand for: times the scale.",
        ),
        (
            lambda f: abs(f(group, 4)[1] + 3 * 2 / 15) < 1e-9,
            "`int` and `//` cut off. The *nearest* level: `round`.",
        ),
        (
            lambda f: f(group, 4)[0] > 1,
            "The code of the greatest weight has become 8, and 4 bits end at 7: clamp it.",
        ),
        (
            lambda f: abs(f(group, 4)[0] - 7 / 8) < 1e-9,
            "16 levels have 15 steps between them: divide by `2 ** bits - 1`.",
        ),
        (
            lambda f: abs(f(group, 4)[0] - 7 / 15) < 1e-9,
            "The grid has to reach from `-max` to `+max`: twice the greatest, over the steps.",
        ),
        (
            lambda f: f(group, 4) and not f([0.0, 0.0], 4),
            "A group of zeros has a scale of 0: do not divide by it.",
        ),
    ],
    explain="Scale, round, clamp, scale back. `labkit/quantization/round_to_nearest.py` does this for all groups at once.",
)

# %% [markdown]
# ## 2 · Outliers
# An error in a weight matters as much as the input that it is multiplied with. Below the left map stand the greatest absolute values of each input, over a *calibration text* (some text that is run through the model to see what its layers are given): a few features are far **louder** than the
# rest. The next picture has every layer by every method. The numbers are errors of the layer's *output*, in percent.

# %%
errors = lab.look(model, view="errors", bits=4)

# %% [markdown]
# ### Exercise
# Find the outlier. `x` holds the inputs of a layer, one list for each token. Which feature (its number) has the greatest absolute value anywhere?


# %% tags=["exercise"]
def loudest(x: list[list[float]]) -> int: ...


# %% jupyter={"source_hidden": true} tags=["check"]
check.exercise(
    "loudest",
    loudest,
    cases=[
        (([[1.0, -9.0, 2.0], [3.0, 4.0, 5.0]],), 1),
        (([[0.0, 0.0, 8.0], [5.0, 5.0, 0.0], [5.0, 5.0, 0.0], [5.0, 5.0, 0.0]],), 2),
        (([[-7.0, 1.0], [0.0, 1.0], [0.0, 6.0]],), 0),
    ],
    diagnoses=[
        (
            lambda f: f([[1.0, -9.0, 2.0], [3.0, 4.0, 5.0]]) == 2,
            "A loud feature may be far below zero: compare absolute values.",
        ),
        (
            lambda f: (
                f([[1.0, -9.0, 2.0], [3.0, 4.0, 5.0]]) == 0
                and f([[3.0, 4.0, 5.0], [1.0, -9.0, 2.0]]) == 1
            ),
            "That is the loudest *token*. A feature is a column: it has one value in each token's list.",
        ),
        (
            lambda f: (
                f([[0.0, 0.0, 8.0], [5.0, 5.0, 0.0], [5.0, 5.0, 0.0], [5.0, 5.0, 0.0]]) == 0
            ),
            "The mean hides a feature that is loud for a single token. Take the greatest.",
        ),
        (
            lambda f: f([[1.0, -9.0, 2.0], [3.0, 4.0, 5.0]]) == 9,
            "That is how loud it is. Asked is which feature.",
        ),
    ],
    explain="Greatest absolute value of each column, then the column where it is greatest.",
)

# %% [markdown]
# ### Predict

# %% jupyter={"source_hidden": true} tags=["predict"]
predict.choice(
    "One input of a layer is fifty times as loud as the others. Which weights need the finest steps?",
    ["the greatest weights", "the weights that meet the loud input", "all the same"],
    answer="the weights that meet the loud input",
    hints={
        "the greatest weights": "A large weight that meets an input near zero does nothing to the output.",
        "all the same": "That is what round-to-nearest does. But an output is weight times input: the same error of a weight costs fifty times as much there.",
    },
    explain="AWQ scales these columns up before rounding, and the input down. LLM.int8() leaves them in 16 bits.",
)

# %% [markdown]
# ### Run
# AWQ on the same layer. The picked weight meets the loudest input: compare its levels (blue) with those of round-to-nearest (orange, below).

# %%
weights.set(method="awq", bits=4, group_size=64)
weights.still()

# %% [markdown]
# ### Explain
# | method | idea | paper |
# |---|---|---|
# | round-to-nearest | the closest value of an even grid | Nagel et al. 2021, [2106.08295](https://arxiv.org/abs/2106.08295) |
# | LLM.int8() | 8-bit products; loud features stay out, in 16 bits | Dettmers et al. 2022, [2208.07339](https://arxiv.org/abs/2208.07339) |
# | SmoothQuant | weights *and* activations (the inputs of layers) in 8 bits, W8A8; loudness is moved into the weights | Xiao et al. 2022, [2211.10438](https://arxiv.org/abs/2211.10438) |
# | GPTQ | later columns make up for the error of earlier ones | Frantar et al. 2022, [2210.17323](https://arxiv.org/abs/2210.17323) |
# | AWQ | weights that meet loud inputs are scaled up first | Lin et al. 2023, [2306.00978](https://arxiv.org/abs/2306.00978) |
# | SqueezeLLM | levels by k-means, weighted by sensitivity; outliers apart | Kim et al. 2023, [2306.07629](https://arxiv.org/abs/2306.07629) |
# | NF4 | levels of a normal distribution; scales quantized again | Dettmers et al. 2023, [2305.14314](https://arxiv.org/abs/2305.14314) |
# | FP8 | 8-bit floats: steps grow with the value | Micikevicius et al. 2022, [2209.05433](https://arxiv.org/abs/2209.05433) |
#
# ## 3 · What it costs in the text
# A smaller error in a layer is not yet a better text. Three measures, always against the original: **perplexity** on text that the model has not seen (among how many equally likely tokens it hesitates, on average); **exact recall**, the share of four-digit keys
# that it gives back without a mistake; and the **first token that differs** when both write greedily, always the likeliest token. The table adds **KL**, how far the probabilities have moved from the original's, in nats (0 is not at all).
#
# ### Predict

# %% jupyter={"source_hidden": true} tags=["predict"]
first = predict.choice(
    "Round-to-nearest with fewer and fewer bits: 8, 4, 3, 2. Where does exact recall break?",
    ["at 4 bits", "at 3 bits", "at 2 bits", "it does not"],
    hints={
        "at 4 bits": "Sixteen levels are enough for most weights; the text begins to differ all the same.",
        "it does not": "Four levels for a weight, two of them for the small ones. Watch.",
    },
    explain="Down to 3 bits the model hardly notices: the errors of many weights cancel out. Four levels are too few. A key has four digits, and all of them have to be right.",
)

# %% [markdown]
# ### Run

# %%
from copy import deepcopy

from labkit.models.measure import Ruler
from labkit.quantization.measure import Sample, judge
from labkit.quantization.model import bytes_in_all, quantize_model
from labkit.quantization.text import calibration_text

sample = {
    "small": Sample(
        documents=8, cases=5, prompts=4, tokens=48, distances=(256, 768), keys=(), words=()
    ),
    "full": Sample(
        documents=60,
        cases=20,
        prompts=20,
        tokens=64,
        distances=(64, 256, 1024),
        keys=(),
        words=(),
    ),
}[scale]
ruler = Ruler(folder(model))
original, wanted = ruler.model, sample.reference(ruler)
calibration = calibration_text(original, ruler.tokenizer, rows=8)
rows = []
for method, bits in [
    (None, None),
    ("rtn", 8),
    ("rtn", 4),
    ("gptq", 4),
    ("rtn", 3),
    ("gptq", 3),
    ("rtn", 2),
    ("gptq", 2),
]:
    ruler.model = deepcopy(original)
    packed = quantize_model(ruler.model, method, bits, ids=calibration.ids) if method else None
    found = judge(ruler, wanted, sample)
    recall = sum(found["recall_by_distance"].values()) / len(found["recall_by_distance"])
    rows.append(
        {
            "method": method,
            "bits": bits,
            "group_size": packed and packed.options.get("group_size"),
            "bytes": bytes_in_all(ruler.model, packed),
            "bits_per_weight": packed and packed.bits_per_weight,
            "perplexity": found["perplexity"]["all"]["perplexity"],
            "recall": recall,
            "kl": found["kl"],
            "first_difference": found["continuations"]["median_first"],
        }
    )
by_way = {(row["method"], row["bits"]): row for row in rows}
Table(
    "What quantization costs",
    ["", "MB", "perplexity", "exact recall", "KL, nats a token", "first different token"],
    [
        [
            "original" if row["method"] is None else f"{row['method']} {row['bits']} bits",
            f"{row['bytes'] / 1e6:.2f}",
            f"{row['perplexity']:.3f}",
            f"{100 * row['recall']:.0f} %",
            f"{row['kl']:.4f}",
            f"{row['first_difference']:g}",
        ]
        for row in rows
    ],
    [
        "MB: the whole model, with all scales; what is not quantized counts in 16 bits. First different token: median over prompts; "
        + f"{sample.tokens} means none."
    ],
)

# %%
broken = next(
    (
        bits
        for bits in (4, 3, 2)
        if by_way["rtn", bits]["recall"] < by_way[None, None]["recall"] - 0.2
    ),
    None,
)
first.reveal(f"at {broken} bits" if broken else "it does not")

# %% [markdown]
# Every way of storing the model as one mark: bytes to the right, perplexity upwards. The green line holds those that nobody beats in both. Change *quality* to exact recall.

# %%
frontier = lab.look(model, view="frontier", rows=rows, source="measured above")

# %% [markdown]
# With more text, and with all methods: the lab's own table (`labkit bench quantization`), by the divergence from the original, which tells apart what perplexity does not.

# %%
everything = lab.look(model, view="frontier", quality="kl")

# %% [markdown]
# And the text itself: the same prompt, the original and a quantized model. In the box stands the first token that differs; below, how likely the two candidates were for each model. Most first differences are near
# ties: look how close the two numbers of the original are.

# %%
generations = lab.look(
    model,
    view="generations",
    methods=[("rtn", 3), ("gptq", 3), ("rtn", 4), ("gptq", 4), ("rtn", 2)],
    tokens=48,
)

# %% [markdown]
# ### Exercise
# Choose bits for a budget. A layer has so many weights, every `group_size` of them share a scale of 2 bytes. What is the greatest number of bits from 2 to 8 that fits into `budget` bytes? None if not even 2 do.


# %% tags=["exercise"]
def best_bits(weights: int, budget: int, group_size: int) -> int | None: ...


# %% jupyter={"source_hidden": true} tags=["check"]
check.exercise(
    "best_bits",
    best_bits,
    cases=[
        ((1_000_000, 600_000, 64), 4),
        ((1_000_000, 510_000, 64), 3),
        ((1_000_000, 520_000, 64), 3),
        ((1_000_000, 281_250, 64), 2),
        ((1_000_000, 5_000_000, 64), 8),
        ((1_000_000, 250_000, 64), None),
    ],
    diagnoses=[
        (
            lambda f: f(1_000_000, 510_000, 64) == 4,
            "The scales are missing: 2 bytes for every `group_size` weights.",
        ),
        (lambda f: f(1_000_000, 520_000, 64) == 4, "A scale takes 2 bytes, not one."),
        (
            lambda f: f(1_000_000, 5_000_000, 64) == 2,
            "That is the least number of bits that fits. The greatest keeps most of the quality.",
        ),
        (
            lambda f: f(1_000_000, 600_000, 64) is None,
            "A weight of 4 bits takes half a byte: `weights * bits / 8`.",
        ),
        (
            lambda f: f(1_000_000, 250_000, 64) == 2,
            "2 bits for each weight fill the budget alone; the scales do not fit any more.",
        ),
        (lambda f: f(1_000_000, 5_000_000, 64) > 8, "Stop at 8."),
    ],
    explain="`weights * bits / 8 + weights / group_size * 2`, for 8, 7, 6 … until it fits.",
)

# %% [markdown]
# ## 4 · What it buys: quantize while serving
# A server has so many bytes. What weights do not take, KV blocks can have. The glass box serves the model in float32 with 72 blocks; in the middle of the work its weights become 4-bit ones.
#
# ### Predict

# %% jupyter={"source_hidden": true} tags=["predict"]
blocks, block_size = 72, 16
linear = shape.num_hidden_layers * (
    2
    * shape.hidden_size
    * shape.head_dim
    * (shape.num_attention_heads + shape.num_key_value_heads)
    + 3 * shape.hidden_size * shape.intermediate_size
)
freed = linear * (4 - (4 + 16 / 64) / 8)
block_bytes = block_size * shape.kv_bytes(4)
predict.number(
    f"The linear layers hold {linear / 1e6:.2f} million weights, and go from 32 bits to 4.25. A block of {block_size} tokens takes {thousands(block_bytes)} bytes. How many blocks more?",
    answer=freed // block_bytes,
    within=0.06,
    hints={
        (
            1,
            30,
        ): "Bits or bytes? A weight in float32 takes 4 bytes, in 4.25 bits about half a byte.",
        (
            linear * 4 // block_bytes - 2,
            linear * 4 // block_bytes + 2,
        ): "The 4.25 bits have to be stored, too.",
    },
    explain=f"{linear / 1e6:.2f} million × (4 − 0.53) bytes = {freed / 1e6:.1f} MB, and each block takes {block_bytes / 1e3:.1f} kB.",
)

# %% [markdown]
# ### Run
# Watch the map. Requests come in, more than 72 blocks can hold; then the engine is quantized between two of its steps, and the map grows.

# %%
box = lab.serve(
    "glassbox",
    model=model,
    share=False,
    block_size=block_size,
    num_gpu_blocks_override=blocks,
    max_model_len=512,
    max_num_seqs=32,
    max_num_batched_tokens=256,
)
view = lab.watch(box)

# %%
n, answer = {"small": 32, "full": 64}[scale], 240
texts = [prompt("story", seed=i, tokens=60).text for i in range(n)]
with ThreadPoolExecutor(1) as beside:
    work = beside.submit(
        lab.load,
        box,
        requests=n,
        concurrency=n,
        seed=0,
        prompts=texts,
        max_tokens=answer,
        extra={"ignore_eos": True},
        progress=False,
    )
    while box.metrics()["glassbox:iteration_tokens_total_count"] < 40 and not work.done():
        sleep(0.02)
    changed = box.quantize("rtn", bits=4, group_size=64)
    result = work.result()
run = trace.read_idle(box.run_file)
print(
    f"weights {changed['weight_bytes_before'] / 1e6:.2f} MB → {changed['weight_bytes_after'] / 1e6:.2f} MB, {changed['preempted']} requests stepped back for it, {changed['seconds']:.2f} s"
)
print(
    f"KV blocks {changed['num_blocks_before']} → {changed['num_blocks_after']}, each of {thousands(changed['block_bytes_after'])} B"
)

# %%
grown = next(
    event.step for event in run.events if isinstance(event, trace.Step) and event.num_blocks
)
at_once = [
    max(
        (state.running for event, state in run.states() if (event.step < grown) == before),
        default=0,
    )
    for before in (True, False)
]
print(
    f"at most {at_once[0]} requests at once before, {at_once[1]} after; {sum(record.tokens == answer for record in result.records)} of {n} requests got their whole answer"
)
view.still()

# %% [markdown]
# The KV cache can be quantized, too: keys and values in 8 bits instead of 32, with scales of their own.

# %%
smaller = box.quantize(kv_cache_dtype="int8")
print(
    f"a block of {block_size} tokens: {thousands(smaller['block_bytes_before'])} B → {thousands(smaller['block_bytes_after'])} B; blocks {smaller['num_blocks_before']} → {smaller['num_blocks_after']}"
)
after = lab.load(
    box,
    requests=8,
    concurrency=8,
    seed=1,
    prompts=texts[:8],
    max_tokens=40,
    extra={"ignore_eos": True},
    progress=False,
)

# %% [markdown]
# ### Explain
# Nothing was lost: whoever ran was *preempted*, as in [notebook 02](02_kv_cache_paging.ipynb), and computed again with the new weights. The prefix cache is gone, because its keys and values came from the old ones.
#
# **GQA and quantization.** A token's keys and values take `2 × layers × kv_heads × head_dim × bytes`. Grouped-query attention lowers `kv_heads`, quantization lowers `bytes`: the two multiply. With fewer heads
# the KV cache is a smaller part of the memory, and quantizing the weights buys more; without GQA, or with long contexts, quantize the cache.

# %%
lines = []
for name in ("tiny", "qwen3-0.6b", "llama-3.1-8b"):
    one = shapes()[name]
    full, half, heads = (
        one.kv_bytes(2) * one.num_attention_heads // one.num_key_value_heads,
        one.kv_bytes(2),
        2 * one.num_hidden_layers * one.num_key_value_heads,
    )
    scales = heads * 2  # float16, one for what each head has of a token, keys and values
    lines.append(
        [
            name,
            f"{one.num_attention_heads} / {one.num_key_value_heads}",
            thousands(full),
            thousands(half),
            thousands(one.kv_bytes(1) + scales),
            f"{100 * scales / one.kv_bytes(1):.1f} %",
            f"{2 * one.parameters / (one.kv_bytes(2) * 8192):.1f}",
        ]
    )
Table(
    "Bytes of KV cache a token",
    [
        "model",
        "heads / KV heads",
        "without GQA, 16 bits",
        "GQA, 16 bits",
        "GQA, int8 with scales",
        "scales",
        "weights ÷ KV of 8 192 tokens",
    ],
    lines,
    [
        "Scales: float16, one for each token and KV head, keys and values, as in the cache of the glass box (labkit/glassbox/quantized_kv.py)."
    ],
)

# %%
box.stop()  # the map above stays: go back to the step in which it grew
if not interactive:
    view.close()

# %% [markdown]
# ## 5 · The real vLLM
# The same packed numbers, written as checkpoints that real servers load. (`labkit quantize tiny --method awq --out FOLDER` does this on the command line.)

# %%
from labkit.quantization.command import main as quantize

place = Path(tempfile.mkdtemp())
checkpoints = {
    "original": str(folder(model)),
    "gptq, 4 bits": place / "gptq",
    "awq, 4 bits": place / "awq",
    "W8A8, smoothquant": place / "smoothquant",
}
for path in list(checkpoints.values())[1:]:
    quantize(
        [str(model), "--method", path.name, "--rows", "8", "--threads", "1", "--out", str(path)]
    )
sizes = {
    name: sum(file.stat().st_size for file in Path(path).glob("*.safetensors"))
    for name, path in checkpoints.items()
}

# %%
from labkit.quantization.remote import Respondent
from labkit.servers import ServerError

source, measured, refused = run, {}, {}
if server == "vllm":
    asked = Sample(documents=8, cases=5, distances=(256, 768))
    options = dict(
        share=False,
        block_size=32,
        num_gpu_blocks_override=161,
        max_model_len=2048,
        max_num_seqs=16,
    )
    for name, path in checkpoints.items():
        try:
            with lab.serve("vllm", model=path, **options) as engine:
                client = Respondent(engine.url, engine.model, Path(path))
                measured[name] = (
                    client.perplexity(asked),
                    sum(client.recall(asked).values()) / 2,
                )
                box = engine
        except ServerError as error:
            refused[name] = str(error)
    source = trace.read(box.run_file)
    for name, (perplexity, recall) in measured.items():
        print(
            f"{name:20} {sizes[name] / 1e6:6.2f} MB   perplexity {perplexity:.3f}   exact recall {100 * recall:.0f} %"
        )
    for name, words in refused.items():
        print(f"{name:20} {sizes[name] / 1e6:6.2f} MB   vLLM refuses: {words}")
else:
    for name, size in sizes.items():
        print(f"{name:20} {size / 1e6:6.2f} MB")
    print(
        '\nSet server = "vllm" to serve these from the real vLLM, and to measure perplexity and exact recall through its API.'
    )

# %% [markdown]
# An 8-bit KV cache has to be known to the attention kernel. Does vLLM have one for this machine? And what of the methods that were once in every list: SqueezeLLM, bitsandbytes, GGUF? Let us ask.

# %%
if server == "vllm":
    try:
        with lab.serve("vllm", model=model, kv_cache_dtype="fp8", **options) as engine:
            client = Respondent(engine.url, engine.model, folder(model))
            print(
                f"fp8 KV cache: perplexity {client.perplexity(asked):.3f}, exact recall {100 * sum(client.recall(asked).values()) / 2:.0f} %"
            )
    except ServerError as error:
        print(f"fp8 KV cache: {error}")
    for name in ("squeezellm", "bitsandbytes", "gguf"):
        try:
            lab.serve("vllm", model=model, quantization=name, **options).stop()
            print(f"{name}: accepted")
        except ServerError as error:
            refused[name] = str(error).splitlines()[0]
            print(f"{name}: {refused[name]}\n")
else:
    print('This, too, is for server = "vllm".')

# %% [markdown]
# ## What to take when
# | you want | take | because |
# |---|---|---|
# | no risk, half the bytes | FP8 or int8 weights (W8A8 with SmoothQuant, where the hardware multiplies them) | the text hardly changes; products of 8 bits are faster, too |
# | the largest model that fits, few requests | 4 bits: AWQ or GPTQ, groups of 64 or 128 | decode waits for bytes; a quarter of them |
# | 4 bits without calibration | round-to-nearest or NF4 | nothing to run before; a little worse |
# | 3 bits and fewer | GPTQ, AWQ or SqueezeLLM, here in the lab (it exports no 3-bit checkpoint), and a test of *your* task | round-to-nearest breaks first; perplexity is a mean, and a mean can hide a task that fails |
# | long contexts, many requests | an 8-bit KV cache, beside whatever the weights are | the cache, not the weights, fills the memory |
# | large batches, compute-bound | W8A8 or FP8 rather than 4-bit weights | 4-bit weights are unpacked before they are multiplied: bytes are saved, arithmetic is not |
#
# Measure on your own task before you decide: the green line above is this model's.
#
# ## Check

# %%
check.that("What you saw came out of a running engine", source.header.badge == "live")
check.that(
    "NF4's levels fit this layer better than evenly spaced ones",
    normal.error.weight < even.error.weight,
)
check.that(
    "GPTQ makes a smaller output error than round-to-nearest",
    errors.looks[layer, "gptq"].error.output < errors.looks[layer, "rtn"].error.output,
)
check.that(
    "Fewer bits, higher perplexity: 8, 4, 3, 2",
    by_way["rtn", 8]["perplexity"]
    < by_way["rtn", 4]["perplexity"]
    < by_way["rtn", 3]["perplexity"]
    < by_way["rtn", 2]["perplexity"],
)
check.that(
    "Exact recall breaks at 2 bits",
    by_way["rtn", 2]["recall"] < by_way[None, None]["recall"] - 0.2,
)
check.that(
    "The freed bytes became KV blocks",
    changed["num_blocks_after"] - changed["num_blocks_before"]
    == (changed["weight_bytes_before"] - changed["weight_bytes_after"]) // block_bytes,
)
check.that("More requests ran at once", at_once[1] > at_once[0])
check.that(
    "No request was lost",
    all(record.tokens == answer for record in result.records)
    and all(record.tokens == 40 for record in after.records),
)
check.that(
    "A block in int8 takes less than half of one in float32",
    smaller["block_bytes_after"] < smaller["block_bytes_before"] / 2,
)
check.that(
    "A 4-bit checkpoint is smaller than the original", sizes["gptq, 4 bits"] < sizes["original"]
)
if server == "vllm":
    check.that(
        "vLLM served a quantized checkpoint",
        any(name != "original" for name in measured),
        "\n".join(refused.values()),
    )
lesson.report(
    run_file=str(box.run_file),
    badge=box.badge,
    blocks=[changed["num_blocks_before"], changed["num_blocks_after"]],
    at_once=at_once,
    broken_at_bits=broken,
    measured=measured,
    refused=refused,
)
lesson.summary()

# %% [markdown]
# ## Where to go on
# - In the lab: `labkit/quantization/` has one file for each method, on plain tensors; `labkit/glassbox/switch.py` is what happened between two steps. `labkit bench quantization` makes the table with all methods.
# - [02 KV-cache paging](02_kv_cache_paging.ipynb): what the blocks are that you won. [01 Anatomy of a request](01_anatomy_of_a_request.ipynb): why bytes decide how fast a decode is.
# - vLLM's documentation, *Quantization*, for what its kernels support on which hardware.
