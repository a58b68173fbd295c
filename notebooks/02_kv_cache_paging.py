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
# # 02 · KV-cache paging
#
# A serving engine spends most of its memory on the KV cache, and how that memory is handed out decides how many requests can run at once.
# In this notebook you will see, in a running engine,
#
# 1. what reserving memory in one piece costs, and what pages (*blocks*) save,
# 2. how a **block table** turns a position in a text into a place in memory,
# 3. the **waste ledger**: which part of the memory holds tokens, and which does not,
# 4. **prefix sharing**: one block, several owners,
# 5. **preemption**: what the engine does when the blocks run out.
#
# It takes about ten minutes. Set `server = "vllm"` to see the same from inside the real vLLM: every number below then comes out of vLLM's own scheduler.

# %% tags=["parameters"]
server = "glassbox"  # glassbox, vllm
model = "tiny"
scale = "small"  # or "full": more requests
interactive = True

# %% [markdown]
# ## A small memory
# Both engines get the same: room for **1 152 tokens**, requests of at most **512** tokens, at most 8 at once. vLLM's CPU kernels need blocks of a multiple of 32 tokens,
# the glass box takes any size; and vLLM keeps block 0 for itself (the *null block*, ∅ in the picture), so it gets one more.
#
# The glass box runs in slow motion, 30 steps a second, so that you can follow it.

# %% tags=["setup"]
import matplotlib.pyplot as plt

import labkit as lab
from labkit import trace
from labkit.lessons import Lesson
from labkit.models.prompts import prompt, tokenizer

lesson = Lesson("02 KV-cache paging", interactive=interactive)
predict, check = lesson.predict, lesson.check

slots, max_model_len = 1152, 512
block_size = {"glassbox": 16, "vllm": 32}[server]
num_blocks = slots // block_size + {"glassbox": 0, "vllm": 1}[server]
slow_motion = {"glassbox": dict(max_steps_per_second=30), "vllm": {}}[server]

# %%
box = lab.serve(
    server,
    model=model,
    block_size=block_size,
    num_gpu_blocks_override=num_blocks,
    max_model_len=max_model_len,
    max_num_seqs=8,
    max_num_batched_tokens=256,
    **slow_motion,
)
box

# %% [markdown]
# ## 1 · One piece, or pages?
# Before vLLM, engines reserved each request's memory *in one piece and in advance*: nobody knows how long an answer will be, so as much as the longest allowed one.
#
# ### Predict

# %% jupyter={"source_hidden": true} tags=["predict"]
predict.number(
    f"The memory holds {slots} tokens, a request may have up to {max_model_len}. Reserved in one piece, how many requests run at once?",
    answer=slots // max_model_len,
    hints={
        8: "8 is what the scheduler allows; the memory is the narrower door.",
        (
            2.1,
            2.9,
        ): "A request that has no room for its last token cannot be started: round down.",
        slots
        // block_size: "That is the number of blocks; a reservation in one piece is as long as the longest request allowed.",
    },
    explain=f"{slots} / {max_model_len} = {slots / max_model_len:.2f}, and a third request has no piece that is long enough.",
)

# %% [markdown]
# ### Run
# Now the same memory in blocks. Watch the *if contiguous* line under the map: it shows what would have been reserved in one piece for the same requests.

# %%
view = lab.watch(box)
view

# %%
n = {"small": 16, "full": 48}[scale]
ragged = [prompt("story", seed=i, tokens=20 + 11 * (i % 7)).text for i in range(n)]
result = lab.load(
    box,
    requests=n,
    concurrency=8,
    seed=0,
    prompts=ragged,
    max_tokens=(8, 48),
    extra={"ignore_eos": True},
)
result.table()

# %%
run = trace.read_idle(box.run_file)
at_once = max(state.running for _, state in run.states())
print(f"in one piece: {slots // max_model_len} requests at once; in blocks: {at_once}")

# %% [markdown]
# ### Explain
# Blocks are taken when they are needed, not before, and any free block will do: there is no hole that is too small to be used. What limits the engine now is the
# memory that requests *really* hold. That is PagedAttention: Kwon et al., *Efficient Memory Management for Large Language Model Serving with PagedAttention*,
# SOSP 2023 ([arXiv 2309.06180](https://arxiv.org/abs/2309.06180)).

# %% [markdown]
# ## 2 · The block table
# The attention kernel has to find token number `position` of a request. The request's **block table** lists its blocks in order; their numbers are places in memory.
# Let us stop the recorded run at its fullest step and read a real table. (In the map: click a request, and follow the lines.)

# %%
fullest = max(((state.usage, event.step) for event, state in run.states()))[1]
state = run.state_at(fullest)
longest = max((r for r in state.requests.values() if r.table), key=lambda r: len(r.table))
table, computed = list(longest.table), longest.computed
print(f"step {fullest}: request {longest.letter} has {computed} tokens in blocks {table}")

# %% [markdown]
# ### Exercise
# Memory is a row of slots; block `b` owns the slots from `b * block_size` up to, not including, `(b + 1) * block_size`. In which slot do the keys and values of token `position` lie?
# (vLLM computes exactly this for every token of every step and calls the result `slot_mapping`.)


# %% tags=["exercise"]
def slot(table: list[int], position: int, block_size: int) -> int: ...


# %% jupyter={"source_hidden": true} tags=["check"]
check.exercise(
    "slot",
    slot,
    cases=[
        (([7, 3, 9], 0, 16), 112),
        (([7, 3, 9], 16, 16), 48),
        (([7, 3, 9], 37, 16), 149),
        (([2, 0], 5, 4), 1),
    ],
    diagnoses=[
        (
            lambda f: f([7, 3, 9], 37, 16) == 37,
            "That is the logical position: the table says where its block really lies.",
        ),
        (
            lambda f: f([7, 3, 9], 16, 16) == 3,
            "You found the block. A slot counts tokens: multiply by `block_size` and add the place inside the block.",
        ),
        (
            lambda f: f([7, 3, 9], 37, 16) == 144,
            "The block is right, the place inside it is missing: `position % block_size`.",
        ),
        (
            lambda f: f([7, 3, 9], 16, 16) // 16 == 7,
            "Position 16 is the first of the *second* block when a block has 16 slots: `position // block_size`.",
        ),
    ],
    explain="Block, then place inside the block: `table[position // block_size] * block_size + position % block_size`.",
)

# %% [markdown]
# ## 3 · The waste ledger
# Paging is not free of waste: the last block of each request, its *tail*, is filled only in part.
#
# ### Predict

# %% jupyter={"source_hidden": true} tags=["predict"]
predict.number(
    "If lengths are as good as random, how many slots of its last block does a request leave empty on average, with blocks of 16?",
    answer=7.5,
    within=0.1,
    hints={
        15: "That is the worst case: one token in the last block.",
        16: "Then the block would be empty, and it would not have been taken.",
        0: "Only if every length were a multiple of 16.",
    },
    explain="Between 0 and 15, each as likely as the others: (16 - 1) / 2.",
)

# %% [markdown]
# ### Run
# Block size is one argument, so let us try several, in the glass box right here in the notebook (no server: `Engine` is a Python object), with the same prompts.

# %%
import torch

from labkit.glassbox import Engine, EngineOptions, SamplingParams
from labkit.glassbox.tracing import make_header
from labkit.models import folder

torch.set_num_threads(1)  # plenty for this model, and the server keeps its cores
sizes = [1, 4, 16, 32, 64]
tail, table_entries = [], []
for size in sizes:
    options = EngineOptions(
        block_size=size,
        num_gpu_blocks_override=2048 // size,
        max_model_len=max_model_len,
        max_num_seqs=8,
        enable_prefix_caching=False,
    )
    tape = trace.Tape(make_header(options, model="tiny", device="cpu"))
    engine = Engine.from_folder(folder("tiny"), options, recorder=tape)
    engine.generate(
        ragged, [SamplingParams(max_tokens=8 + 5 * (i % 9), ignore_eos=True) for i in range(n)]
    )
    empty = holders = entries = 0
    for _, state in tape.run.states():
        held = [len(request.table) for request in state.requests.values() if request.table]
        empty, holders, entries = (
            empty + state.ledger()["tail"],
            holders + len(held),
            max(entries, sum(held)),
        )
    tail.append(empty / holders)
    table_entries.append(entries)

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
left.bar(range(len(sizes)), tail, color="#B84A00")
left.plot(
    range(len(sizes)),
    [(size - 1) / 2 for size in sizes],
    "o--",
    color="#1A1F26",
    label="(block size − 1) / 2",
)
left.set(
    title="Empty tail slots for each request",
    xlabel="block size (tokens)",
    xticks=range(len(sizes)),
    xticklabels=sizes,
)
left.legend(frameon=False)
right.bar(range(len(sizes)), table_entries, color="#3E4A57")
right.set(
    title="Block-table entries at the fullest step",
    xlabel="block size (tokens)",
    xticks=range(len(sizes)),
    xticklabels=sizes,
)
for axes, values in ((left, tail), (right, table_entries)):
    axes.bar_label(axes.containers[0], [f"{value:.3g}" for value in values], padding=2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(y=0.15)
plt.show()

# %% [markdown]
# ### Explain
# Small blocks waste nothing and need long tables: more to look up for the attention kernel in every step, and more places for it to jump to. Large blocks waste half of
# themselves for each request, and, as you will see next, can be shared less often. vLLM's default is 16 tokens on a GPU and 128 on a CPU.

# %% [markdown]
# ## 4 · Prefix sharing
# Many requests begin alike: the same instructions, the same document, the same conversation so far. The engine gives every *full* block a **hash** over its
# tokens *and the hash of the block before it*. A new request whose first blocks have known hashes does not compute them: it becomes one more owner.
#
# ### Predict
# Six requests come one after the other. Each begins with the same 100 tokens and goes on with words of its own. The engine knows nothing of them yet.

# %% jupyter={"source_hidden": true} tags=["predict"]
common, others = 100, 5
predict.number(
    f"With blocks of {block_size}: how many prompt tokens will be found in the cache, over all six requests?",
    answer=others * (common // block_size) * block_size,
    hints={
        others
        * common: "Only *full* blocks have a hash: the last common tokens share their block with the request's own words.",
        (others + 1)
        * (common // block_size)
        * block_size: "The first one finds nothing: it is the one that fills the cache.",
        0: "Blocks keep their hash when they are freed, until somebody else needs the memory.",
    },
    explain=f"{common} // {block_size} = {common // block_size} full blocks, found by each of the other {others}.",
)

# %% [markdown]
# ### Run

# %%
before = run.steps
encode = lambda text: tokenizer().encode(text).ids
beginning = encode(prompt("story", seed="common", tokens=common).text)[:common]
shared = [
    beginning + encode(prompt("story", seed=f"own {i}", tokens=25).text)[1:]
    for i in range(1 + others)
]  # token ids: no surprises
lab.load(
    box,
    requests=1,
    concurrency=1,
    seed=1,
    prompts=shared[:1],
    max_tokens=16,
    extra={"ignore_eos": True},
    progress=False,
)
lab.load(
    box,
    requests=others,
    concurrency=others,
    seed=1,
    prompts=shared[1:],
    max_tokens=32,
    extra={"ignore_eos": True},
    progress=False,
)

run = trace.read_idle(box.run_file)
owners, hits, asked, first = 1, 0, 0, {}
for event, state in run.states(after=before):
    owners = max(
        [
            owners,
            *(len(state.block(b).owners) for r in state.requests.values() for b in r.table),
        ]
    )
    hits, asked = state.hit_tokens, state.asked_tokens
start = run.state_at(before)
found = hits - start.hit_tokens
print(
    f"{found} of {asked - start.asked_tokens} prompt tokens found in the cache; one block had up to {owners} owners at once"
)

# %% [markdown]
# In the map, shared blocks say **×n** and carry a stripe in the colour of each owner. Go back on the slider to a step with `×5`, click such a block and
# look at its hash chain.
#
# ### Exercise
# Which of two prompts hit? Write the rule: how many tokens of `prompt` does the engine find, if the tokens of `earlier` (all of them, and nothing else) are in the cache?
# Two things to mind: only full blocks count, and at least one token of a prompt is always computed, because the engine needs its *output* to go on.


# %% tags=["exercise"]
def cached_tokens(earlier: list[int], prompt: list[int], block_size: int) -> int: ...


# %% jupyter={"source_hidden": true} tags=["check"]
a = list(range(100, 140))
check.exercise(
    "cached_tokens",
    cached_tokens,
    cases=[
        ((a, a[:20] + [9] * 5, 16), 16),
        ((a, [9] + a[1:], 16), 0),
        ((a, a, 16), 32),
        ((a, a[:32], 16), 16),
        ((a, a[:33], 16), 32),
        ((a, a, 4), 36),
        ((a[:20], a, 16), 16),
    ],
    diagnoses=[
        (
            lambda f: f(a, a[:20] + [9] * 5, 16) == 20,
            "20 tokens are equal, but only 16 of them fill a block.",
        ),
        (
            lambda f: f(a, [9] + a[1:], 16) != 0,
            "The first token differs, so the first block has another hash, and the chain carries that to every later block.",
        ),
        (
            lambda f: f(a, a[:32], 16) == 32,
            "32 tokens are two full blocks, but then nothing is left to compute: the last block is computed again.",
        ),
        (
            lambda f: f(a[:20], a, 16) == 32,
            "The earlier prompt had 20 tokens: its second block was never full.",
        ),
    ],
    explain="Whole blocks of the common beginning, and never the whole prompt: this is vLLM's rule too.",
)

# %% [markdown]
# ## 5 · Preemption
# Blocks on demand are a promise that can be broken: every running request grows, and one day no block is free. vLLM and the glass box then **preempt**: the request that
# came last gives all its blocks back and waits at the head of the queue. When there is room it starts again, and its tokens are *computed again*.
#
# ### Predict

# %% jupyter={"source_hidden": true} tags=["predict"]
predict.choice(
    f"Eight requests at once, each with 40 tokens of prompt and 200 of answer, in a memory of {slots} tokens. What will happen?",
    [
        "all run side by side to their end",
        "some are preempted",
        "the last ones are refused",
        "the engine stops with an error",
    ],
    answer="some are preempted",
    hints={
        "all run side by side to their end": f"Together they grow to {8 * 240} tokens.",
        "the last ones are refused": "Refusing is what an engine does that reserves in advance, like TGI. This one admits on what is needed *now*.",
        "the engine stops with an error": "A single request always fits: the engine makes sure of that when it starts.",
    },
    explain=f"They need {8 * 240} tokens in the end; {slots} are there. Somebody has to step back.",
)

# %% [markdown]
# ### Run

# %%
before = run.steps
growing = [prompt("story", seed=100 + i, tokens=40).text for i in range(8)]
result = lab.load(
    box,
    requests=8,
    concurrency=8,
    seed=2,
    prompts=growing,
    max_tokens=200,
    extra={"ignore_eos": True},
)
result.table()

# %%
run = trace.read_idle(box.run_file)
start = run.state_at(before)
letters = {
    name: trace.letter(ordinal) for name, ordinal in run.state_at(run.steps).ordinals.items()
}
lost = {}
for event in run.events:
    if isinstance(event, trace.Step) and event.step > before and event.preempted:
        held = run.state_at(event.step - 1)
        for name in event.preempted:
            lost[event.step, name] = held.requests[name].computed
            print(
                f"step {event.step}: {letters[name]} preempted, {held.requests[name].computed} computed tokens given up, pool {held.usage:.0%} full"
            )
computed = sum(
    sum(event.scheduled.values())
    for event in run.events
    if isinstance(event, trace.Step) and event.step > before
)
needed = 8 * (
    40 + 200 - 1
)  # the last token of an answer is never computed: nobody asks what follows it
print(
    f"\n{len(lost)} preemptions: {sum(lost.values())} computed tokens given up, {computed - needed} computed a second time"
)

# %% [markdown]
# ### Explain
# A preemption loses no answer: every request ended with all its tokens. It costs time: the preempted request waits (look at the gaps in its TPOT), and its tokens are computed again. But less than
# you might fear, in one big prefill instead of one by one, and blocks that nobody took meanwhile are found in the prefix cache. If a server preempts all the time, it has
# admitted too many requests for its memory: lower `max_num_seqs`, or give it more blocks. vLLM counts them in `vllm:num_preemptions_total`.

# %%
view.still()

# %% [markdown]
# ## Check

# %%
end = run.state_at(run.steps)
check.that("What you saw came out of a running engine", run.header.badge == "live")
check.that(
    "Blocks let more requests run at once than reservations in one piece",
    at_once > slots // max_model_len,
)
check.that(
    "The cache found exactly the full common blocks",
    found == others * (common // block_size) * block_size,
)
check.that("A block had several owners at once", owners > 1)
check.that(
    "The pool ran out and requests were preempted",
    end.preempted - start.preempted == len(lost) > 0,
)
check.that(
    "Every request got its whole answer all the same",
    all(record.tokens == 200 for record in result.records),
)
check.that(
    "Empty tail slots follow (block size - 1) / 2",
    all(abs(t - (s - 1) / 2) <= max(1.0, 0.4 * s) for t, s in zip(tail, sizes, strict=True)),
)
check.that("In the end no block is held by anybody", end.usage == 0)
lesson.report(
    run_file=str(box.run_file), badge=box.badge, preemptions=len(lost), cached_tokens=found
)
lesson.summary()

# %%
box.stop()  # the map above stays: go on looking at it
if not interactive:
    view.close()

# %% [markdown]
# ## Where to go on
# - In the lab: `labkit/glassbox/block_pool.py`, `prefix_cache.py` and `policies/chunked.py` are what you watched. In vLLM: `vllm/v1/core/block_pool.py`, `kv_cache_manager.py`
#   and `sched/scheduler.py`; you will recognize the names.
# - The trace format, if you want to ask your own questions of a run: [docs/trace.md](../docs/trace.md).
