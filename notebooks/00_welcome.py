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
# # 00 · Welcome: look inside a serving engine
#
# A language-model server is a scheduler and a memory manager with a model attached. Most of what makes one fast or slow happens in those two,
# and it can be *seen*. In this notebook you will
#
# 1. see what this machine can run,
# 2. start a server and talk to it,
# 3. send it two dozen requests and watch, block by block, what happens in its memory.
#
# It takes about five minutes and needs no GPU, no Docker and no account. Run the cells from top to bottom with **Shift+Enter**.

# %% tags=["parameters"]
server = "glassbox"  # glassbox, vllm
model = "tiny"  # comes with the lab; or a folder, or a hub name if you have a network
scale = "small"  # or "full": more requests
interactive = True

# %% [markdown]
# ## This machine
# The lab can start three servers. The next cell says which way each of them runs *here*. The badge matters: **live** is the real thing, a
# **stand-in** plays the part of a server that cannot run on this machine, and always says so.

# %% tags=["setup"]
import labkit as lab
from labkit import trace
from labkit.lessons import Lesson
from labkit.models.prompts import prompt

lesson = Lesson("00 Welcome", interactive=interactive)
predict, check = lesson.predict, lesson.check
small = {
    "glassbox": dict(
        block_size=16, num_gpu_blocks_override=96, max_steps_per_second=40
    ),
    "vllm": dict(block_size=32, num_gpu_blocks_override=96),
}[server]

# %%
lab.doctor()

# %% [markdown]
# ## Start a server
# `glassbox` is the lab's own small engine, written to be read: [`labkit/glassbox/engine.py`](../labkit/glassbox/engine.py) has the whole step on
# one screen. It speaks the OpenAI protocol, as vLLM does, so everything below works with either. (Set `server = "vllm"` above and run again:
# the first time installs vLLM into an environment of its own.)
#
# We give it a deliberately small memory so that you can see every block: 96 blocks. And the glass box runs in **slow motion**, 40 steps a second:
# on its own it writes thousands of tokens a second on two cores, too fast to watch.

# %%
box = lab.serve(server, model=model, max_model_len=512, max_num_seqs=8, **small)
box

# %% [markdown]
# ## Talk to it
# This is the official OpenAI client, pointed at your own server. The answer comes as a *stream*: one piece for each **token** (a word, or a part of one), as soon as it exists.

# %%
from openai import OpenAI

client = OpenAI(base_url=f"{box.url}/v1", api_key="none")
question = "What is a KV cache?"
stream = client.chat.completions.create(
    model=box.model,
    messages=[{"role": "user", "content": question}],
    max_tokens=64,
    temperature=0,
    stream=True,
)
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)

# %% [markdown]
# The model behind it has 5 million parameters and was trained by code in this repository, on text that code in this repository wrote. It knows a
# few things about serving, tells tiny stories and can recall a number from a thousand tokens back. It is small so that everything is quick,
# and real so that everything is true.
#
# ## Predict
# To write the next token, the engine needs the *keys* and *values* of all tokens so far, in every layer: vectors by which a token finds earlier ones, and what it takes from them. Kept from step to step, they are the **KV cache**. It keeps them
# in **blocks** of a fixed number of tokens, so that memory need not be reserved in one piece.

# %% jupyter={"source_hidden": true} tags=["predict"]
size = small["block_size"]
predict.number(
    f"A request has 100 tokens so far. How many blocks of {size} does it hold?",
    answer=-(-100 // size),
    hints={
        100
        // size: f"{100 // size} blocks hold {100 // size * size} tokens; the rest needs a block too, even if it does not fill it.",
        100: "That would be one block for each token: a block size of 1.",
        100 / size: "Blocks are whole: the last one is only partly filled.",
    },
    explain=f"100 / {size} = {100 / size}, rounded up: the last block is only partly filled.",
)

# %% [markdown]
# ## Watch
# The next cell opens the **KV map** of the running server: every square is one block of its cache. Then it sends requests, six at a time.
#
# While it runs, and after: click a request in the list to see its block table, click a block to see the tokens in it, drag the slider to
# go back in time, press space to play.

# %%
view = lab.watch(box)
view

# %%
n = {"small": 24, "full": 96}[scale]
stories = [prompt("story", seed=i, tokens=40 + 13 * (i % 9)).text for i in range(n)]
result = lab.load(box, requests=n, concurrency=6, seed=0, prompts=stories, max_tokens=(24, 96))

# %% [markdown]
# **What you saw.** A request that is admitted takes blocks for its prompt (this is *prefill*: many tokens in one step). Then it grows by one
# token a step (*decode*) and takes one more block whenever its last one is full. Its blocks lie anywhere in memory: the *block table*
# says where. When it ends, its blocks can be used by others. Full blocks stay behind, hatched, with a lower-case letter: they are *cached*,
# and a later request that begins with the same tokens will find them there instead of computing them again.
#
# What did each request feel? TTFT is the time to its first token, TPOT the time for each further one. (In slow motion a token takes 25 ms or more. Take
# `max_steps_per_second` out above to see what it takes otherwise.)

# %%
result.table()

# %%
result.plot()

# %% [markdown]
# ## Exercise
# Write the rule that you saw at work: how many blocks does a request of `tokens` tokens hold, if a block has `size` slots?


# %% tags=["exercise"]
def blocks_needed(tokens: int, size: int) -> int: ...


# %% jupyter={"source_hidden": true} tags=["check"]
check.exercise(
    "blocks_needed",
    blocks_needed,
    cases=[((100, 16), 7), ((96, 16), 6), ((1, 16), 1), ((0, 16), 0), ((33, 32), 2)],
    diagnoses=[
        (
            lambda f: f(100, 16) == 6,
            "You round down: the last, partly filled block is a block too.",
        ),
        (
            lambda f: f(96, 16) == 7,
            "96 tokens fill 6 blocks of 16 exactly: nothing is left for a seventh.",
        ),
        (lambda f: f(0, 16) == 1, "A request without tokens holds no block."),
        (lambda f: f(100, 16) == 100 / 16, "Blocks are whole things: round up."),
    ],
    explain="Divide and round up: `-(-tokens // size)`, or `math.ceil(tokens / size)`.",
)

# %% [markdown]
# ## Check
# The run file holds every step of what you watched. Whatever the engine did, these must be true:

# %%
run = trace.read_idle(box.run_file)
end = run.state_at(run.steps)
check.that("What you saw came out of a running engine", run.header.badge == box.badge == "live")
check.that("Every request ended: yours, and those of the load", end.finished > n)
check.that(
    "Used, cached and free blocks add up to the whole pool",
    sum(end.counts().values()) == end.num_blocks,
)
check.that("No request failed", not result.failures)
lesson.report(run_file=str(box.run_file), badge=box.badge, throughput=result.throughput)
lesson.summary()

# %%
box.stop()  # the map above stays: go on looking at it
if not interactive:
    view.close()

# %% [markdown]
# ## Where to go on
# - [02 KV-cache paging](02_kv_cache_paging.ipynb): why blocks at all, what they cost, how they are shared and what happens when they run out.
# - The code you watched: `labkit/glassbox/engine.py` (the step), `block_pool.py` (the blocks), `scheduler.py` (who gets them).
# - Everything from the command line: `labkit doctor`, `labkit serve glassbox`, `labkit load URL`, `labkit run 00`.
