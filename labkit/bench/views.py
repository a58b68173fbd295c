"""`labkit bench views`: what the KV map, at 4,096 and 65,536 blocks, and the batch timeline, at 50 and 500 rows, cost the kernel, the wire
and the browser; and how long the weights view takes from a turn of a dial to the frame."""
from __future__ import annotations

import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from labkit.bench.browser import FLAGS, Notebook, View, chromium, jupyter, wait_for
from labkit.bench.report import parser, write
from labkit.bench.traces import record
from labkit.trace import Recorder, Run
from labkit.views.canvas_view import EVERY
from labkit.views.cursor import Cursor
from labkit.views.frame import Packer
from labkit.views.history import History
from labkit.views.race_view import BatchTimeline
from labkit.views.scene import compose
from labkit.views.tokens import Vocabulary

POOLS = {4096: dict(longest=400, seqs=48), 65536: dict(longest=4000, seqs=256)}
TIMELINES = {"50 rows": dict(rate=0.1), "500 rows": dict(rate=1.0), "500 rows, 20,000 steps": dict(rate=0.025, steps=20_000, longest=800)}
STEPS = 500  # that a browser is shown one after another; what a run has before them comes at once
BURST = 0.01  # seconds between twenty steps and the next, while they come at once
WARM_UP = 3000  # milliseconds before it is counted
STEP_SECONDS = 0.025  # between two steps while the browser looks: an engine in full swing
COUNT = """async (seconds) => {
    const map = document.querySelector('.lab-view'), before = {...map.labStatistics}, times = [];
    await new Promise((done) => {
        const begin = performance.now();
        const tick = (now) => { times.push(now); performance.now() - begin < 1000 * seconds ? requestAnimationFrame(tick) : done(); };
        requestAnimationFrame(tick);
    });
    const gaps = times.slice(1).map((t, i) => t - times[i]), after = map.labStatistics, spent = (times.at(-1) - times[0]) / 1000;
    const draws = after.draws - before.draws;
    return {animation_frames_per_second: gaps.length / spent,
            longest_gap_ms: Math.max(...gaps), gaps_over_25_ms: gaps.filter((g) => g > 25).length,
            frames_per_second: (after.frames - before.frames) / spent, bytes_per_second: (after.bytes - before.bytes) / spent,
            draws_per_second: draws / spent, draw_ms: (after.drawMs - before.drawMs) / Math.max(1, draws)};
}"""


def main(argv: list[str]) -> int:
    parse = parser("views", __doc__.split(": ", 1)[1])
    parse.add_argument("--seconds", type=float, default=8.0, help="how long the browser is watched for each pool")
    options = parse.parse_args(argv)
    result: dict[str, Any] = {"browser": chromium() or "none found: only the kernel's side was measured", "pools": {}, "timelines": {}}
    for blocks, shape in POOLS.items():
        run = record(0, steps=STEPS, blocks=blocks, block_size=16, rate=1.0, **shape)
        result["pools"][str(blocks)] = figures = {"kernel": in_the_kernel(run)}
        if chromium():
            figures["browser"] = in_the_browser(run, options.seconds, "kv", "kv-map", "0 of")
        print(summary(f"KV map, {blocks} blocks", figures), file=sys.stderr)
    for rows, shape in TIMELINES.items():
        run = record(0, **{"steps": STEPS, "blocks": 4096, "block_size": 16, "longest": 400, "seqs": 256, **shape})
        result["timelines"][rows] = figures = {"kernel": timeline_in_the_kernel(run)}
        if chromium():
            figures["browser"] = in_the_browser(run, options.seconds, "timeline", "batch-timeline", ": 0 requests")
        print(summary(f"batch timeline, {rows}", figures), file=sys.stderr)
    result["weights"] = turns_of_dials()
    print("weights view: " + ", ".join(f"{name} {figures['ms_median']:.0f} ms (worst {figures['ms_worst']:.0f})" for name, figures in
                                       result["weights"]["methods"].items()), file=sys.stderr)
    write("views", ["views", *argv], options, result)
    return 0


def in_the_kernel(run: Run) -> dict[str, float]:
    """Milliseconds and bytes a frame, one frame for as many steps as pass between two frames; and milliseconds a seek."""
    history, cursor, packer, words = History(run.header), Cursor(), Packer(), Vocabulary("tiny")
    milliseconds, sizes, whole = [], [], 0
    stride = max(1, round(EVERY / STEP_SECONDS))
    for count, event in enumerate(run.events):
        history.append(event)
        if count % stride:
            continue
        begin = time.perf_counter()
        cursor.advance(history, 0.0, ended=False)
        state = history.state_at(cursor.position)
        chosen = next((name for name, request in state.requests.items() if request.table), None)
        frame = packer.pack(compose(state, words, chosen, 7), state, history, cursor, "live")
        milliseconds.append(1e3 * (time.perf_counter() - begin))
        sizes.append(len(frame))
    packer.reset()
    whole = len(packer.pack(compose(state, words, chosen, 7), state, history, cursor, "live"))
    seeks = []
    for position in [(k * 7919) % len(history) for k in range(1, 25)]:
        begin = time.perf_counter()
        history.state_at(position)
        seeks.append(1e3 * (time.perf_counter() - begin))
    begin = time.perf_counter()
    again = History(run.header)
    for event in run.events:
        again.append(event)
    fold = 1e3 * (time.perf_counter() - begin) / len(run.events)
    return {"frames": len(sizes), "ms_per_frame_median": statistics.median(milliseconds[1:]), "ms_per_frame_worst": max(milliseconds[1:]),
            "bytes_per_frame_median": statistics.median(sizes[1:]), "bytes_of_a_complete_frame": whole, "fold_ms_per_step": fold,
            "seek_ms_median": statistics.median(seeks), "seek_ms_worst": max(seeks)}


def timeline_in_the_kernel(run: Run) -> dict[str, float]:
    """Milliseconds and bytes a frame of the last `STEPS` steps, one frame for as many steps as pass between two frames."""
    view = BatchTimeline(run.header)
    begin = time.perf_counter()
    for event in run.events:
        view._take(event)
    fold = 1e3 * (time.perf_counter() - begin) / len(run.events)
    view = BatchTimeline(run.header)
    milliseconds, sizes, stride = [], [], max(1, round(EVERY / STEP_SECONDS))
    early = len(run.events) - STEPS
    for count, event in enumerate(run.events):
        view._take(event)
        if count < early or count % stride:
            continue
        begin = time.perf_counter()
        frame = view._pack()
        milliseconds.append(1e3 * (time.perf_counter() - begin))
        sizes.append(len(frame))
    view._packer.reset()
    begin = time.perf_counter()
    whole = len(view._pack())
    complete = 1e3 * (time.perf_counter() - begin)
    return {"frames": len(sizes), "requests": len(view._panels[0].lanes.lanes), "steps": len(run.events),
            "ms_per_frame_median": statistics.median(milliseconds[1:]), "ms_per_frame_worst": max(milliseconds[1:]),
            "bytes_per_frame_median": statistics.median(sizes[1:]), "bytes_of_a_complete_frame": whole,
            "ms_of_a_complete_frame": complete, "fold_ms_per_step": fold}


def turns_of_dials(model: str = "tiny") -> dict[str, Any]:
    """Milliseconds from a dial's message to the packed frame, in the kernel; each turn quantizes a layer as it never was before."""
    from labkit.quantization.methods import METHODS
    from labkit.quantization.workbench import Workbench
    from labkit.views.weights_view import WeightsView

    begin = time.perf_counter()
    bench = Workbench(model)
    view = WeightsView(bench, layer=bench.layers[-1])
    view._pack()
    first = time.perf_counter() - begin
    view.set(method="squeezellm")  # the gradients are worked out once, like the calibration
    gradients = time.perf_counter() - begin - first
    found: dict[str, Any] = {}
    for name, method in METHODS.items():
        milliseconds = []
        for layer in bench.layers[:7]:  # every shape there is
            view.set(layer=layer)
            for bits in sorted(method.bits)[:3]:
                begin = time.perf_counter()
                view._ask({"kind": "turn method", "name": "method", "value": name})
                view._ask({"kind": "turn bits", "name": "bits", "value": bits})
                frame = view._pack()
                milliseconds.append(1e3 * (time.perf_counter() - begin))
        times = {"ms_median": statistics.median(milliseconds), "ms_worst": max(milliseconds)}
        found[name] = {"turns": len(milliseconds), **times, "bytes_of_a_frame": len(frame)}
    return {"model": model, "first_picture_seconds": first, "gradients_seconds": gradients, "methods": found}


def in_the_browser(run: Run, seconds: float, view: str, kind: str, empty: str) -> dict[str, float]:
    """What a page counts while the run goes on in another process: animation frames, frames taken, bytes, time to draw.

    view, kind: what `watch` and the page call the view. empty: in its words before the first event.
    """
    import nbformat
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory(prefix="labkit-bench-") as folder:
        socket = Path(folder) / "run.trace"
        engine = Recorder(run.header, None, socket)
        source = ("from pathlib import Path\nimport labkit as lab\n\nclass Engine:\n    name, run_file = 'glassbox', None\n"
                  f"    trace_socket = Path({str(socket)!r})\n    def health(self): return True\n\n"
                  f"view = lab.watch(Engine(), view={view!r})")
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
        notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, Path(folder) / "bench.ipynb")
        import labkit

        path = str(Path(labkit.__file__).parents[1])
        steady, stop = threading.Event(), threading.Event()
        feeder = threading.Thread(target=_feed, args=(engine, run, steady, stop), daemon=True)
        with jupyter(Path(folder), {"PYTHONPATH": path}) as address, sync_playwright() as play:
            browser = play.chromium.launch(executable_path=chromium(), args=FLAGS)
            page = browser.new_page(viewport={"width": 1280, "height": 1000})
            Notebook(page, address.format("bench.ipynb")).run_all()
            shown = View(page, kind)
            wait_for("the empty view", lambda: empty in shown.label)
            feeder.start()
            wait_for("a run under way", lambda: empty not in shown.label and shown.root.get_attribute("data-status") == "live")
            steady.wait()
            page.wait_for_timeout(WARM_UP)
            counted = page.evaluate(COUNT, seconds)
            browser.close()
        stop.set()
        feeder.join()
        engine.close()
    return counted


def _feed(engine: Recorder, run: Run, steady: threading.Event, stop: threading.Event) -> None:
    """Emit a run: what it has before its last `STEPS` at once, those one after another."""
    early = len(run.events) - STEPS
    for count, event in enumerate(run.events):
        engine.emit(event)
        if count == early:
            steady.set()
        if stop.wait(STEP_SECONDS if count >= early else BURST if count % 20 == 0 else 0):
            return


def summary(what: str, figures: dict[str, Any]) -> str:
    kernel, seen = figures["kernel"], figures.get("browser")
    text = (f"{what}: kernel {kernel['ms_per_frame_median']:.1f} ms and {kernel['bytes_per_frame_median'] / 1024:.1f} KiB a frame "
            f"(complete {kernel['bytes_of_a_complete_frame'] / 1024:.0f} KiB), fold {kernel['fold_ms_per_step']:.2f} ms a step")
    if seen:
        text += (f"; browser {seen['animation_frames_per_second']:.0f} animation frames/s, {seen['frames_per_second']:.1f} frames/s taken, "
                 f"{seen['draw_ms']:.1f} ms to draw one, {seen['bytes_per_second'] / 1024:.0f} KiB/s")
    return text
