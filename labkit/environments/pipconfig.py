"""What a user has told pip about indexes, mirrors and certificates, in uv's words. Standard library only.

uv reads no pip configuration, so a company mirror or a folder of wheels that pip knows would be lost on it. Sources: pip's
documentation of its configuration files, and uv's of its environment variables.
"""

import configparser
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

# pip's option -> (uv's variable, what separates several values in it; None: the option holds one value)
WORDS = {
    "index-url": ("UV_DEFAULT_INDEX", None),
    "extra-index-url": ("UV_EXTRA_INDEX_URL", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "cert": ("SSL_CERT_FILE", None),
    "client-cert": ("SSL_CLIENT_CERT", None),
    "proxy": ("ALL_PROXY", None),
    "timeout": ("UV_HTTP_TIMEOUT", None),
    "no-index": ("UV_NO_INDEX", None),
}
PLACES = ("index-url", "extra-index-url", "find-links")


def files(environ: Mapping[str, str]) -> list[Path]:
    """pip's configuration files, the weakest first."""
    chosen = environ.get("PIP_CONFIG_FILE")
    if chosen == os.devnull:
        return []
    user = Path(environ.get("HOME") or Path.home())
    roots = [*reversed(environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":")), "/Library/Application Support"]
    system = [Path(root) / "pip" / "pip.conf" for root in roots] + [Path("/etc/pip.conf")]
    own = [
        user / ".pip" / "pip.conf",
        Path(environ.get("XDG_CONFIG_HOME") or user / ".config") / "pip" / "pip.conf",
        user / "Library" / "Application Support" / "pip" / "pip.conf",
    ]
    site = [Path(prefix) / "pip.conf" for prefix in dict.fromkeys((sys.base_prefix, sys.prefix))]
    return system + own + site + ([Path(chosen)] if chosen else [])


def settings(environ: Mapping[str, str]) -> dict[str, str]:
    """The options in force for `pip install`: files, then their `[install]` sections over `[global]`, then `PIP_*` variables."""
    merged: dict[str, dict[str, str]] = {"global": {}, "install": {}}
    for path in files(environ):
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            continue
        for section, options in merged.items():
            if parser.has_section(section):
                options.update({key.replace("_", "-"): value for key, value in parser.items(section)})
    options = merged["global"] | merged["install"]
    for option in (*WORDS, "default-timeout"):
        value = environ.get("PIP_" + option.upper().replace("-", "_"))
        if value:
            options[option] = value
    if "default-timeout" in options:
        options.setdefault("timeout", options["default-timeout"])
    return options


def exists(place: str) -> bool:
    """False for a folder of this machine (a path or a `file:` address) that is not there; pip ignores those, uv stops at them."""
    parts = urlsplit(place)
    if parts.scheme == "file":
        return Path(unquote(parts.path)).exists()
    return Path(place).expanduser().exists() if not parts.scheme else True


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` with uv's variables added for what pip has been told. A variable of uv that is set already stays as it is."""
    out = dict(environ)
    options = settings(environ)
    for option, (variable, separator) in WORDS.items():
        values = options.get(option, "").split()
        if option in PLACES:
            values = [os.path.expanduser(value) for value in values if exists(value)]
        if option == "no-index" and values and values[0].lower() in ("0", "false", "no", "off"):
            continue
        if values and variable not in environ:
            out[variable] = separator.join(values) if separator else values[0]
    # Where several indexes know a package pip takes the best match of all; with every file's hash locked that is safe in uv too.
    out.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    return out
