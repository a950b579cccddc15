"""Decode JSON into structs; skip and count unreadable list entries and fields of entries."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, get_args, get_origin

import msgspec

from borgbase_exporter.api.query import Node, fields_of, node_of

UNREADABLE = (msgspec.DecodeError, ValueError, OverflowError, RecursionError)
"""What decoding raises for JSON that is broken, of another shape, out of range or too deep."""

SHORT = 1 << 16  # bytes; a shorter list is decoded in one call, while no other thread runs
NULL = msgspec.Raw(b"null")
_ENTRIES = msgspec.json.Decoder(list[msgspec.Raw])
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])


@dataclass(slots=True)
class Skipped:
    """How much was left out: list entries (repeated ones too), and fields of the others."""

    entries: int = 0
    fields: int = 0


Read = Callable[[msgspec.Raw, Skipped], Any]  # raises one of UNREADABLE if nothing is usable


@cache
def reader(annotation: Any) -> Read:
    """Return the reader of a field's type, such as a struct, a list of structs, or a number."""
    # Call it during import, from one thread: msgspec's analysis of a new type is not thread-safe.
    node = node_of(annotation)
    if node is None:
        decoder = msgspec.json.Decoder(annotation, strict=False)
        return lambda raw, _skipped: decoder.decode(raw)
    if get_origin(annotation) is list:
        whole = msgspec.json.Decoder(list[node], strict=False)  # type: ignore[valid-type]
        return partial(_read_list, whole, reader(node))
    if annotation is node:
        fields = [(field, reader(field.type)) for field in fields_of(node)]
        return partial(_read_struct, msgspec.json.Decoder(node, strict=False), fields)
    inner = reader(get_args(annotation)[0])  # an optional type, such as `Struct | None`
    return lambda raw, skipped: None if raw == NULL else inner(raw, skipped)


def _read_list(
    whole: msgspec.json.Decoder[list[Any]], read: Read, raw: msgspec.Raw, skipped: Skipped
) -> list[Any]:
    if len(raw) < SHORT:
        with contextlib.suppress(*UNREADABLE):
            return whole.decode(raw)
    found = []
    for entry in _ENTRIES.decode(raw):
        try:
            found.append(read(entry, skipped))
        except UNREADABLE:
            skipped.entries += 1
    return found


def _read_struct(
    strict: msgspec.json.Decoder[Node],
    fields: list[tuple[msgspec.structs.FieldInfo, Read]],
    raw: msgspec.Raw,
    skipped: Skipped,
) -> Node:
    try:
        return strict.decode(raw)
    except UNREADABLE:
        members, values = _MEMBERS.decode(raw), {}
    for field, read in fields:
        try:
            if field.encode_name in members or field.required:
                values[field.name] = read(members.get(field.encode_name, NULL), skipped)
        except UNREADABLE:
            if field.required:
                raise
            skipped.fields += 1
            if msgspec.UnsetType in get_args(field.type):
                values[field.name] = msgspec.UNSET
    return strict.type(**values)
