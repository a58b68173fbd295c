import os
import stat
from pathlib import Path

import pytest

from labkit.environments import home


def test_labkit_home_chooses_the_folder_and_is_made(monkeypatch, tmp_path):
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "far" / "away"))
    assert home.home() == tmp_path / "far" / "away"
    for folder in (home.runs(), home.logs(), home.environments(), home.servers()):
        assert folder.is_dir()
        assert folder.is_relative_to(home.home()) or folder == home.servers()


def test_the_default_is_the_users_cache_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("LABKIT_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert home.home().is_relative_to(tmp_path)
    assert home.home().name == "labkit"


def test_sockets_lie_in_a_folder_only_the_user_can_enter(monkeypatch, tmp_path):
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    assert stat.S_IMODE(home.servers().stat().st_mode) == 0o700


def test_a_long_home_still_gives_socket_paths_that_the_kernel_takes(monkeypatch, tmp_path):
    import socket

    deep = tmp_path / ("a" * 60) / ("b" * 60)
    monkeypatch.setenv("LABKIT_HOME", str(deep))
    path = home.servers() / ("s" * 40)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    path.unlink()
    assert home.servers() == home.servers()
    home.servers().rmdir()


def test_two_long_homes_do_not_share_a_socket_folder(monkeypatch, tmp_path):
    found = set()
    for name in ("one", "two"):
        monkeypatch.setenv("LABKIT_HOME", str(tmp_path / ("c" * 90) / name))
        found.add(home.servers())
        home.servers().rmdir()
    assert len(found) == 2


def test_a_home_that_cannot_be_made_is_reported_with_the_remedy(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "file" / "below"))
    with pytest.raises(OSError, match="set LABKIT_HOME"):
        home.home()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_a_socket_folder_of_another_user_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    os.chown(home.servers(), 12345, 12345)
    with pytest.raises(PermissionError, match="belongs to another user"):
        home.servers()
    assert Path(tmp_path).exists()
