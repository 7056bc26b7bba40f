"""Intake: the files of a version are looked at before the transaction. Nothing is ever loaded or run here."""

from __future__ import annotations

from salus.kernel.content import check_digest
from salus.kernel.errors import InvalidInput
from salus.kernel.ports import Blobs
from salus.registry.model import MAX_FILES, NewModelVersion, StoredFile, check_file_path

_EXECUTABLE_SUFFIXES = (
    ".pkl", ".pickle", ".joblib", ".dill", ".cloudpickle", ".pt", ".pth", ".ckpt", ".bin", ".py", ".pyc", ".so", ".h5",
    ".keras", ".npy", ".npz",
)  # fmt: skip
_FIRST_BYTES = 4096


def inspect_files(blobs: Blobs, body: NewModelVersion) -> tuple[StoredFile, ...]:
    """The files that a version names, as they are stored; those that run code when loaded are marked `executable`.

    Raises:
        InvalidInput: no file, a path twice or not plain, a blob that is not there or of another size, a reference that
            was not uploaded, or an `onnx` version without an `.onnx` file.
    """
    if not 1 <= len(body.files) <= MAX_FILES:
        raise InvalidInput(f"a version has 1 to {MAX_FILES} files, got {len(body.files)}", path="$.files")
    found: dict[str, StoredFile] = {}
    for index, file in enumerate(body.files):
        path = f"$.files[{index}]"
        if check_file_path(file.path, f"{path}.path") in found:
            raise InvalidInput(f"two files have the path {file.path!r}", path=f"{path}.path")
        info = blobs.info(check_digest(file.digest, f"{path}.digest"))
        if info is None:
            raise InvalidInput(
                f"the bytes of {file.path} were not uploaded: there is no blob {file.digest}",
                path=f"{path}.digest",
                remedy="Upload them first: PUT /api/v1/blobs.",
            )
        if file.size_bytes is not None and file.size_bytes != info.size_bytes:
            raise InvalidInput(
                f"{file.path} has {info.size_bytes:,} bytes, not {file.size_bytes:,}", path=f"{path}.size_bytes"
            )
        start = blobs.get_range(file.digest, 0, min(_FIRST_BYTES, info.size_bytes))
        found[file.path] = StoredFile(
            path=file.path,
            digest=file.digest,
            size_bytes=info.size_bytes,
            executable=runs_code(file.path, start),
        )
    if body.reference is not None and blobs.info(check_digest(body.reference, "$.reference")) is None:
        raise InvalidInput(
            f"the reference was not uploaded: there is no blob {body.reference}",
            path="$.reference",
            remedy="Upload it first: PUT /api/v1/blobs.",
        )
    if body.flavour == "onnx" and not any(path.endswith(".onnx") for path in found):
        raise InvalidInput(f"a version of the flavour onnx has an .onnx file, got {', '.join(found)}", path="$.files")
    return tuple(found.values())


def runs_code(path: str, start: bytes) -> bool:
    """Whether a file of this name and first bytes is, or may hold, something that runs when it is loaded.

    By name, whatever it holds; by content, whatever its name: pickles (protocols 2 to 5) and archives that hold one.

    >>> runs_code("model.onnx", b"\\x08\\x09"), runs_code("weights.txt", b"\\x80\\x04\\x95"), runs_code("m.pkl", b"")
    (False, True, True)
    """
    if path.lower().endswith(_EXECUTABLE_SUFFIXES):
        return True
    pickled = len(start) > 1 and start[0] == 0x80 and 2 <= start[1] <= 5
    archived = start[:4] == b"PK\x03\x04" and b".pkl" in start
    return pickled or archived
