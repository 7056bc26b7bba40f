"""The web page: built files, and the one HTML page for every address that is not the API's."""

from __future__ import annotations

from pathlib import Path

from litestar import Response
from litestar.exceptions import NotFoundException

from salus.web.routing import get, slice_router

_STATIC = Path(__file__).parent / "static"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
_SECURITY = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_MISSING = (
    b"<!doctype html><title>Salus</title><p>The page was not built with this installation. "
    b"The API is at <a href='/schema'>/schema</a>. Build the page with: <code>make ui</code>"
)


@get(["/", "/{path:path}"], permission="public", include_in_schema=False)
async def show_page(path: str = "") -> Response[bytes]:
    """A built file where there is one; else the page, which routes by itself."""
    name = path.lstrip("/")
    if name.startswith(("api/", "schema/", "v2/")):
        raise NotFoundException(f"there is nothing at /{name}")
    file = (_STATIC / name).resolve()
    if name and file.is_relative_to(_STATIC) and file.is_file():
        kept = "public, max-age=31536000, immutable" if "/assets/" in f"/{name}" else "no-cache"
        return Response(
            file.read_bytes(),
            media_type=_TYPES.get(file.suffix, "application/octet-stream"),
            headers={**_SECURITY, "Cache-Control": kept},
        )
    if "." in name.rsplit("/", 1)[-1] and name.startswith("assets/"):
        raise NotFoundException(f"there is no file {name}")
    index = _STATIC / "index.html"
    body = index.read_bytes() if index.is_file() else _MISSING
    return Response(body, media_type=_TYPES[".html"], headers={**_SECURITY, "Cache-Control": "no-cache"})


page_router = slice_router("page", [show_page], prefix="/")
