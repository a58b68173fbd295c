"""What this machine has, and one isolated, locked environment per server.

`home` holds the folders, `install` makes a server's environment, `doctor` tells what this machine has; `bootstrap` makes the lab's own
environment before anything is installed, so everything it needs (`build`, `uv`, `pipconfig`) is standard library only.
"""
