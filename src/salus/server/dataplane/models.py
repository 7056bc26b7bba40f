"""Model files on this machine: fetched by digest, checked, kept, forgotten when no route names them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from salus.kernel.content import check_digest, digest
from salus.kernel.errors import Corrupt, InvalidInput
from salus.server.dataplane.control import ControlPlane
from salus.server.dataplane.onnx_model import OnnxModel
from salus.serving.wire import ModelFile, RevisionRoute


class ModelFiles:
    """The cache in `folder`: one file a digest. A file that is not what its name says is fetched again."""

    def __init__(self, folder: Path, control: ControlPlane) -> None:
        self._folder = folder
        self._control = control
        folder.mkdir(parents=True, exist_ok=True)

    def read(self, file: ModelFile) -> bytes:
        """The bytes of `file`.

        Raises:
            Corrupt: the control plane gives other bytes than the digest says.
            Unavailable: it is not here and the control plane is away.
        """
        path = self._folder / check_digest(file.digest).removeprefix("blake3:")
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            content = None
        if content is None or digest(content) != file.digest:
            content = self._control.blob(file.digest)
            replace_file(path, content)
        return content

    def keep_only(self, digests: Iterable[str]) -> None:
        """Removes every file that is none of `digests`."""
        wanted = {value.removeprefix("blake3:") for value in digests}
        for path in self._folder.iterdir():
            if path.name not in wanted:
                path.unlink(missing_ok=True)


def load_model(route: RevisionRoute, files: ModelFiles) -> OnnxModel:
    """The model that `route` names, ready to score.

    Raises:
        InvalidInput: it has no single ONNX file, or its graph and signature do not fit.
        Corrupt: its bytes are not what its digest says.
    """
    graphs = [file for file in route.files if file.path.endswith(".onnx")]
    if len(graphs) != 1:
        raise InvalidInput(
            f"{route.model}@{route.version} must have one .onnx file, has {len(graphs)}",
            remedy="Register the model with one ONNX graph.",
        )
    try:
        return OnnxModel(files.read(graphs[0]), route.signature)
    except (InvalidInput, Corrupt) as error:
        raise type(error)(
            f"{route.model}@{route.version} ({route.revision}) cannot be served: {error.detail}",
            path=error.path,
            remedy=error.remedy,
        ) from error


def replace_file(path: Path, content: bytes) -> None:
    """Puts `content` at `path` at once or not at all, also over a crash."""
    temporary = path.with_name(path.name + ".part")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
