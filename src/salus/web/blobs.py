"""Blobs over HTTP: bytes in, digest out. Clients name stored bytes by digest only, never by path."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Request, Response
from litestar.params import Parameter
from litestar.response import Stream

from salus.kernel.content import check_digest
from salus.kernel.errors import NotFound
from salus.kernel.identity import Actor
from salus.kernel.structs import Record
from salus.web.context import Context
from salus.web.routing import get, put, slice_router
from salus.web.uploads import spooled


class StoredBlob(Record):
    """What was stored."""

    digest: str
    size_bytes: int


@put("/blobs", permission="write", request_max_body_size=None, summary="Store bytes under their digest")
async def put_blob(context: Context, actor: Actor, request: Request[Any, Any, Any]) -> StoredBlob:
    """Stores the raw body; the same bytes twice are stored once."""
    info = await spooled(request.stream(), context.blobs, context.settings.max_blob_bytes)
    return StoredBlob(digest=info.digest, size_bytes=info.size_bytes)


@get("/blobs/{digest:str}", permission="read", summary="The bytes of a digest")
async def get_blob(
    context: Context,
    actor: Actor,
    digest: str,
    if_none_match: Annotated[str | None, Parameter(header="If-None-Match")] = None,
) -> Response[Any]:
    """Streams the bytes as an attachment, never as something a browser would run."""
    check_digest(digest, "digest")
    if if_none_match == f'"{digest}"':
        return Response(None, status_code=304)
    info = context.blobs.info(digest)
    if info is None:
        raise NotFound(f"there is no blob {digest}", remedy="Upload it first: PUT /api/v1/blobs")
    return Stream(
        context.blobs.stream(digest),
        media_type="application/octet-stream",
        headers={
            "ETag": f'"{digest}"',
            "Content-Disposition": "attachment",
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "private, max-age=31536000, immutable",
            "Content-Length": str(info.size_bytes),
        },
    )


router = slice_router("blobs", [put_blob, get_blob])
