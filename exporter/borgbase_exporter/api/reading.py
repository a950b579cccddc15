"""JSON into structs, as much of it as can be read.

An unreadable entry of a list, or an unreadable field of an entry, is left out and counted; the
rest stays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import NoneType
from typing import Any, get_args, get_origin

import msgspec

from borgbase_exporter.api.query import Node, node_of

UNREADABLE = (msgspec.DecodeError, ValueError, OverflowError, RecursionError)
"""What decoding raises for JSON that is broken, of another shape, out of range or too deep."""

NULL = msgspec.Raw(b"null")
ENTRIES = msgspec.json.Decoder(list[msgspec.Raw])
MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])


@dataclass(slots=True)
class Skipped:
    """How much was left out: list entries (repeated ones too), and fields of the others."""

    entries: int = 0
    fields: int = 0


Read = Callable[[msgspec.Raw, Skipped], Any]
"""Reads JSON, and raises one of UNREADABLE where nothing of it can be used."""


@cache
def reader(annotation: Any) -> Read:
    """Return what reads a field's type, such as a struct, a list of structs, or a number.

    To be called while the program is imported, by one thread: msgspec is not safe while it works
    out a new type.
    """
    node = node_of(annotation)
    if node is None:
        decoder = msgspec.json.Decoder(annotation, strict=False)
        return lambda raw, _skipped: decoder.decode(raw)
    if get_origin(annotation) is list:
        return _reader_of_list(reader(node))
    if annotation is node:
        return _reader_of_struct(node)
    inner = reader(next(part for part in get_args(annotation) if part is not NoneType))
    return lambda raw, skipped: None if raw == NULL else inner(raw, skipped)


def _reader_of_list(read_entry: Read) -> Read:
    def read(raw: msgspec.Raw, skipped: Skipped) -> list[Any]:
        found = []
        for entry in ENTRIES.decode(raw):
            try:
                found.append(read_entry(entry, skipped))
            except UNREADABLE:
                skipped.entries += 1
        return found

    return read


def _reader_of_struct(kind: type[Node]) -> Read:
    strict = msgspec.json.Decoder(kind, strict=False)
    fields = [(field, reader(field.type)) for field in msgspec.structs.fields(kind)]

    def read(raw: msgspec.Raw, skipped: Skipped) -> Node:
        try:
            return strict.decode(raw)
        except UNREADABLE:
            members, values = MEMBERS.decode(raw), {}
        for field, read_field in fields:
            try:
                if field.encode_name in members or field.required:
                    values[field.name] = read_field(members.get(field.encode_name, NULL), skipped)
            except UNREADABLE:
                if field.required:
                    raise
                skipped.fields += 1
                if msgspec.UnsetType in get_args(field.type):
                    values[field.name] = msgspec.UNSET
        return kind(**values)

    return read
