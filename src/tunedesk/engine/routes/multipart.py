"""A form with one file, read as it arrives: the file goes to disk, the few fields stay in memory."""

from __future__ import annotations

from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from tunedesk.engine.file_store import Blob
from tunedesk.engine.routes.context import body_chunks, check_length, too_large
from tunedesk.engine.wire import ApiError

_FIELD_BYTES = 4096
_OVERHEAD = 64 << 10
"""Bytes that boundaries, headers and fields may add to the file."""
_MAX_PARTS = 16


@dataclass(slots=True)
class Form:
    """A form's fields, and the name of its file; the bytes are in the blob."""

    fields: dict[str, str]
    filename: str | None
    """None when the form holds no file."""


@dataclass(slots=True)
class _Reader:
    """The parser's callbacks: tells the parts apart and sends their bytes where they belong."""

    blob: Blob
    file_field: str
    limit: int
    form: Form = field(default_factory=lambda: Form({}, None))
    ended: bool = False
    _parts: int = 0
    _header: bytearray = field(default_factory=bytearray)
    _value: bytearray = field(default_factory=bytearray)
    _disposition: bytes = b""
    _name: str = ""
    _into_blob: bool = False
    _text: bytearray = field(default_factory=bytearray)

    def on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise _malformed(f"it has more than {_MAX_PARTS} parts")
        self._disposition, self._text = b"", bytearray()

    def on_header_begin(self) -> None:
        self._header, self._value = bytearray(), bytearray()

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = bytes(self._value)

    def on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        name, filename = options.get(b"name"), options.get(b"filename")
        if name is None:
            raise _malformed("a part has no name")
        self._name = _words(name)
        self._into_blob = self._name == self.file_field
        if self._into_blob:
            if self.form.filename is not None:
                raise _malformed(f"it has more than one '{self.file_field}'")
            self.form.filename = _words(filename or b"") or self.file_field
        elif self._name in self.form.fields:
            raise _malformed(f"it has more than one '{self._name[:64]}'")

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._into_blob:
            if self.blob.bytes + end - start > self.limit:
                raise too_large(self.limit)
            self.blob.write(data[start:end])
        else:
            self._text += data[start:end]
            if len(self._text) > _FIELD_BYTES:
                raise _malformed(f"the field '{self._name[:64]}' is too long")

    def on_part_end(self) -> None:
        if not self._into_blob:
            self.form.fields[self._name] = _words(bytes(self._text))

    def on_end(self) -> None:
        self.ended = True


def _malformed(problem: str) -> ApiError:
    return ApiError(400, f"The multipart form cannot be read: {problem}.", code="invalid_multipart")


def _words(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _malformed("a name or field is not UTF-8") from error


async def read_form(request: Request, blob: Blob, file_field: str, limit: int) -> Form:
    """Read a multipart form: the bytes of `file_field` into `blob`, at most `limit`, all else as fields.

    Raises ApiError 413 over the limit, and 400 for a body that is no complete multipart form.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise _malformed("the content type must be multipart/form-data with a boundary")
    check_length(request, limit + _OVERHEAD)
    reader = _Reader(blob, file_field, limit)
    callbacks = (
        "on_part_begin", "on_part_data", "on_part_end", "on_header_begin", "on_header_field", "on_header_value",
        "on_header_end", "on_headers_finished", "on_end",
    )  # fmt: skip
    try:
        parser = MultipartParser(boundary, {name: getattr(reader, name) for name in callbacks})  # type: ignore[arg-type]
        async for chunk in body_chunks(request):
            parser.write(chunk)
    except FormParserError as error:
        raise _malformed("its parts are not well formed") from error
    if not reader.ended:
        raise _malformed("it ends before its last boundary")
    return reader.form
