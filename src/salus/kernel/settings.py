"""Settings: what an operator may choose, from the environment. An address chooses the engine.

Each field `name` is read from the variable `SALUS_NAME`. Empty means "not set".
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from salus.kernel.errors import InvalidInput


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How this installation is set up.

    `home` holds everything that the embedded engines write. `database` is `sqlite:///path` or `postgresql://…`;
    `blobs` is `file:///path`, `s3://bucket/prefix` or `memory://`; `key_value` is `memory://` or `redis://…`.
    """

    home: str = ""
    database: str = ""
    blobs: str = ""
    key_value: str = "memory://"
    executor: str = "processes://"
    host: str = "127.0.0.1"
    port: int = 7070
    serve_port: int = 7071
    url: str = ""
    serve_url: str = ""
    token: str = ""
    auth: bool = False
    allowed_hosts: str = "127.0.0.1,localhost,[::1]"
    workspace: str = "default"
    project: str = "."
    max_body_bytes: int = 64 * 1024 * 1024
    max_blob_bytes: int = 16 * 1024**3
    log_level: str = "info"

    @property
    def home_path(self) -> Path:
        """The folder of the embedded engines."""
        return Path(self.home)

    @property
    def server_url(self) -> str:
        """Where clients reach the control plane."""
        return self.url or f"http://{self.host}:{self.port}"

    @property
    def dataplane_url(self) -> str:
        """Where clients reach the data plane."""
        return self.serve_url or f"http://{self.host}:{self.serve_port}"


def load_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """The settings that `environment` (default: the process's) asks for, defaults filled in.

    Raises:
        InvalidInput: a variable has the wrong type; `path` is its name.
    """
    env = os.environ if environment is None else environment
    raw = {name: value for name in Settings.__struct_fields__ if (value := env.get(f"SALUS_{name.upper()}", "")) != ""}
    try:
        settings = msgspec.convert(raw, Settings, strict=False)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$.")
        raise InvalidInput(message, path=f"SALUS_{path.rstrip('`').upper()}") from error
    home = settings.home or str(Path(env.get("HOME", "~")).expanduser() / ".salus")
    home = str(Path(home).absolute())
    return msgspec.structs.replace(
        settings,
        home=home,
        database=settings.database or f"sqlite:///{home}/salus.db",
        blobs=settings.blobs or f"file://{home}/blobs",
    )
