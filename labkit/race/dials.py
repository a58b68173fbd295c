"""`Dials`: sliders for the workload and the engine, and a race on the step-cost clock whenever one of them moves."""
from __future__ import annotations

import threading
from collections.abc import Mapping
from html import escape
from time import perf_counter
from typing import Any

import ipywidgets as widgets

from labkit.race.contestant import Entry
from labkit.race.ranking import ranking
from labkit.race.result import RaceResult
from labkit.race.run import race
from labkit.race.step_cost import StepCost
from labkit.race.workload import Workload
from labkit.views import RaceView, interactive

WIDE = widgets.Layout(width="480px")
BUDGETS = (32, 64, 128, 256, 512, 1024, 2048)
LABEL = {"description_width": "190px"}


class Dials:
    """Shows a panel of dials, who is ahead in what, and the timelines. `result` is the newest race, `set` turns dials from code.

    Sliders may move faster than races are run: one thread races the newest setting, and those in between are left out. Where nobody can
    turn dials it shows the timelines of the first setting.
    """

    def __init__(self, cost: StepCost, policies: Mapping[str, Entry], *, requests: int = 24, seed: int = 0, block_size: int = 16,
                 model: str = "tiny", **settings: Any):
        """policies: by the names that the panel gives them. settings: where dials stand at first, see `set`."""
        self.cost, self.policies, self.model, self.block_size = cost, dict(policies), model, block_size
        self.requests, self.seed = requests, seed
        self.dials = {
            "rate": widgets.FloatLogSlider(20.0, base=10, min=0, max=2.5, step=0.05, description="rate, requests/s", readout_format=".3g"),
            "prompt_tokens": widgets.IntRangeSlider(value=(32, 256), min=1, max=800, description="prompt tokens"),
            "output_tokens": widgets.IntRangeSlider(value=(8, 64), min=1, max=200, description="output tokens"),
            "max_num_seqs": widgets.IntSlider(16, min=1, max=24, description="max_num_seqs"),
            "max_num_batched_tokens": widgets.SelectionSlider(value=256, options=BUDGETS, description="max_num_batched_tokens"),
            "num_blocks": widgets.IntSlider(100, min=16, max=400, description=f"KV blocks of {block_size}"),
            "policies": widgets.SelectMultiple(options=list(self.policies), value=tuple(self.policies), description="policies",
                                               rows=len(self.policies)),
        }
        self.result: RaceResult | None = None
        self.took = 0.0  # seconds of the newest race
        self._ranking, self._stage = widgets.HTML(), widgets.VBox()
        self._view: RaceView | None = None
        self._changed = threading.Condition()
        self._wanted = self._done = 0  # how many settings there were, and up to which of them a race was run
        self._worker: threading.Thread | None = None
        for dial in self.dials.values():
            dial.style, dial.layout = LABEL, WIDE
        self.set(**settings)
        for dial in self.dials.values():
            dial.observe(self._turned, names="value")

    def set(self, **settings: Any) -> None:
        """Turn dials: rate, prompt_tokens, output_tokens, max_num_seqs, max_num_batched_tokens, num_blocks, policies."""
        for name, value in settings.items():
            if name not in self.dials:
                raise ValueError(f"there is no dial {name!r}: there are {', '.join(self.dials)}")
            self.dials[name].value = value

    @property
    def settings(self) -> dict[str, Any]:
        """Where the dials stand."""
        return {name: dial.value for name, dial in self.dials.items()}

    def race(self) -> RaceResult:
        """The race for the present setting, now."""
        at = self.settings
        lengths = {name: at[name] for name in ("prompt_tokens", "output_tokens")}
        workload = Workload.make(self.requests, at["rate"], **lengths, seed=self.seed)
        engine = {name: at[name] for name in ("num_blocks", "max_num_seqs", "max_num_batched_tokens")} | {"block_size": self.block_size}
        chosen = {name: self.policies[name] for name in at["policies"]}
        own = any(not isinstance(entry[0] if isinstance(entry, tuple) else entry, str) for entry in chosen.values())
        return race(chosen, workload, clock=self.cost, model=self.model, show=False, check_invariants=own, **engine)

    def settle(self, timeout: float = 10.0) -> None:
        """Wait until the newest setting has been raced. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._done == self._wanted, timeout):
                raise TimeoutError(f"the race of the newest setting is not over after {timeout:g} s")

    def display(self) -> None:
        """Show the panel in the output of the cell that runs."""
        from IPython.display import display

        if not interactive():
            self.result = self.race()
            display(self.result.plot(), self.result.table())
            return
        self.start()
        dials = widgets.VBox(list(self.dials.values()), layout=widgets.Layout(flex="0 0 auto"))
        side_by_side = widgets.HBox([dials, self._ranking], layout=widgets.Layout(flex_flow="row wrap"))  # where the page is wide enough
        display(widgets.VBox([side_by_side, self._stage]))

    def _ipython_display_(self) -> None:
        self.display()

    def close(self) -> None:
        """Race no more."""
        with self._changed:
            worker, self._worker = self._worker, None
            self._changed.notify_all()
        if worker is not None:
            worker.join(10.0)
        if self._view is not None:
            self._view.close()

    def _turned(self, *_: object) -> None:
        with self._changed:
            self._wanted += 1
            self._changed.notify_all()

    def start(self) -> None:
        """Race the present setting, and every one that follows, in a thread."""
        if self._worker is None:
            self._worker = threading.Thread(target=self._work, name="labkit-dials", daemon=True)
            self._worker.start()
        self._turned()

    @property
    def ranking(self) -> str:
        """What stands beside the dials, as HTML."""
        return self._ranking.value

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._worker is None or self._done < self._wanted)
                if self._worker is None:
                    return
                now = self._wanted
            self._race_and_show()
            with self._changed:
                self._done = now
                self._changed.notify_all()

    def _race_and_show(self) -> None:
        begin = perf_counter()
        try:
            result = self.race()
        except Exception as error:  # whatever it is, the next turn of a dial gets its race
            self._ranking.value = f'<div style="max-width:46em">This cannot run: {escape(str(error))}</div>'
            return
        self.took = perf_counter() - begin
        self.result = result
        self._ranking.value = ranking(result)
        if self._view is None or [*self._view.measures] != [*result.runs]:
            before, self._view = self._view, RaceView(list(result.runs), requests=result.requests)  # rules follow the dials
            self._stage.children = (self._view,)
            if before is not None:
                before.close()
        self._view.show(result.runs)
