import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import labkit
from labkit.cli import COMMANDS, main

ROOT = Path(__file__).parents[1]


def test_importing_labkit_brings_nothing_heavy():
    heavy = "{'torch', 'numpy', 'matplotlib', 'transformers', 'openai', 'tritonclient', 'aiohttp', 'anywidget', 'IPython'}"
    code = f"import sys, labkit, labkit.cli; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_exists_and_explains_itself(name, capsys):
    command = COMMANDS[name]
    assert callable(getattr(import_module(command.module), command.function))
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    assert end.value.code == 0
    assert f"labkit {name}" in capsys.readouterr().out


def test_help_lists_every_command(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {name} " in shown for name in COMMANDS)


def test_a_mistyped_command_is_answered_with_the_nearest_one(capsys):
    assert main(["instal", "vllm"]) == 2
    assert "Did you mean `labkit install`?" in capsys.readouterr().err


def test_the_version_is_the_packages(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"labkit {labkit.__version__}\n"


@pytest.mark.parametrize("name", ["serve", "attach", "sweep", "watch", "load"])
def test_the_names_a_notebook_uses_can_be_called(name):
    assert callable(getattr(labkit, name))
    assert name in dir(labkit)


def test_a_name_that_labkit_lacks_is_an_attribute_error():
    with pytest.raises(AttributeError, match="labkit has no 'surf'"):
        labkit.surf  # noqa: B018
