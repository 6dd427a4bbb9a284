"""/v1/files and /v1/uploads."""

from __future__ import annotations

import re
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from tunedesk.engine.file_store import UPLOAD_BYTES
from tunedesk.engine.routes.context import Context, answer, idempotency_key, json_body, resource
from tunedesk.engine.routes.multipart import read_form
from tunedesk.engine.wire import ApiError, Fields, page, page_request

FILE_PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
UPLOAD_PURPOSES = ("assistants", "batch", "fine-tune", "vision")


def routes(context: Context) -> list[Route]:
    """Return the routes of files and uploads."""
    return [
        resource("/v1/files", context, GET=list_files, POST=create_file),
        resource("/v1/files/{file_id}", context, GET=retrieve_file, DELETE=delete_file),
        resource("/v1/files/{file_id}/content", context, GET=file_content),
        resource("/v1/uploads", context, POST=create_upload),
        resource("/v1/uploads/{upload_id}/parts", context, POST=add_part),
        resource("/v1/uploads/{upload_id}/complete", context, POST=complete_upload),
        resource("/v1/uploads/{upload_id}/cancel", context, POST=cancel_upload),
    ]


def _form_fields(fields: dict[str, str]) -> Fields:
    """Return form fields as JSON would say them: `expires_after[seconds]` becomes a nested number."""
    body: dict[str, Any] = {}
    for name, value in fields.items():
        outer, _, inner = name.partition("[")
        if not inner:
            body[name] = value
        elif (nested := body.setdefault(outer, {})) is not None and isinstance(nested, dict):
            digits = re.fullmatch(r"\d{1,18}", value, re.ASCII)
            nested[inner.rstrip("]")] = int(value) if digits else value
    return Fields(body)


async def create_file(request: Request, context: Context) -> Response:
    """Receive a file."""
    key = idempotency_key(request)
    with context.state.files.receiving() as blob:
        form = await read_form(request, blob, "file", context.limits.file)
        fields = _form_fields(form.fields)
        fields.only(("purpose", "expires_after"))
        if form.filename is None:
            Fields({}).required("file")
        purpose = fields.choice("purpose", FILE_PURPOSES)
        keep = fields.keep_seconds()
        file = await run_in_threadpool(context.state.files.add, blob, str(form.filename), purpose, keep, key)
    return JSONResponse(file.shape())


async def list_files(request: Request, context: Context) -> Response:
    """List files, newest first unless `order=asc`."""
    query = request.query_params
    wanted = page_request(query, default=10_000)
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise ApiError(400, "Invalid 'order': expected 'asc' or 'desc'.", param="order", code="invalid_value")

    def listed() -> dict[str, Any]:
        found = context.state.files.listed(wanted, query.get("purpose"), ascending=order == "asc")
        return page(found, wanted.limit, lambda file: file.shape())

    return await answer(listed)


async def retrieve_file(request: Request, context: Context) -> Response:
    """Show one file."""
    return await answer(lambda: context.state.files.get(request.path_params["file_id"]).shape())


async def delete_file(request: Request, context: Context) -> Response:
    """Delete one file."""
    file_id = request.path_params["file_id"]
    await run_in_threadpool(context.state.files.delete, file_id)
    return JSONResponse({"id": file_id, "object": "file", "deleted": True})


async def file_content(request: Request, context: Context) -> Response:
    """Send the bytes of one file; the path is made of the stored hash, never of the request."""
    file = await run_in_threadpool(context.state.files.get, request.path_params["file_id"])
    return FileResponse(context.state.files.path(file), media_type="application/octet-stream")


async def create_upload(request: Request, context: Context) -> Response:
    """Open an upload in parts."""
    key = idempotency_key(request)
    fields = Fields(await json_body(request, context.limits.json))
    fields.only(("filename", "purpose", "bytes", "mime_type", "expires_after"))
    filename = fields.needed_text("filename", most=1024)
    purpose = fields.choice("purpose", UPLOAD_PURPOSES)
    fields.text("mime_type", most=256, needed=True)
    fields.required("bytes")
    size = fields.integer("bytes", 0, UPLOAD_BYTES)
    files = context.state.files
    return await answer(
        lambda: files.create_upload(filename, purpose, size or 0, fields.keep_seconds(), key).shape()
    )


async def add_part(request: Request, context: Context) -> Response:
    """Receive a part of an upload."""
    files = context.state.files
    upload_id = request.path_params["upload_id"]
    await run_in_threadpool(files.pending_upload, upload_id)
    with files.receiving() as blob:
        form = await read_form(request, blob, "data", context.limits.part)
        Fields(form.fields).only(())
        if form.filename is None:
            Fields({}).required("data")
        part = await run_in_threadpool(files.add_part, upload_id, blob)
    return JSONResponse(part.shape())


async def complete_upload(request: Request, context: Context) -> Response:
    """Join the parts into a file."""
    fields = Fields(await json_body(request, context.limits.json))
    fields.only(("part_ids", "md5"))
    fields.required("part_ids")
    part_ids = fields.array("part_ids", most=10_000)
    if not all(isinstance(part_id, str) for part_id in part_ids):
        raise ApiError(400, "Invalid 'part_ids': expected strings.", param="part_ids", code="invalid_type")
    md5 = fields.text("md5", most=64)

    def completed() -> dict[str, Any]:
        upload, file = context.state.files.complete_upload(request.path_params["upload_id"], part_ids, md5)
        return upload.shape(file)

    return await answer(completed)


async def cancel_upload(request: Request, context: Context) -> Response:
    """Give up an upload."""
    return await answer(lambda: context.state.files.cancel_upload(request.path_params["upload_id"]).shape())
