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
# # 03 · Batching
#
# One step for many requests costs far less than many steps for one ([notebook 01](01_anatomy_of_a_request.ipynb)). So a server computes requests together: in a **batch**. *Who* is in the batch, and
# *when* it changes, is the **batching policy**, and it makes or breaks a server. In this notebook you will
#
# 1. race five policies on the same requests, live: **static**, **dynamic** (Triton), **TGI**'s, **continuous** (Orca) and **chunked** (vLLM),
# 2. see where each one spends memory and time: the **waste ledger**,
# 3. turn dials (rate, lengths, budget, memory) and watch the ranking **flip**: every policy wins somewhere,
# 4. write a policy of your own and race it against these; an invariant checker says which law it breaks, at which step, and whom it hurts.
#
# It takes about ten minutes. At the end the same requests go to a real server: the glass box over HTTP, or with `server = "vllm"` the real vLLM.

# %% tags=["parameters"]
server = "glassbox"  # glassbox, vllm
model = "tiny"
scale = "small"  # or "full": more requests
interactive = True

# %% tags=["setup"]
import labkit as lab
from labkit import trace
from labkit.glassbox.plan import Plan
from labkit.glassbox.scheduler import Scheduler
from labkit.lessons import Lesson
from labkit.load.prompts import Prompts
from labkit.race import StepCost, Workload

lesson = Lesson("03 Batching", interactive=interactive)
predict, check = lesson.predict, lesson.check

# %% [markdown]
# ## What a step costs here
# Before racing, let us measure. The next cell runs the real engine for about three seconds, through mixtures of prompts and answers, and fits one line to the times of its steps:
#
# > milliseconds = a fixed part + so much for each prompt token + so much for each request that decodes + a little for what they look at
#
# From it follows how many requests per second this machine can serve at all; the race will offer it about as many. And it gives us a second clock: a **step-cost clock** that needs no waiting.

# %%
cost = lab.race.calibrate(model)
print(cost)
prompt, answer, together = 144, 36, 8  # mean lengths of what follows, and requests in a step
work = prompt * cost.prefill_token + answer * (cost.step / together + cost.decode_sequence)
capacity = 1e3 / work
print(
    f"a request with {prompt} prompt tokens and {answer} more takes {work:.0f} ms of the engine's time, {together} at once: about {capacity:.1f} requests per second"
)

# %% [markdown]
# ## 1 · The race
# Twelve requests, the same for everybody, arriving at random. The same memory for everybody: 100 blocks of 16 tokens. Rows are requests; time runs to the right. A fast machine is done in a blink: press ▶ to see it again, and *speed* for slow motion.
#
# ### Predict

# %% jupyter={"source_hidden": true} tags=["predict"]
predict.choice(
    "Ragged answers: some of 8 tokens, some of 64. Who will be the last to finish?",
    [
        "static and dynamic: a batch starts together and ends together",
        "tgi: it reserves memory for the worst case",
        "continuous and chunked: their batch is never the same",
    ],
    answer="static and dynamic: a batch starts together and ends together",
    hints={
        "tgi: it reserves memory for the worst case": "That keeps some waiting at the door. But whoever ends makes room at once.",
        "continuous and chunked: their batch is never the same": "That is what makes them fast: no place in a step stays empty while somebody waits.",
    },
    explain="Everybody in such a batch waits for its longest member, and so does everybody outside.",
)

# %% [markdown]
# ### Run

# %%
policies = ["static", "dynamic", "tgi", "continuous", "chunked"]
n = {"small": 12, "full": 24}[scale]
ragged = Workload.make(n, capacity, prompt_tokens=(32, 256), output_tokens=(8, 64), seed=0)
print(ragged)
live = lab.race(policies, ragged, model=model)
live.table()

# %% [markdown]
# **What you saw.**
# - *static* waits for four requests, fills every prompt up to the longest (hatched), and computes on for those that have ended until the last one has. Nobody gets in meanwhile.
# - *dynamic*, as Triton has it, starts with whoever waits when the model is free. Inside, its batch is as rigid as a static one.
# - *tgi* lets a request in as soon as its **worst case**, prompt plus `max_tokens`, fits into memory beside the others. It never has to take anything back.
# - *continuous*, as Orca had it first, makes the batch anew in *every step*: whoever ends leaves, whoever waits comes in, with its whole prompt at once.
# - *chunked*, as vLLM has it, gives every step a **budget** of tokens: decodes first, then as much of the waiting prompts as fits, in pieces. It takes memory when it needs it, not before, and when there is none
#   left it preempts ([notebook 02](02_kv_cache_paging.ipynb)).
#
# ## 2 · The waste ledger
# Where did the memory and the time go?

# %%
live.ledger()

# %% [markdown]
# ### Exercise
# How much of a static batch is padding? A batch computes its prompts in one step, each filled up to the longest. That step gives everybody the first token. Then it makes steps until the longest
# answer is there, and in each of them computes one token for *every* request of the batch, whether it has ended or not. Which share of all computed tokens is for nothing?


# %% tags=["exercise"]
def padding_share(prompts: list[int], answers: list[int]) -> float:
    """`prompts`, `answers`: tokens of each request of one batch."""
    ...


# %% jupyter={"source_hidden": true} tags=["check"]
check.exercise(
    "padding_share",
    padding_share,
    cases=[
        (([4, 4], [3, 3]), 0.0),
        (([4, 2], [3, 3]), 2 / 12),
        (([4, 4], [5, 1]), 4 / 16),
        (([10, 20, 30], [1, 2, 4]), 35 / 99),
    ],
    diagnoses=[
        (
            lambda f: abs(f([4, 2], [3, 3]) - 2 / 14) < 1e-9,
            "You count as many decode steps as the longest answer has tokens. The first token comes from the prompt's own step: there is one fewer.",
        ),
        (
            lambda f: f([4, 2], [3, 3]) == 0 and f([4, 4], [5, 1]) > 0,
            "The prompts are padded too: every one up to the longest.",
        ),
        (
            lambda f: f([4, 4], [5, 1]) == 0 and f([4, 2], [3, 3]) > 0,
            "Whoever has ended is computed on until the longest answer is there.",
        ),
        (
            lambda f: abs(f([4, 2], [3, 3]) - 10 / 12) < 1e-9,
            "That is the useful share; the padding is the rest.",
        ),
    ],
    explain="Computed: `n * (max(prompts) + max(answers) - 1)`. Useful: `sum(prompts) + sum(answers) - n`.",
)

# %% [markdown]
# ## 3 · The same race without waiting
# Five policies in real time take a while. On the **step-cost clock** the scheduler and its block pool are the real ones, but no model runs: a step takes the time that the line above says. The badge
# says *stand-in*, because that is what the clock is. How far can it be trusted? The same race, both ways:

# %%
quick = lab.race(policies, ragged, model=model, clock=cost, show=False)
print("             all done, real time    step-cost clock")
for name in policies:
    print(
        f"{name:12} {live.measures[name]['makespan']:12.2f} s {quick.measures[name]['makespan']:15.2f} s"
    )

# %% [markdown]
# ## 4 · Turn the dials
# Each turn runs the race anew, with 24 requests. Can you find a setting in which
#
# - *static* is nowhere the worst, and somewhere the best?
# - *chunked* makes somebody wait longest between two tokens?
# - *chunked* has by far the shortest pause of the last three, and pays for it with TTFT?
# - all five are about equal?

# %%
from labkit.race.dials import Dials

dials = Dials(
    cost,
    {name: name for name in policies},
    rate=capacity,
    prompt_tokens=(32, 256),
    output_tokens=(8, 64),
    model=model,
)
dials

# %% [markdown]
# ## 5 · Who wins when
# ### Predict

# %% jupyter={"source_hidden": true} tags=["predict"]
predict.choice(
    "Long prompts arrive while others read their answers. Who makes the readers wait longest for a next token?",
    ["static", "continuous", "chunked"],
    answer="continuous",
    hints={
        "static": "Its *newcomers* wait very long. But nobody disturbs a batch that runs.",
        "chunked": "It puts at most its budget of prompt tokens into a step, so no step can be long.",
    },
    explain="A whole prompt in one step makes that step long, and everybody in it waits for its end.",
)

# %% jupyter={"source_hidden": true} tags=["predict"]
predict.choice(
    "Little memory, and long answers. TGI reserves the worst case before a request starts, vLLM takes blocks when it needs them. Which one gives more tokens per second?",
    ["TGI: it never computes anything twice", "vLLM: it lets more requests run at once"],
    answer="vLLM: it lets more requests run at once",
    hints={
        "TGI: it never computes anything twice": "True, and its readers never have to pause. But most of what it reserves is empty most of the time, and those who could use it wait outside."
    },
    explain="Recomputing a preempted request is one prefill; leaving half of the memory empty costs at every step. (Only where a prompt costs very much more than a step does it turn around.)",
)

# %% [markdown]
# ### Run
# Five situations: two loads at the pace of this machine, an offline job, 24 long answers asked for at once with half of the memory, and long prompts with a small budget.

# %%
sizes = {"prompt_tokens": (16, 256), "output_tokens": (8, 64)}
big = ["tgi", "continuous", "chunked"]
one_batch = {
    "static": ("static", {"batch_size": 16}),
    "dynamic": ("dynamic", {"max_batch_size": 16}),
    **{name: name for name in big},
}
situations = {
    "quiet": (policies, Workload.make(24, capacity / 6, **sizes), {}),
    "busy": (policies, Workload.make(24, 1.2 * capacity, **sizes), {}),
    "offline, equal lengths": (
        one_batch,
        Workload.make(16, prompt_tokens=128, output_tokens=48),
        dict(num_blocks=400, max_num_batched_tokens=2048),
    ),
    "little memory": (
        policies,
        Workload.make(24, prompt_tokens=(16, 64), output_tokens=(100, 200)),
        dict(num_blocks=50),
    ),
    "long prompts": (
        policies,
        Workload.make(24, capacity / 4, prompt_tokens=(400, 800), output_tokens=(20, 60)),
        dict(num_blocks=900, max_num_batched_tokens=64),
    ),
}
races = {
    title: lab.race(who, workload, model=model, clock=cost, show=False, **engine)
    for title, (who, workload, engine) in situations.items()
}

# %%
from labkit.race.comparison import ComparisonStill

ComparisonStill(races)

# %% [markdown]
# ### Explain
# - **Quiet.** Nobody is there to share a step with, so policies hardly matter, except for the one that waits for company.
# - **Busy.** Policies that change the batch in every step serve far more tokens with the same model. What they pay: a newcomer's prompt stands in the same step as the others' next token. Nobody
#   disturbs a static batch: its readers have the steadiest stream, once they are in.
# - **Offline, equal lengths.** Everything is there, everything is equally long: nothing to pad, nothing to wait for. One static batch is as good as anything. Many evaluation scripts are just that.
# - **Little memory.** Blocks on demand let more requests run at once, and lose steadiness: whoever is preempted pauses for as long as it takes to come in again, and is computed again. Where computing a prompt
#   is dear beside a step, that costs more than it brings. Reserving the worst case, as TGI and Orca do, never stalls anybody who is in, and makes the others wait outside.
# - **Long prompts.** Chunks keep the pauses short and make the newcomers wait longer: their prompt takes many steps. That is the trade-off of `max_num_batched_tokens`, so let us look at it alone.
#
# ## 6 · The budget
# The same long prompts, *chunked*, with different budgets.

# %%
import matplotlib.pyplot as plt

budgets = [32, 64, 128, 256, 512, 1024, 2048]
long_prompts = situations["long prompts"][1]
swept = lab.race(
    {str(budget): ("chunked", {"max_num_batched_tokens": budget}) for budget in budgets},
    long_prompts,
    model=model,
    clock=cost,
    show=False,
    num_blocks=900,
)
ttfts, pauses = (
    [1e3 * swept.measures[str(budget)][name] for budget in budgets]
    for name in ("ttft", "pause")
)

figure, axes = plt.subplots(figsize=(9, 3.6), layout="constrained")
axes.plot(budgets, ttfts, "o-", color="#E69F00", markeredgecolor="#8F6200")
axes.plot(budgets, pauses, "s-", color="#0072B2", markeredgecolor="#00527F")
axes.annotate(
    "median TTFT",
    (budgets[0], ttfts[0]),
    xytext=(0, 8),
    textcoords="offset points",
    color="#8F6200",
    weight="bold",
)
axes.annotate(
    "longest pause",
    (budgets[0], pauses[0]),
    xytext=(0, -18),
    textcoords="offset points",
    color="#00527F",
    weight="bold",
)
axes.set(
    title="What the token budget trades (step-cost clock)",
    xlabel="max_num_batched_tokens",
    ylabel="ms",
    xscale="log",
    yscale="log",
    xticks=budgets,
    xticklabels=budgets,
)
axes.minorticks_off()
axes.yaxis.set_major_formatter("{x:g}")
axes.spines[["top", "right"]].set_visible(False)
axes.margins(y=0.15)
plt.show()

# %% [markdown]
# ### Exercise
# Choose the budget. A step costs `step` milliseconds, plus `token` for each prompt token in it, plus `sequence` for each request that decodes. `running` requests are decoding (each takes one token of the
# budget), and each of them is to get its next token within `target` milliseconds. What is the largest `max_num_batched_tokens` that keeps every step that short?


# %% tags=["exercise"]
def largest_budget(
    step: float, token: float, sequence: float, running: int, target: float
) -> int: ...


# %% jupyter={"source_hidden": true} tags=["check"]
check.exercise(
    "largest_budget",
    largest_budget,
    cases=[
        ((2, 0.5, 0.25, 4, 8), 14),
        ((2, 0.5, 0.25, 8, 8), 16),
        ((4, 1, 0, 0, 10), 6),
        ((1, 0.5, 0.5, 2, 4.25), 6),
    ],
    diagnoses=[
        (
            lambda f: f(2, 0.5, 0.25, 4, 8) == 10,
            "That is room for prompt tokens. The decodes take a token of the budget each, too: add `running`.",
        ),
        (
            lambda f: f(2, 0.5, 0.25, 4, 8) in (16, 12),
            "The decodes take time of the step as well: `running * sequence`, before prompts get anything.",
        ),
        (
            lambda f: f(4, 1, 0, 0, 10) == 10,
            "The fixed part of a step is spent before the first token is computed.",
        ),
        (
            lambda f: f(1, 0.5, 0.5, 2, 4.25) == 6.5,
            "Tokens are whole, and the target is not to be missed: round down.",
        ),
        (
            lambda f: f(1, 0.5, 0.5, 2, 4.25) == 7,
            "Rounded up, the step takes longer than the target: round down.",
        ),
    ],
    explain="`running + floor((target - step - running * sequence) / token)`: what time is left, in prompt tokens, and the decodes' own.",
)

# %% [markdown]
# Now with the numbers of this machine. The step-cost clock also knows what the tokens of a step look at, so the next cell tries budgets until the slowest step that they allow meets the target.

# %%
target = (pauses[0] * pauses[-1]) ** 0.5  # halfway, on the picture above
steps = [
    event
    for run in swept.runs.values()
    for event in run.events
    if isinstance(event, trace.Step)
]
readers, longest = (
    max(step.running for step in steps),
    max(len(item.prompt) + item.max_tokens for item in long_prompts.items),
)


def slowest(budget: int) -> float:
    """Milliseconds of a step in which everybody reads, and the end of the longest prompt is computed with the rest of the budget."""
    chunk = budget - readers
    return cost.predict((1, chunk, chunk * longest, readers, readers * longest))


chosen = max(
    (budget for budget in range(readers + 1, 2049) if slowest(budget) <= target),
    default=readers + 1,
)
tuned = lab.race(
    {"chosen": ("chunked", {"max_num_batched_tokens": chosen}), "whole prompts": "continuous"},
    long_prompts,
    model=model,
    clock=cost,
    show=False,
    num_blocks=900,
)
print(
    f"target {target:.0f} ms, up to {readers} requests at once: a budget of {chosen} tokens\nlongest pause {1e3 * tuned.measures['chosen']['pause']:.0f} ms instead of "
    f"{1e3 * tuned.measures['whole prompts']['pause']:.0f} ms, median TTFT {1e3 * tuned.measures['chosen']['ttft']:.0f} ms instead of {1e3 * tuned.measures['whole prompts']['ttft']:.0f} ms"
)

# %% [markdown]
# ## 7 · Your own policy
# A policy is a class with one method: `schedule(now)` returns a `Plan`, who computes how many tokens in the next step. What you have:
#
# | | |
# |---|---|
# | `self.running` | requests that are in, oldest first. Each needs one token computed, so that it gets its next |
# | `self.waiting` | requests that wait, oldest first; `request.num_tokens` is how long the prompt is |
# | `self.extend(plan, request, 1)` | put a running request into the plan, with one token |
# | `self.admit(plan, request, n, num_reserved_tokens=self.worst_case(request))` | let a waiting request in, with blocks for its worst case, and compute `n` tokens of it. False, with nothing changed, if there are not enough blocks |
# | `self.max_num_seqs`, `self.max_num_batched_tokens` | how many may run at once, and how many tokens a step may compute |
#
# ### Exercise
# Let the **shortest prompt first**: first a token for everybody who runs; then let in those who wait, whole prompts only, the shortest first, as long as seats, budget and memory last.


# %% tags=["exercise"]
class ShortestFirst(Scheduler):
    """The shortest waiting prompt comes in first."""

    shares_prefixes = False  # nothing of the prefix cache, to keep it simple

    def schedule(self, now: float) -> Plan: ...


# %% jupyter={"source_hidden": true} tags=["check"]
round_numbers = StepCost(
    step=2, prefill_token=0.1, prefill_pair=0, decode_sequence=0.1, context_token=0
)
trials = {
    "at once, two seats": (
        Workload.make(8, prompt_tokens=(20, 120), output_tokens=(4, 12), seed=1),
        dict(max_num_seqs=2),
    ),
    "a small budget": (
        Workload.make(12, 200, prompt_tokens=(20, 60), output_tokens=(10, 30), seed=2),
        dict(max_num_batched_tokens=64, max_num_seqs=8),
    ),
    "few seats": (
        Workload.make(12, 100, prompt_tokens=(5, 30), output_tokens=(10, 30), seed=3),
        dict(max_num_seqs=3),
    ),
    "little memory": (
        Workload.make(12, 100, prompt_tokens=(20, 60), output_tokens=(60, 120), seed=4),
        dict(num_blocks=24),
    ),
}


def tried(policy):
    """The policy's race in each trial; None as long as it schedules nothing at all."""
    done = {}
    for title, (workload, engine) in trials.items():
        done[title] = lab.race({"yours": policy}, workload, clock=round_numbers, show=False, **engine)
        if not done[title].complete:
            raise KeyboardInterrupt(f"stopped in the trial “{title}”")
    unwritten = all(
        "'NoneType' object has no attribute" in str(race.broken.get("yours"))
        for race in done.values()
    )
    return None if unwritten else done


def stopped(races) -> str:
    """What the invariant checker, or Python, stopped it with first; nothing if all went well."""
    return next((str(error) for race in races.values() for error in race.broken.values()), "")


def about(*words: str):
    return lambda races: any(word in stopped(races) for word in words)


def steps_of(races, title: str) -> list[trace.Step]:
    return [
        event
        for event in races[title].runs["yours"].events
        if isinstance(event, trace.Step) and event.scheduled
    ]


def everybody_in(races) -> bool:
    return all(
        step.running + len(step.finished) == len(step.scheduled)
        for title in races
        for step in steps_of(races, title)
    )


def order(races) -> list[int]:
    """Prompt lengths in the order in which they came in, of those that were all there from the beginning."""
    workload, first = trials["at once, two seats"][0], {}
    for step in steps_of(races, "at once, two seats"):
        for name in step.scheduled:
            first.setdefault(name, len(workload.items[int(name[1:])].prompt))
    return list(first.values())


attempt = tried(ShortestFirst)
check.exercise(
    "ShortestFirst",
    attempt,
    laws=[
        (f"it is stopped at {stopped(attempt or {})}", lambda races: not stopped(races)),
        (
            "everybody is served to the last token",
            lambda races: all(race.served_all("yours") for race in races.values()),
        ),
        ("whoever runs gets a token in every step", everybody_in),
        (
            "of those that wait, the shortest comes in first",
            lambda races: order(races) == sorted(order(races)),
        ),
        (
            "several requests share a step",
            lambda races: (
                max(len(step.scheduled) for step in steps_of(races, "a small budget")) > 3
            ),
        ),
    ],
    diagnoses=[
        (
            about("scheduled requests run"),
            "You planned a request that still waits. Only `self.admit` lets one in: it moves it to `self.running` and gives it blocks.",
        ),
        (
            about("without blocks"),
            "You planned tokens without asking for memory. `self.extend` and `self.admit` get the blocks *and* put the request into the plan; `plan.add` alone does not.",
        ),
        (
            about("token budget"),
            "The step computes more than `self.max_num_batched_tokens`. The decodes count too: what they leave is the prompts' budget.",
        ),
        (
            about("sequence budget"),
            "More run at once than `self.max_num_seqs`: look at `len(self.running)` before you let one in.",
        ),
        (
            about("mutated during iteration"),
            "`self.admit` takes the request out of `self.waiting` while you walk through it: walk through a copy, which `sorted(...)` gives you.",
        ),
        (
            about("are running and none is scheduled"),
            "Those who run were forgotten: each needs one token in every step.",
        ),
        (
            about("starvation", "requests wait"),
            "Somebody waits and never comes in, though there is room: starvation. A prompt that does not fit *now* must get its turn later.",
        ),
        (
            lambda races: not stopped(races) and not everybody_in(races),
            "You leave out some who run: they stall, and their readers with them. First everybody in `self.running`, then the newcomers.",
        ),
        (
            lambda races: (
                not stopped(races) and order(races) == sorted(order(races), reverse=True)
            ),
            "That is the longest first.",
        ),
        (
            lambda races: not stopped(races) and order(races) != sorted(order(races)),
            "They come in in order of arrival: sort `self.waiting` by `num_tokens`.",
        ),
    ],
    explain="Fewer people wait behind a long prompt, so the median TTFT falls. Whoever has the long prompt waits for all the others, and under lasting load may never get in: that is why servers rarely do it.",
)

# %% [markdown]
# Now race it. (As long as the exercise is open the next cell races the others alone. It is yours to play with: change the workload, the memory, the parameters; add another policy.)

# %%
mixed = Workload.make(
    24, 1.5 * capacity, prompt_tokens=(16, 500), output_tokens=(8, 64), seed=7
)
mine = [ShortestFirst] if attempt else []
duel = lab.race(
    [*mine, "continuous", "chunked"], mixed, model=model, clock=cost, num_blocks=200
)
duel.table()

# %% [markdown]
# ## 8 · The same requests, over HTTP
# Now the first race's requests go to a real server, and the same timeline is drawn from inside it: the glass box, or vLLM's own scheduler. Compare it with *chunked* above. Whatever is between the steps is
# the server around the engine.

# %%
block_size = {"glassbox": 16, "vllm": 32}[server]
box = lab.serve(
    server,
    model=model,
    block_size=block_size,
    num_gpu_blocks_override=1600 // block_size + {"glassbox": 0, "vllm": 1}[server],
    max_model_len=512,
    max_num_seqs=16,
    max_num_batched_tokens=256,
)
box

# %%
view = lab.watch(box, view="timeline")

# %%
same = Prompts(length=(32, 256), max_tokens=(8, 64), kind="ids")
result = lab.load(
    box, requests=n, rate=capacity, seed=0, prompts=same, extra={"ignore_eos": True}
)
result.table()

# %% [markdown]
# ## Check

# %%
run = trace.read_idle(box.run_file)
served = [
    arrival
    for event in run.events
    if isinstance(event, trace.Step)
    for arrival in event.arrived.values()
]
padded = [
    step for step in live.runs["static"].events if isinstance(step, trace.Step) and step.padding
]
check.that(
    "The race was run by the real model, in real time",
    live.badge == "live" and live.complete and not live.broken,
)
check.that(
    "Everybody served everybody: the same tokens, in a different order",
    all(live.served_all(name) for name in policies),
)
check.that(
    "Only request-level batches are padded",
    padded
    and live.measures["chunked"]["padding"]
    == live.measures["continuous"]["padding"]
    == live.measures["tgi"]["padding"]
    == 0,
)
check.that(
    "When it is busy, a batch that changes in every step serves more tokens per second than a static one",
    races["busy"].measures["chunked"]["throughput"]
    > races["busy"].measures["static"]["throughput"],
)
check.that(
    "With equal lengths, all at once, a static batch is as good as any",
    "static" in races["offline, equal lengths"].leaders("makespan"),
)
check.that(
    "With little memory, blocks on demand preempt and reservations do not",
    races["little memory"].measures["chunked"]["preemptions"]
    > 0
    == races["little memory"].measures["tgi"]["preemptions"],
)
check.that(
    "Chunks make shorter pauses than whole prompts",
    races["long prompts"].measures["chunked"]["pause"]
    < races["long prompts"].measures["continuous"]["pause"],
)
check.that(
    "The server was sent the same requests as the policies",
    sorted(a.prompt for a in served) == sorted(len(item.prompt) for item in ragged.items),
)
check.that(
    "What you saw last came out of a running server",
    run.header.badge == "live" and run.header.source == server,
)
lesson.report(
    run_file=str(box.run_file),
    badge=box.badge,
    makespans={name: live.measures[name]["makespan"] for name in policies},
    step_cost=str(cost),
)
lesson.summary()

# %%
box.stop()  # the pictures above stay, and so do the dials: go on turning them
if not interactive:
    for shown in (live.view, duel.view, dials, view):
        if shown is not None:
            shown.close()

# %% [markdown]
# ## Where to go on
# - The policies are short: `labkit/glassbox/policies/`, each with its source. `docs/policies.md` compares them with the servers that they come from.
# - `labkit race static dynamic tgi continuous chunked --requests 24 --rate 20 --out race.png`, and every parameter of every policy by its own name.
# - Yu et al., *Orca: A Distributed Serving System for Transformer-Based Generative Models* (OSDI 2022); Agrawal et al., *Taming Throughput-Latency Tradeoff in LLM Inference with Sarathi-Serve*
#   ([arXiv 2403.02310](https://arxiv.org/abs/2403.02310)); Kwon et al., *PagedAttention* ([arXiv 2309.06180](https://arxiv.org/abs/2309.06180)).
