import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from labkit.environments import pipconfig

BASE = Path(sys.base_prefix) / "bin" / "python3"


@pytest.fixture
def environ(tmp_path):
    """A user of pip with nothing told yet."""
    return {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "XDG_CONFIG_DIRS": str(tmp_path / "xdg")}


def write(environ: dict, place: str, text: str) -> None:
    path = Path(environ["HOME"]) / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_mirror_and_a_certificate_in_pips_file_reach_uv(environ):
    write(environ, ".config/pip/pip.conf", "[global]\nindex-url = https://mirror/simple\ncert = /ca.pem\ntrusted-host = a b\n")
    uv = pipconfig.environment(environ)
    assert (uv["UV_DEFAULT_INDEX"], uv["SSL_CERT_FILE"], uv["UV_INSECURE_HOST"]) == ("https://mirror/simple", "/ca.pem", "a b")


def test_the_install_section_beats_the_global_one_and_variables_beat_both(environ):
    write(environ, ".config/pip/pip.conf", "[global]\nindex-url = https://global\ntimeout = 7\n[install]\nindex-url = https://install\n")
    assert pipconfig.environment(environ)["UV_DEFAULT_INDEX"] == "https://install"
    assert pipconfig.environment(environ)["UV_HTTP_TIMEOUT"] == "7"
    assert pipconfig.environment(environ | {"PIP_INDEX_URL": "https://variable"})["UV_DEFAULT_INDEX"] == "https://variable"


def test_what_the_user_told_uv_itself_stays(environ):
    told = environ | {"PIP_INDEX_URL": "https://pip", "UV_DEFAULT_INDEX": "https://uv", "UV_INDEX_STRATEGY": "first-index"}
    uv = pipconfig.environment(told)
    assert (uv["UV_DEFAULT_INDEX"], uv["UV_INDEX_STRATEGY"]) == ("https://uv", "first-index")


def test_folders_that_are_not_there_are_left_out(environ, tmp_path):
    there, gone = tmp_path / "wheels", tmp_path / "gone"
    there.mkdir()
    told = environ | {
        "PIP_FIND_LINKS": f"{there} {gone} {gone.as_uri()} https://files",
        "PIP_EXTRA_INDEX_URL": f"{gone.as_uri()} {there.as_uri()}",
    }
    uv = pipconfig.environment(told)
    assert uv["UV_FIND_LINKS"] == f"{there},https://files"
    assert uv["UV_EXTRA_INDEX_URL"] == there.as_uri()


def test_a_folder_that_is_not_there_alone_says_nothing_to_uv(environ, tmp_path):
    assert "UV_FIND_LINKS" not in pipconfig.environment(environ | {"PIP_FIND_LINKS": str(tmp_path / "gone")})


def test_a_broken_configuration_file_is_passed_over(environ):
    write(environ, ".config/pip/pip.conf", "this is no section\n")
    assert "UV_DEFAULT_INDEX" not in pipconfig.environment(environ | {"PIP_CONFIG_FILE": os.devnull})
    assert pipconfig.environment(environ)


@pytest.mark.parametrize(
    ("files", "variables"),
    [
        ({".config/pip/pip.conf": "[global]\nindex-url = https://one\nfind-links =\n    /a\n    /b\n"}, {}),
        ({".pip/pip.conf": "[global]\nindex-url = https://old\n", ".config/pip/pip.conf": "[global]\nindex-url = https://new\n"}, {}),
        ({"xdg/pip/pip.conf": "[global]\nindex-url = https://system\ncert = /c\n", ".pip/pip.conf": "[install]\nproxy = http://p\n"}, {}),
        ({"own.conf": "[global]\nextra_index_url = https://x\n"}, {"PIP_CONFIG_FILE": "own.conf"}),
        ({".config/pip/pip.conf": "[global]\nindex-url = https://one\n"}, {"PIP_CONFIG_FILE": os.devnull}),
        ({}, {"PIP_TRUSTED_HOST": "a b", "PIP_NO_INDEX": "1"}),
    ],
)
def test_settings_are_those_that_pip_itself_reports(environ, files, variables):
    for place, text in files.items():
        write(environ, place, text)
    environ |= {name: os.path.join(environ["HOME"], value) if value == "own.conf" else value for name, value in variables.items()}
    said = subprocess.run([BASE, "-m", "pip", "config", "list"], env=environ, capture_output=True, text=True)
    if said.returncode:
        pytest.skip(f"{BASE} has no pip to compare with")
    in_force: dict[str, str] = {}
    for strength in ("global.", "install.", ":env:."):
        for line in said.stdout.splitlines():
            if line.startswith(strength):
                name, _, value = line.removeprefix(strength).partition("=")
                in_force[name] = ast.literal_eval(value)
    in_force.pop("config-file", None)
    ours = {name: " ".join(value.split()) for name, value in pipconfig.settings(environ).items()}
    assert ours == {name: " ".join(value.split()) for name, value in in_force.items()}
