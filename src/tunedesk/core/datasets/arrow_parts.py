"""Arrow IPC files written by Polars and read through a memory map, without copying.

Polars 2 copies every column that `read_ipc` reads, so a part is mapped here and its buffers are handed over by the
Arrow C data interface (https://arrow.apache.org/docs/format/CDataInterface.html): pages come from the file when a
scan touches them, and the system may drop them at will. A file is unmapped when Polars has let go of the last column
of it, slices and what was gathered from them included. Only what `write_part` writes is understood: one
uncompressed record batch of non-null unsigned, float and string columns.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import weakref
from array import array
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import TypeAlias
from weakref import WeakValueDictionary

import polars as pl

from tunedesk.errors import DataError

_FORMATS: dict[type[pl.DataType], bytes] = {
    pl.UInt8: b"C",
    pl.UInt32: b"I",
    pl.UInt64: b"L",
    pl.Float64: b"g",
    pl.String: b"vu",
}
_ARRAY_TYPES: dict[str, tuple[bytes, int]] = {"B": (b"C", 1), "I": (b"I", 4), "Q": (b"L", 8), "d": (b"g", 8)}

_Bytes: TypeAlias = "ctypes.Array[ctypes.c_char]"

_mmap = ctypes.CDLL(None, use_errno=True).mmap
_mmap.restype = ctypes.c_void_p
_mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64)
# Called while Polars drops a column, so it keeps the interpreter's lock.
_munmap = ctypes.PyDLL(None).munmap
_munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)


class _Mapping:
    """A file in memory for as long as this object lives."""

    def __init__(self, file: int, size: int) -> None:
        """Map a file by the system's own call: Python's keeps it open, and twenty million rows have a thousand."""
        address = _mmap(None, size, mmap.PROT_READ, mmap.MAP_PRIVATE, file, 0)
        if address == ctypes.c_void_p(-1).value:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        self.data: _Bytes = (ctypes.c_char * size).from_address(address)
        weakref.finalize(self, _munmap, address, size).atexit = False


_mapped: WeakValueDictionary[tuple[str, int, int, int], _Mapping] = WeakValueDictionary()
"""Every file that is mapped, by path and identity."""
_lent: dict[int, _Mapping] = {}
"""What lies behind the columns that Polars has, by the number that each was given."""
_numbers = count(1)


class _Array(ctypes.Structure):
    """`struct ArrowArray`; the release callback is null where the memory is the caller's."""

    _fields_ = (
        ("length", ctypes.c_int64),
        ("null_count", ctypes.c_int64),
        ("offset", ctypes.c_int64),
        ("n_buffers", ctypes.c_int64),
        ("n_children", ctypes.c_int64),
        ("buffers", ctypes.POINTER(ctypes.c_void_p)),
        ("children", ctypes.c_void_p),
        ("dictionary", ctypes.c_void_p),
        ("release", ctypes.c_void_p),
        ("private_data", ctypes.c_void_p),
    )


class _Schema(ctypes.Structure):
    """`struct ArrowSchema` of one column."""

    _fields_ = (
        ("format", ctypes.c_char_p),
        ("name", ctypes.c_char_p),
        ("metadata", ctypes.c_char_p),
        ("flags", ctypes.c_int64),
        ("n_children", ctypes.c_int64),
        ("children", ctypes.c_void_p),
        ("dictionary", ctypes.c_void_p),
        ("release", ctypes.c_void_p),
        ("private_data", ctypes.c_void_p),
    )


class _Stream(ctypes.Structure):
    """`struct ArrowArrayStream`, from which a column is taken piece by piece."""

    _fields_ = (
        ("get_schema", ctypes.c_void_p),
        ("get_next", ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)),
        ("get_last_error", ctypes.c_void_p),
        ("release", ctypes.c_void_p),
        ("private_data", ctypes.c_void_p),
    )


_release = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def _taking_back(lent: dict[int, _Mapping], at: Callable[[int], _Array]) -> int:
    """Return the address of what is called when a column is dropped, at the very end of the program too."""

    def take_back(address: int) -> None:
        array = at(address)
        lent.pop(array.private_data, None)
        array.release = None

    callback = _release(take_back)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(callback))
    return ctypes.cast(callback, ctypes.c_void_p).value or 0


_take_back = _taking_back(_lent, _Array.from_address)
_pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
_pointer_of.restype = ctypes.c_void_p
_pointer_of.argtypes = (ctypes.py_object, ctypes.c_char_p)
_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype = ctypes.py_object
_new_capsule.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)


class _Column:
    """One column in foreign memory, of lists when it has `items`, offered through `__arrow_c_array__`."""

    def __init__(
        self,
        form: bytes,
        length: int,
        buffers: Sequence[int | None],
        items: _Column | None = None,
        owner: _Mapping | None = None,
    ) -> None:
        self._buffers = (ctypes.c_void_p * len(buffers))(*buffers)
        self._items, self._owner, children = items, owner, int(items is not None)
        self._inner = items.pointers() if items else (None, None)
        arrays, schemas = (ctypes.cast(one, ctypes.c_void_p) if one else None for one in self._inner)
        self._array = _Array(length, 0, 0, len(buffers), children, self._buffers, arrays, None, None, None)
        self._schema = _Schema(form, b"", None, 0, children, schemas, None, None, None)

    def pointers(self) -> tuple[ctypes.Array[ctypes.c_void_p], ctypes.Array[ctypes.c_void_p]]:
        """Return an array of one pointer to this column's array, and one to its schema, for a column that holds it."""
        one = ctypes.c_void_p * 1
        return one(ctypes.addressof(self._array)), one(ctypes.addressof(self._schema))

    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[object, object]:
        """Return the schema and array capsules; `requested_schema` is never followed, as the protocol allows."""
        if self._owner is not None:
            number = next(_numbers)
            _lent[number] = self._owner
            self._array.private_data, self._array.release = number, _take_back
        return (
            _new_capsule(ctypes.addressof(self._schema), b"arrow_schema", None),
            _new_capsule(ctypes.addressof(self._array), b"arrow_array", None),
        )


def write_part(frame: pl.DataFrame, path: Path, *, durable: bool = True) -> None:
    """Write `frame` to `path` as one uncompressed record batch, durably unless the caller syncs it later."""
    with path.open("wb") as file:
        frame.rechunk().write_ipc(file, compression="uncompressed", record_batch_size=max(1, frame.height))
        file.flush()
        if durable:
            os.fsync(file.fileno())


def map_part(path: Path) -> dict[str, pl.Series]:
    """Return the columns of a part by name, read from the file only as they are used; DataError when it is damaged."""
    try:
        schema = pl.read_ipc_schema(path)
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            key = (str(path), status.st_ino, status.st_mtime_ns, status.st_size)
            mapping = _mapped.get(key) or _Mapping(file.fileno(), status.st_size)
        _mapped[key] = mapping
        return _columns(mapping, schema)
    except (OSError, ValueError, KeyError, struct.error, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path} is damaged: {error}", "import the dataset again") from error


def buffer_series(values: array[int] | array[float] | bytearray, start: int, stop: int) -> pl.Series:
    """Return `values[start:stop]` as a column over the same memory; `values` must outlive it and not change size."""
    form, width = _ARRAY_TYPES["B" if isinstance(values, bytearray) else values.typecode]
    count = max(0, min(stop, len(values)) - start)
    if count == 0:
        return pl.Series(_Column(form, 0, [None, None]))
    address = ctypes.addressof(ctypes.c_char.from_buffer(values, start * width))
    return pl.Series(_Column(form, count, [None, address]))


def list_series(values: array[int], ends: array[int]) -> pl.Series:
    """Return lists of 32-bit numbers (typecode I) over the memory of `values`, which must outlive them.

    List i is `values[ends[i]:ends[i + 1]]`; `ends` has typecode q, begins with 0, and is one longer than the column.
    """
    items = _Column(b"I", len(values), [None, values.buffer_info()[0]])
    return pl.Series(_Column(b"+L", len(ends) - 1, [None, ends.buffer_info()[0]], items))


def array_of(column: pl.Series) -> array[int]:
    """Return a column of 32-bit numbers (UInt32, no nulls) as an array (typecode I), without a Python number for each.

    Polars hands its buffers over by the Arrow C stream interface, and they are copied once.
    """
    capsule = column.__arrow_c_stream__(None)
    stream = _Stream.from_address(_pointer_of(capsule, b"arrow_array_stream"))
    values = array("I")
    while True:
        piece = _Array()
        if stream.get_next(ctypes.addressof(stream), ctypes.addressof(piece)):
            raise ValueError("the column cannot be handed over")
        if not piece.release:
            return values
        if piece.length:
            values.frombytes(ctypes.string_at(piece.buffers[1] + 4 * piece.offset, 4 * piece.length))
        _release(piece.release)(ctypes.addressof(piece))


class _Table:
    """A flatbuffers table at `position`: where its fields lie (https://flatbuffers.dev/internals)."""

    def __init__(self, data: _Bytes, position: int) -> None:
        self.data, self.position = data, position
        self.vtable: int = position - struct.unpack_from("<i", data, position)[0]
        self.size: int = struct.unpack_from("<H", data, self.vtable)[0]

    def field(self, number: int) -> int:
        """Return the position of a field, 0 when it is absent."""
        slot = 4 + 2 * number
        offset: int = struct.unpack_from("<H", self.data, self.vtable + slot)[0] if slot < self.size else 0
        return self.position + offset if offset else 0

    def child(self, number: int) -> _Table:
        """Return the table that a field points at."""
        return _Table(self.data, _follow(self.data, self.field(number)))

    def vector(self, number: int) -> tuple[int, int]:
        """Return where a vector's items begin, and how many there are."""
        if not self.field(number):
            return 0, 0
        position = _follow(self.data, self.field(number))
        count: int = struct.unpack_from("<I", self.data, position)[0]
        return position + 4, count


def _follow(data: _Bytes, position: int) -> int:
    offset: int = struct.unpack_from("<I", data, position)[0]
    return position + offset


def _columns(mapping: _Mapping, schema: Mapping[str, pl.DataType]) -> dict[str, pl.Series]:
    """Walk footer, block and record batch (Arrow's File.fbs and Message.fbs) to the buffers of each column."""
    data = mapping.data
    footer = len(data) - 10 - struct.unpack_from("<i", data, len(data) - 10)[0]
    blocks, count = _Table(data, _follow(data, footer)).vector(3)
    if count != 1:
        raise ValueError(f"{count} record batches where one is expected")
    block, metadata_length, _ = struct.unpack_from("<qi4xq", data, blocks)
    message = _Table(data, _follow(data, block + 8))
    batch = message.child(2)
    length: int = struct.unpack_from("<q", data, batch.field(0))[0]
    at, buffer_count = batch.vector(2)
    spans = [struct.unpack_from("<qq", data, at + 16 * i) for i in range(buffer_count)]
    if any(block + metadata_length + offset + size > len(data) for offset, size in spans):
        raise ValueError("it is shorter than its own table of contents says")
    at, variadic_count = batch.vector(4)
    variadic = [struct.unpack_from("<q", data, at + 8 * i)[0] for i in range(variadic_count)]
    base = ctypes.addressof(data) + block + metadata_length
    columns: dict[str, pl.Series] = {}
    for name, dtype in schema.items():
        form = _FORMATS[dtype.base_type()]
        extra = variadic.pop(0) if form == b"vu" else 0
        mine, spans = spans[1 : 2 + extra], spans[2 + extra :]
        buffers: list[int | None] = [None, *(base + offset for offset, _ in mine)]
        if form == b"vu":
            sizes = (ctypes.c_int64 * max(1, extra))(*(size for _, size in mine[1:]))
            buffers.append(ctypes.addressof(sizes))
        columns[name] = pl.Series(_Column(form, length, buffers, owner=mapping))
    return columns
