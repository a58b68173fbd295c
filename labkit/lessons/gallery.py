"""Executed notebooks as pages, and one page with their pictures."""
from __future__ import annotations

import base64
from html import escape
from pathlib import Path

from labkit.lessons.execute import Execution

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1A1F26; --ink2: #48525E; --line: #DDE2E8; --good: #007A59; --alert: #B84A00 }
@media (prefers-color-scheme: dark) {
  :root { --paper: #111418; --ink: #E9EDF2; --ink2: #BAC3CE; --line: #2C343E; --good: #2CC295; --alert: #FF8A3D }
}
body { font: 14px/1.5 Inter, system-ui, sans-serif; max-width: 1120px; margin: 24px auto; padding: 0 24px;
  background: var(--paper); color: var(--ink) }
h1 { font-size: 18px } h2 { font-size: 14px; border-top: 1px solid var(--line); padding-top: 16px; margin-top: 32px }
h2 a { color: inherit } .passed { color: var(--good) } .failed { color: var(--alert) } p { color: var(--ink2); margin: 4px 0 12px }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(320px, 1fr)); gap: 16px }
.pictures a { background: #fff; border: 1px solid var(--line); border-radius: 6px; overflow: hidden; display: block }
.pictures img { width: 100%; height: 200px; object-fit: contain; display: block }
"""
# A live widget has no kernel behind a page: its still picture comes first.
PRIORITY = ["image/svg+xml", "image/png", "image/jpeg", "text/html", "text/markdown", "text/latex", "text/plain",
            "application/vnd.jupyter.widget-view+json"]


def build(executions: list[Execution], folder: Path) -> Path:
    """Write a page per execution and `index.html`, which needs no network. Returns the index."""
    folder.mkdir(parents=True, exist_ok=True)
    sections = []
    for run in executions:
        pictures = _page(run, folder) if run.executed.exists() else []
        links = "".join(f'<a href="{escape(run.name)}.html"><img loading="lazy" src="{escape(path)}" alt="{escape(alt)}"></a>'
                        for path, alt in pictures)
        kind = "passed" if run.status == "passed" else "failed"
        sections.append(f'<h2><a href="{escape(run.name)}.html">{escape(run.name)}</a> <span class="{kind}">{run.status}</span></h2>'
                        f'<p>{escape(_words(run))}</p><div class="pictures">{links}</div>')
    index = folder / "index.html"
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Serving Lab: executed notebooks</title>'
    index.write_text(f'<!doctype html><html lang="en">{head}<style>{STYLE}</style><h1>Executed notebooks</h1>{"".join(sections)}</html>\n')
    return index


def _words(run: Execution) -> str:
    words = [f"{run.seconds:g} s, {run.cells} code cells, {run.pictures} pictures"]
    words += [f"{kind}s: " + ", ".join(f"{count} {state}" for state, count in states.items()) for kind, states in run.outcomes.items()]
    return ". ".join(words + ([run.error] if run.error else []))


def _page(run: Execution, folder: Path) -> list[tuple[str, str]]:
    """Write the notebook as HTML; returns its pictures as (relative path, alternative text)."""
    import nbformat
    from nbconvert import HTMLExporter

    notebook = nbformat.read(run.executed, as_version=4)
    exporter = HTMLExporter(template_name="lab", require_js_url="", jquery_url="", mathjax_url="", widget_renderer_url="")
    exporter.display_data_priority = PRIORITY
    notebook.metadata.pop("widgets", None)
    page, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": run.name}})
    (folder / f"{run.name}.html").write_text(page)
    pictures = []
    data = [output.data for cell in notebook.cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})]
    for number, bundle in enumerate(data, 1):
        name = f"{run.name}-{number}.png"
        (folder / name).write_bytes(base64.b64decode(bundle["image/png"]))
        pictures.append((name, bundle.get("text/plain", "") or f"picture {number} of {run.name}"))
    return pictures
