"""The notebooks on disk: which there are, what they can be told, which servers they are about."""
from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class NotebookError(ValueError):
    """A notebook that is not there or not as it must be. The message names the remedy."""


@dataclass(slots=True, frozen=True)
class Notebook:
    """`parameters` are the defaults of its cell tagged `parameters`, as written; `servers` is the comment behind `server`."""

    path: Path
    parameters: dict[str, str]
    servers: str

    @property
    def name(self) -> str:
        return self.path.stem

    @classmethod
    def read(cls, path: Path) -> Notebook:
        """Raises NotebookError for a file that is no notebook.

        The comment names the servers that apply besides the default: `server = "glassbox"  # or vllm`. Without a comment, any does.
        """
        import nbformat
        from papermill.translators import PythonTranslator

        try:
            cells = nbformat.read(path, as_version=4).cells
        except (nbformat.reader.NotJSONError, nbformat.ValidationError, KeyError, AttributeError) as error:
            raise NotebookError(f"{path} is not a notebook: {error}") from error
        tagged = [cell for cell in cells if "parameters" in cell.metadata.get("tags", ())]
        found = {parameter.name: parameter for cell in tagged[:1] for parameter in PythonTranslator.inspect(cell)}
        return cls(path, {name: parameter.default for name, parameter in found.items()}, found["server"].help if "server" in found else "")

    def plans(self, servers: list[str], given: dict[str, Any]) -> list[dict[str, Any]]:
        """The parameters of each execution: one for each of `servers` that applies; the notebook's own default if none does."""
        known = {key: value for key, value in given.items() if key in self.parameters}
        if "server" not in self.parameters:
            return [known]
        default = self.parameters["server"].strip("\"'")
        apply = {default, *re.findall(r"[\w-]+", self.servers)}
        chosen = [server for server in servers if not self.servers or server in apply]
        return [known | {"server": server} for server in chosen or [default]]


def folder() -> Path:
    """Where the notebooks are: below the working directory, else beside the package."""
    here, beside = Path.cwd() / "notebooks", Path(__file__).resolve().parents[2] / "notebooks"
    return here if here.is_dir() else beside


def find(names: list[str]) -> list[Notebook]:
    """Notebooks by number ("02"), name ("02_paging") or path, in the order given; all of them for no names.

    Raises NotebookError if one is not there.
    """
    place = folder()
    present = sorted(place.glob("[0-9][0-9]_*.ipynb"))
    if not names:
        if not present:
            raise NotebookError(f"there are no notebooks in {place}: run this in the repository")
        return [Notebook.read(path) for path in present]
    return [Notebook.read(_locate(name, present, place)) for name in names]


def _locate(name: str, present: list[Path], place: Path) -> Path:
    path = Path(name)
    if path.suffix == ".ipynb":
        if not path.is_file():
            raise NotebookError(f"{path} does not exist")
        return path.resolve()
    matches = [one for one in present if one.stem == name or one.stem.split("_")[0] == name.zfill(2)]
    if len(matches) != 1:
        there = ", ".join(one.stem for one in present) or "none"
        raise NotebookError(f"{'several notebooks are' if matches else 'no notebook is'} called {name!r} in {place}: there are {there}")
    return matches[0]
