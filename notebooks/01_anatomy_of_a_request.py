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
# # 01 · Anatomy of a request
#
# One request goes in, tokens come out one after another. In this notebook you will take one apart and see
#
# 1. **TTFT** and **TPOT** on the tokens of a stream, as they arrive,
# 2. where the time between *Enter* and the last token goes,
# 3. **prefill**, which computes the whole prompt at once, and **decode**, which computes one token at a time: two kinds of work,
# 4. what each of them waits for, memory or arithmetic: on a **roofline**, the most that this machine can do, which is measured here,
# 5. why one step for many requests costs far less than many steps for one: the fact that every serving engine is built on.
#
# It takes about ten minutes. Set `server = "vllm"` to see the same in the real vLLM.

# %% tags=["parameters"]
server = "glassbox"  # glassbox, vllm
model = "tiny"
scale = "small"  # or "full": every measurement more often
interactive = True

# %% tags=["setup"]
import os
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

import matplotlib.pyplot as plt

import labkit as lab
from labkit import planning, trace
from labkit.lessons import Lesson
from labkit.load.prompts import Prompts
from labkit.load.table import Table
from labkit.load.words import counted
from labkit.models.prompts import prompt
from labkit.models.shapes import Shape, shapes, write_shape

lesson = Lesson("01 Anatomy of a request", interactive=interactive)
predict, check = lesson.predict, lesson.check
block_size = {"glassbox": 16, "vllm": 32}[server]
tries = {"small": 3, "full": 9}[scale]

# %%
settings = dict(
    block_size=block_size,
    num_gpu_blocks_override=8192 // block_size,
    max_model_len=2048,
    max_num_seqs=32,
    max_num_batched_tokens=2048,
)
box = lab.serve(server, model=model, **settings)
box

# %% [markdown]
# ## 1 · A stream of tokens
# The next cell sends a prompt of 300 tokens and notes the time whenever a piece of the answer arrives.
#
# - **TTFT**, time to first token: from sending the request to the first token.
# - **TPOT**, time per output token: from each token to the next, on average.
#
# ### Predict

# %% jupyter={"source_hidden": true} tags=["predict"]
ratio = predict.number(
    "The prompt has 300 tokens. How many times as long as each later token will the first one take?",
    within=0.5,
    hints={
        1: "The first token needs the keys and values of all 300 prompt tokens, and nobody has computed those yet.",
        300: "That would be so if the prompt were computed one token at a time. It is computed all at once.",
    },
    explain="The prompt is computed in one step: far more work than a step for one token, and far less than 300 such steps.",
)

# %% [markdown]
# ### Run
# First a view of the engine (every box is a step, or several), then the request.

# %%
view = lab.watch(box, view="timeline")

# %%
from openai import OpenAI

client = OpenAI(base_url=f"{box.url}/v1", api_key="none")


def stream(text: str, max_tokens: int, show: bool = False) -> tuple[float, list[float]]:
    """When the request was sent, and when each piece of the answer came, in seconds."""
    stamps, sent = [], perf_counter()
    answer = client.completions.create(
        model=box.model,
        prompt=text,
        max_tokens=max_tokens,
        temperature=0,
        stream=True,
        extra_body={"ignore_eos": True, "skip_special_tokens": False},
    )
    for chunk in answer:
        if chunk.choices and chunk.choices[0].text:
            stamps.append(perf_counter())
            if show:
                print(
                    f"{1e3 * (stamps[-1] - sent):7.1f} ms  {chunk.choices[0].text!r}",
                    flush=True,
                )
    return sent, stamps


stream(
    prompt("story", seed="warm-up", tokens=300).text, 8
)  # the first request of a client also opens a connection
sent, stamps = stream(prompt("story", seed="anatomy", tokens=300).text, 24, show=True)

# %%
ratio.reveal((stamps[0] - sent) / ((stamps[-1] - stamps[0]) / (len(stamps) - 1)))

# %% [markdown]
# ### Exercise
# Write the two measures down. `sent` is when the request was sent, `stamps` when each token came (at least two of them), all in seconds.


# %% tags=["exercise"]
def ttft(sent: float, stamps: list[float]) -> float: ...


def tpot(sent: float, stamps: list[float]) -> float: ...


# %% jupyter={"source_hidden": true} tags=["check"]
check.exercise(
    "ttft",
    ttft,
    cases=[((10, [12, 13, 15]), 2), ((0, [7, 9]), 7), ((1, [2, 3, 4, 5]), 1)],
    diagnoses=[
        (
            lambda f: f(10, [12, 13, 15]) == 12,
            "That is when the first token came, not how long it took: subtract `sent`.",
        ),
        (lambda f: f(10, [12, 13, 15]) == 5, "That is the time until the *last* token."),
        (lambda f: f(10, [12, 13, 15]) == 1, "That is the gap after the first token."),
    ],
    explain="`stamps[0] - sent`: what a user waits before anything happens.",
)
check.exercise(
    "tpot",
    tpot,
    cases=[((10, [12, 13, 15]), 1.5), ((0, [7, 9]), 2.0), ((1, [2, 3, 4, 5]), 1.0)],
    diagnoses=[
        (
            lambda f: abs(f(10, [12, 13, 15]) - 5 / 3) < 1e-9,
            "The first token is in it: it waited for the prompt, and TTFT has counted that.",
        ),
        (
            lambda f: f(10, [12, 13, 15]) == 1,
            "Three tokens have *two* gaps between them: divide by `len(stamps) - 1`.",
        ),
        (
            lambda f: f(10, [12, 13, 15]) == 2.5,
            "That begins at `sent`. TPOT begins at the first token.",
        ),
        (
            lambda f: f(10, [12, 13, 15]) == 3,
            "That is the sum of the gaps; it should be their mean.",
        ),
    ],
    explain="`(stamps[-1] - stamps[0]) / (len(stamps) - 1)`: the mean gap, and the speed at which an answer can be read.",
)

# %% [markdown]
# ## 2 · Where the time goes
# The client's clock and the engine's are the same clock, and the run file holds every step that the engine made. So the two can be laid side by side.

# %%
from labkit.views.anatomy import AnatomyStill, anatomy

run = trace.read_idle(box.run_file)
request = anatomy(run, sent, stamps)
AnatomyStill(request, run)

# %%
from labkit.models.prompts import tokenizer

text, ids = (
    prompt("story", seed="anatomy", tokens=300).text,
    tokenizer().encode(prompt("story", seed="anatomy", tokens=300).text).ids,
)
begin = perf_counter()
tokenizer().encode(text)
tokenizing = perf_counter() - begin
begin = perf_counter()
tokenizer().decode(ids)
print(
    f"of that, tokenizing the prompt takes about {1e3 * tokenizing:.1f} ms, and turning as many tokens back into text {1e3 * (perf_counter() - begin):.1f} ms"
)

# %% [markdown]
# **What you see.** The request travels and is cut into tokens, waits until the engine begins its next step, and then its whole prompt is computed in *one* step: the **prefill**.
# At its end the first token is there. Each further token takes a step of its own: the **decode**. Between two steps the engine looks after everything else: it
# hands out the token, takes new requests in, decides about the next step. Alone on the server a request does not queue; in notebook 03 it will.
#
# ## 3 · The length of the prompt
# ### Predict

# %% jupyter={"source_hidden": true} tags=["predict"]
predict.choice(
    "A prompt of 512 tokens instead of 256: what happens to TTFT?",
    ["it stays about the same", "it about doubles", "it grows fourfold"],
    answer="it about doubles",
    hints={
        "it stays about the same": "All prompt tokens are computed at once, but each of them is as much arithmetic as before.",
        "it grows fourfold": "Every token looks at all tokens before it, and that part does grow fourfold. For prompts of this length it is still the smaller part.",
    },
    explain="Twice the tokens, twice the matrix products. The part that grows faster shows later.",
)

# %% [markdown]
# ### Run

# %%
lengths = [32, 64, 128, 256, 512, 1024, 1536, 2000]


def ids_of(length: int, n: int, seed: int) -> list[list[int]]:
    """Prompts of random tokens: nothing of them is in the prefix cache."""
    return [drawn.prompt for drawn in Prompts(length=length, kind="ids").draw(n, seed)]


asked = [ids for length in lengths for ids in ids_of(length, tries, seed=length)]
result = lab.load(
    box,
    requests=len(asked),
    concurrency=1,
    prompts=asked,
    max_tokens=2,
    extra={"ignore_eos": True},
    progress=False,
)
records = sorted(result.records, key=lambda record: record.index)
waits = [
    [
        (record.t_event[0] - record.t_send) / 1e9
        for record in records[i * tries : (i + 1) * tries]
    ]
    for i in range(len(lengths))
]
firsts = [median(wait) for wait in waits]
for length, first in zip(lengths, firsts):
    print(f"{length:5} tokens: TTFT {1e3 * first:6.1f} ms")

# %%
import json

shape = Shape.from_config(json.loads((Path(box.model_folder) / "config.json").read_text()))
share = []  # of the FLOPs of a prefill: attention, which grows with the square of the length
for length in lengths:
    whole = planning.work(shape, [(0, length)]).flops
    share.append(1 - length * planning.work(shape, [(0, 1)], sampled=0).flops / whole)

figure, (left, right) = plt.subplots(
    1, 2, figsize=(9.6, 3.4), layout="constrained", width_ratios=(3, 2)
)
for length, wait in zip(lengths, waits):
    left.plot(
        [length] * len(wait),
        [1e3 * w for w in wait],
        "o",
        color="#E69F00",
        markeredgecolor="#8F6200",
        markersize=5,
    )
slope = (firsts[4] - firsts[1]) / (lengths[4] - lengths[1])
straight = [1e3 * (firsts[1] + slope * (length - lengths[1])) for length in lengths]
left.plot(
    lengths,
    straight,
    "--",
    color="#1A1F26",
    linewidth=1,
    label="a straight line through the short ones",
)
left.legend(frameon=False, loc="upper left")
left.set(
    title="TTFT over the length of the prompt",
    xlabel="prompt tokens",
    ylabel="ms",
    ylim=(0, None),
)
right.plot(lengths, [100 * s for s in share], "o-", color="#3E4A57")
right.annotate(
    f"{100 * share[-1]:.0f} %",
    (lengths[-1], 100 * share[-1]),
    xytext=(0, 6),
    textcoords="offset points",
    ha="right",
)
right.set(
    title="Share of attention in the FLOPs",
    xlabel="prompt tokens",
    ylabel="%",
    ylim=(0, 115 * share[-1]),
)
for axes in (left, right):
    axes.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# ### Explain
# The matrix products of a prompt grow with its length; that is the straight line, and a fixed cost for each request at its left end. **Attention** grows with the square:
# token 2 000 looks at 2 000 tokens, token 20 at 20. The right picture counts it for the model that you are running. In a model with 8 billion weights the same share takes far longer
# prompts, because the matrices have grown more than attention has.
#
# ## 4 · Bytes and arithmetic
# Why is a token of the prompt so much cheaper than a token of the answer? Because of what a step has to *move*. Whatever it computes, it reads every weight of the model
# once. A prefill uses each weight for hundreds of tokens; a decode for one token of each request.
#
# ### Exercise
# A decode step reads the weights once, for all requests together, and for each request the keys and values of the tokens that it has so far. How many bytes?
# And if the machine reads `bandwidth` bytes per second and nothing else took time, how many tokens per second could it give to `batch` requests at most?


# %% tags=["exercise"]
def step_bytes(
    weights: int, bytes_per_weight: int, kv_bytes_per_token: int, contexts: list[int]
) -> int:
    """`contexts`: tokens so far, for each request of the batch."""
    ...


def tokens_per_second(batch: int, step_bytes: int, bandwidth: float) -> float: ...


# %% jupyter={"source_hidden": true} tags=["check"]
check.exercise(
    "step_bytes",
    step_bytes,
    cases=[
        ((1000, 4, 10, [5]), 4050),
        ((1000, 4, 10, [5, 7]), 4120),
        ((1000, 2, 10, [0, 0, 0]), 2000),
    ],
    diagnoses=[
        (
            lambda f: f(1000, 4, 10, [5, 7]) == 8120,
            "You read the weights once for each request. One reading serves the whole batch: that is the point of batching.",
        ),
        (
            lambda f: f(1000, 4, 10, [5, 7]) == 4000,
            "The keys and values of the earlier tokens are missing: `kv_bytes_per_token` for each of them.",
        ),
        (
            lambda f: f(1000, 4, 10, [5]) == 1050,
            "The weights are counted, not their bytes: times `bytes_per_weight`.",
        ),
        (
            lambda f: f(1000, 4, 10, [5, 7]) == 4020,
            "Each request reads the keys and values of *all* its tokens, not of one.",
        ),
    ],
    explain="`weights * bytes_per_weight + kv_bytes_per_token * sum(contexts)`: the first part does not know how many requests there are.",
)
check.exercise(
    "tokens_per_second",
    tokens_per_second,
    cases=[((1, 4000, 8000.0), 2.0), ((8, 4000, 8000.0), 16.0), ((2, 1000, 500.0), 1.0)],
    diagnoses=[
        (
            lambda f: f(8, 4000, 8000.0) == 2.0,
            "That is steps per second. Each step gives a token to *every* request of the batch.",
        ),
        (
            lambda f: f(8, 4000, 8000.0) == 4.0,
            "Upside down: bytes / (bytes per second) are seconds for a step; tokens per second are the batch over that.",
        ),
        (lambda f: f(8, 4000, 8000.0) == 0.5, "That is the time of a step in seconds."),
    ],
    explain="`batch * bandwidth / step_bytes`. No engine on this machine can be faster than that, however clever.",
)

# %% [markdown]
# ### Measure
# First the machine: how many bytes can it read in a second at most, and how many FLOPs (multiplications and additions) can it do, with all its cores? (`labkit bench machine` measures it for every number of threads.) Servers
# leave one core to HTTP and clients: vLLM always, the glass box while steps are short. What that costs is part of what you will see. Then a model that does not fit into the CPU's caches, as no real one fits into a GPU's: only its *shape* matters here, so its weights are random numbers.

# %%
import torch

view.close()
box.stop()
device = "cuda" if torch.cuda.is_available() else "cpu"
name, dtype, dtype_bytes = ("50M", "float32", 4) if device == "cpu" else ("500M", "bfloat16", 2)
large = shapes()[name]
cores = len(os.sched_getaffinity(0))
ceilings = planning.measure(
    planning.work(shapes()["tiny"], [(0, 1)], dtype_bytes).weights,
    threads=cores,
    dtypes=(dtype,),
    device=device,
)
print(
    f"reads {ceilings.read.best / 1e9:.1f} GB/s from memory, {ceilings.cached_read.best / 1e9:.1f} GB/s while {ceilings.working_set / 1e6:.0f} MB are read again and again; "
    f"computes {ceilings.flops(dtype) / 1e9:.0f} GFLOP/s in {dtype}"
)

# %%
place = write_shape(name, Path(tempfile.mkdtemp()) / name)
box = lab.serve(server, model=str(place), load_format="dummy", dtype=dtype, **settings)
box

# %% [markdown]
# ### Predict

# %% jupyter={"source_hidden": true} tags=["predict"]
slower = predict.number(
    "A decode step for 8 requests instead of 1: how many times as long?",
    within=0.4,
    hints={
        (7, 9): "That would be so if every request needed its own reading of the weights.",
        (
            0.5,
            1.05,
        ): "Nearly: the weights are read once in both. But there are eight times as many matrix products, and they are not free either.",
    },
    explain="The weights, most of what is moved, are read once for all eight. As long as memory is what the step waits for, more requests are almost free.",
)

# %% [markdown]
# ### Run

# %%
batches, prefills = [1, 2, 4, 8, 16, 32], [16, 64, 256, 1024]
context = 16


def decodes(batch: int, answer: int = 1 + 5 * tries) -> tuple[list[float], planning.Work]:
    """Seconds of the steps in which exactly `batch` requests decoded and nobody else did anything, and what such a step has to do."""
    before = trace.read_idle(box.run_file).steps
    lab.load(
        box,
        requests=batch,
        concurrency=batch,
        prompts=ids_of(context, batch, seed=batch),
        max_tokens=answer,
        extra={"ignore_eos": True},
        progress=False,
    )
    steps = [
        event
        for event in trace.read_idle(box.run_file).events
        if isinstance(event, trace.Step) and event.step > before
    ]
    steps = [
        step
        for step in steps
        if len(step.scheduled) == batch and set(step.scheduled.values()) == {1}
    ]
    if (
        not steps and answer < 1024 - context
    ):  # on a busy machine the first answers may end before the last request has begun
        return decodes(batch, 2 * answer)
    return [step.ms / 1e3 for step in steps], planning.work(
        large, [(context + answer // 2, 1)] * batch, dtype_bytes
    )


def prefill(length: int) -> tuple[list[float], planning.Work]:
    """The same of steps that computed a whole prompt of `length` tokens."""
    before = trace.read_idle(box.run_file).steps
    lab.load(
        box,
        requests=tries,
        concurrency=1,
        prompts=ids_of(length, tries, seed=1000 + length),
        max_tokens=1,
        progress=False,
    )
    steps = [
        event
        for event in trace.read_idle(box.run_file).events
        if isinstance(event, trace.Step) and event.step > before
    ]
    return [
        step.ms / 1e3 for step in steps if list(step.scheduled.values()) == [length]
    ], planning.work(large, [(0, length)], dtype_bytes)


decodes(2)  # warms up
decoded = {batch: decodes(batch) for batch in batches}
prefilled = {length: prefill(length) for length in prefills}
slower.reveal(median(decoded[8][0]) / median(decoded[1][0]))

# %%
from labkit.views.roofline import Point, RooflineStill
from labkit.views.scene import badge

points = [
    Point("decode", str(batch), work, median(seconds))
    for batch, (seconds, work) in decoded.items()
]
points += [
    Point("prefill", str(length), work, median(seconds))
    for length, (seconds, work) in prefilled.items()
]
RooflineStill(
    ceilings,
    points,
    f"a model of {large.parameters / 1e6:.0f} million weights in {dtype}",
    badge(trace.read(box.run_file).header),
    dtype=dtype,
)

# %%
rows = []
for point in points:
    work, seconds, least = (
        point.work,
        point.seconds,
        planning.bound(point.work, ceilings, dtype),
    )
    moved = (work.weights + work.kv_read) / seconds
    rows.append(
        [
            f"{point.phase} {point.label}",
            f"{1e3 * seconds:.1f}",
            counted(work.tokens / seconds),
            counted(work.tokens / least.seconds),
            least.limit,
            f"{moved / 1e9:.1f}",
            f"{100 * planning.mbu(work, seconds, ceilings):.0f} %",
            f"{100 * planning.mfu(work, seconds, ceilings, dtype):.0f} %",
        ]
    )
Table(
    "What a step achieves",
    ["step", "ms", "tokens/s", "bound, tokens/s", "waits for", "GB/s", "MBU", "MFU"],
    rows,
    [
        "bound: the tokens/s at which the slower of memory and arithmetic would be busy all the time. GB/s: weights and KV read in a step, over its time.",
        "MBU: that over the measured bandwidth (Databricks, LLM Inference Performance Engineering, 2023). MFU: needed FLOPs over time, over the measured rate (PaLM, appendix B).",
    ],
)

# %% [markdown]
# ### Explain
# The line in the picture is the roofline. Its slope is what memory allows: so many FLOPs for each byte that it brings. Its flat part is what arithmetic allows. They meet at the *ridge*.
#
# A **decode** for one request does one multiplication and one addition for each weight that it reads: it stands far to the left, under the slope, and waits for **memory**. Add requests, and it
# climbs along the slope: the same bytes, more FLOPs, more tokens per second. To the right of the ridge it comes under the flat part, and from there on more requests only share what is there. A
# **prefill** stands there from the beginning: hundreds of tokens for one reading of the weights. It waits for **arithmetic**.
#
# *MBU* says how much of the bandwidth, *MFU* how much of the arithmetic a step used. A step for one request may move bytes as fast as the machine can, and its MFU is still a few percent: the machine is
# busy, and hardly computes. No step reaches 100 %: what is missing went into overhead, and to whoever else uses this machine.
#
# And the model that answered you above? The shipped one fits into the cache. The next cell says what a step of it *could* take and what it took: the rest is neither memory nor arithmetic but
# **overhead**: deciding what to compute, Python around the step, in vLLM also the launching of many small operations. That, too, is shared by all requests of a step.

# %%
small = planning.work(shape, [(300, 1)], dtype_bytes)
took = median(end - begin for begin, end, _ in request.steps[request.first + 1 :])
print(
    f"{model}: a decode step of one request could take {1e3 * planning.bound(small, ceilings, dtype).seconds:.2f} ms, and took {1e3 * took:.2f} ms"
)

# %% [markdown]
# ## Check

# %%
speed = {batch: batch / median(seconds) for batch, (seconds, _) in decoded.items()}
check.that("What you saw came out of a running engine", run.header.badge == "live")
check.that(
    "Every token came after the one before", stamps == sorted(stamps) and sent < stamps[0]
)
check.that(
    "The stages of the request add up to the whole answer",
    abs(sum(request.stages.values()) - (stamps[-1] - sent)) < 1e-6,
)
check.that(
    "The whole prompt was computed before the first token",
    sum(n for _, _, n in request.steps[: request.first + 1]) == request.prompt,
)
check.that("A longer prompt has a later first token", firsts[-1] > firsts[0])
check.that(
    "A step for 32 requests gives more tokens per second than a step for one",
    speed[32] > speed[1],
)
check.that(
    "A prefill does more arithmetic for each byte than a decode",
    points[-1].work.intensity > 10 * points[0].work.intensity,
)
lesson.report(
    run_file=str(box.run_file),
    badge=box.badge,
    ttft_ms=1e3 * request.ttft,
    tokens_per_s={str(batch): rate for batch, rate in speed.items()},
)
lesson.summary()

# %%
box.stop()

# %% [markdown]
# ## Where to go on
# - [02 KV-cache paging](02_kv_cache_paging.ipynb): where the keys and values lie. [03 Batching](03_batching.ipynb): who shares a step with whom.
# - `labkit bench machine` for all thread counts; `labkit/planning/roofline.py` is the arithmetic of this page.
# - Pope et al., *Efficiently Scaling Transformer Inference* ([arXiv 2211.05102](https://arxiv.org/abs/2211.05102)); Databricks, *LLM Inference Performance Engineering: Best Practices*;
#   Williams, Waterman and Patterson, *Roofline* (CACM 2009).
