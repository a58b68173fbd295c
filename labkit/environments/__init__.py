"""What this machine has, and one isolated, locked environment per server."""

from labkit.environments.build import Environment
from labkit.environments.home import home, logs, runs, servers
from labkit.environments.install import environment, install
from labkit.environments.uv import InstallError

__all__ = ["Environment", "InstallError", "environment", "home", "install", "logs", "runs", "servers"]
