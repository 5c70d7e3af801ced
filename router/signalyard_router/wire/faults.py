"""What exactly is wrong with a part of a predict body: the field, and what would be right.

This is the slow way, walked for bad rows alone. Pointers are relative to the row, as the router's own are; `places` turns
them into pointers into the request.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from signalyard.problems import Problem, ProblemDetails, describe, escape_pointer
from signalyard_router.rules.rows import BadRow
from signalyard_router.wire.forms import (
    COLUMNAR_FIELDS,
    MAX_NAME,
    SNAPSHOT_FIELDS,
    Name,
    Number,
    Order,
    Time,
)

_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_array = msgspec.json.Decoder(list[msgspec.Raw])
_text = msgspec.json.Decoder(str)
_name = msgspec.json.Decoder(Name)
_optional_name = msgspec.json.Decoder(Name | None)
_time = msgspec.json.Decoder(Time)
_order = msgspec.json.Decoder(Order)
_number = msgspec.json.Decoder(Number)
_numbers = msgspec.json.Decoder(list[Number])
_features = msgspec.json.Decoder(dict[str, Number])
_DECIMAL = re.compile(r"[0-9]{1,19}(\.[0-9]{1,19})?")


def bad_snapshot(index: int, raw: bytes) -> BadRow | None:
    """What is wrong with a snapshot, or None where nothing is."""
    fields = read_object(raw)
    if fields is None:
        return BadRow(
            index, _invalid("", f"a snapshot is an object with symbol, ts_event and features, not {_shown(raw)}")
        )
    symbol, ts_event = fields.get("symbol"), fields.get("ts_event")
    problem = (
        _misnamed(fields, SNAPSHOT_FIELDS, "a snapshot")
        or _symbol_fault(symbol or b"")
        or _time_fault(ts_event or b"")
        or _features_fault(fields["features"])
        or _options_fault(fields)
        or _twice(raw)
    )
    return BadRow(index, problem, _symbol(symbol), _ts_event(ts_event)) if problem else None


def bad_row(index: int, raw: bytes, columns: tuple[str, ...]) -> BadRow | None:
    """What is wrong with a row of a columnar body, or None where nothing is."""
    items = _read_array(raw)
    if items is None or not 3 <= len(items) <= 4:
        given = _shown(raw) if items is None else f"a list of {len(items)}"
        problem = _invalid(
            "", f"a row is [symbol, ts_event, [values]] and may have a sequence after them, it is {given}"
        )
        items = items or []
        return BadRow(index, problem, _symbol(*items[:1]), _ts_event(*items[1:2]))
    found = (
        _symbol_fault(items[0])
        or _time_fault(items[1])
        or _values_fault(items[2], columns)
        or (_sequence_fault(items[3]) if len(items) == 4 else None)
    )
    return BadRow(index, found, _symbol(items[0]), _ts_event(items[1])) if found else None


def read_object(raw: bytes) -> dict[str, bytes] | None:
    """The members of a JSON object as they are written, or None where it is something else."""
    members = _read(_object, raw)
    return None if members is None else {name: bytes(value) for name, value in members.items()}


def envelope_fault(fields: Mapping[str, bytes]) -> ProblemDetails | None:
    """What is wrong with a columnar body around its rows, or None where nothing is."""
    problem = _misnamed(fields, COLUMNAR_FIELDS, "a columnar request") or _options_fault(fields)
    if problem:
        return problem
    names = _read_array(fields["columns"])
    if names is None:
        return _invalid("/columns", f"columns is the list of the features' names, not {_shown(fields['columns'])}")
    for index, name in enumerate(names):
        if _read(_name, name) is None:
            return _invalid(
                f"/columns/{index}",
                f"a feature's name is a string of at most {MAX_NAME} characters, not {_shown(name)}",
            )
    if _read_array(fields["rows"]) is None:
        return _invalid("/rows", f"rows is a list of [symbol, ts_event, [values]], not {_shown(fields['rows'])}")
    return None


def repeated_field(raw: bytes) -> ProblemDetails | None:
    """The first field that a JSON object gives twice, or None."""
    name = _first_repeated([name for name, _ in _pairs(raw)])
    return None if name is None else _invalid(f"/{_token(name)}", f"the field {_cut(name)} is given twice")


def repeated_column(columns: tuple[str, ...]) -> ProblemDetails | None:
    """The first column that is named twice, or None."""
    name = _first_repeated(columns)
    return None if name is None else _repeated_feature(name)


def wrong_count(columns: tuple[str, ...], values: int) -> ProblemDetails:
    """A row has not one value for each column."""
    return _invalid("/features", f"{len(columns)} columns are named, the row has {values} values")


def _misnamed(fields: Mapping[str, Any], known: Mapping[str, bool], what: str) -> ProblemDetails | None:
    for name in fields:
        if name not in known:
            return _invalid(f"/{_token(name)}", f"{_cut(name)} is not a field of {what}; those are {', '.join(known)}")
    for name, required in known.items():
        if required and name not in fields:
            return _invalid(f"/{name}", f"{name} is missing")
    return None


def _symbol_fault(raw: bytes) -> ProblemDetails | None:
    if _read(_text, raw) is not None:
        return None
    return _invalid("/symbol", f"symbol is a string such as rb2410.SHFE, not {_shown(raw)}")


def _time_fault(raw: bytes) -> ProblemDetails | None:
    if _read(_time, raw) is not None:
        return None
    detail = "ts_event is a whole number of nanoseconds since 1970 (UTC), above 0 and below 2**63, "
    detail += f"such as 1718923456000000000, not {_shown(raw)}"
    digits = raw.strip(b'"').decode()
    if _DECIMAL.fullmatch(digits) and 0 < float(digits) < 1e17:
        unit = "seconds" if float(digits) < 1e11 else "milliseconds" if float(digits) < 1e14 else "microseconds"
        detail += f", which looks like {unit}"
    return _invalid("/ts_event", detail)


def _features_fault(raw: bytes) -> ProblemDetails | None:
    features = read_object(raw)
    if features is None:
        return _invalid("/features", f"features is an object from names to numbers, not {_shown(raw)}")
    if _read(_features, raw) is None:
        for name, value in features.items():
            if not _is_number(value):
                return _not_number(name, value)
    for name in features:
        if len(name) > MAX_NAME:
            return _invalid(
                "/features", f"a feature's name has at most {MAX_NAME} characters, {_cut(name)} has {len(name)}"
            )
    return None


def _values_fault(raw: bytes, columns: tuple[str, ...]) -> ProblemDetails | None:
    values = _read_array(raw)
    if values is None:
        return _invalid("/features", f"a row's values are a list of numbers, not {_shown(raw)}")
    if len(values) != len(columns):
        return wrong_count(columns, len(values))
    if _read(_numbers, raw) is None:
        for name, value in zip(columns, values, strict=True):
            if not _is_number(value):
                return _not_number(name, value)
    return None


def _options_fault(fields: Mapping[str, bytes]) -> ProblemDetails | None:
    if "sequence" in fields and (problem := _sequence_fault(fields["sequence"])):
        return problem
    if "route" in fields and fields["route"] != b"null" and _read(_optional_name, fields["route"]) is None:
        return _invalid("/route", f"route is a route's name or null, not {_shown(fields['route'])}")
    if "consumer" in fields and _read(_name, fields["consumer"]) is None:
        shown = _shown(fields["consumer"])
        return _invalid("/consumer", f"consumer is a string of at most {MAX_NAME} characters, not {shown}")
    return None


def _sequence_fault(raw: bytes) -> ProblemDetails | None:
    if _read(_order, raw) is not None:
        return None
    return _invalid("/sequence", f"sequence is a whole number of 64 bits, not {_shown(raw)}")


def _twice(raw: bytes) -> ProblemDetails | None:
    problem = repeated_field(raw)
    if problem:
        return problem
    name = _first_repeated([name for name, _ in dict(_pairs(raw))["features"]])
    return None if name is None else _repeated_feature(name)


def _is_number(raw: bytes) -> bool:
    return raw == b"null" or _read(_number, raw) is not None


def _not_number(name: str, raw: bytes) -> ProblemDetails:
    is_one = raw[:1] in b"-0123456789"
    right = "a number that a 64-bit float can hold" if is_one else "a number, or null where it is missing"
    return _invalid(f"/features/{_token(name)}", f"the feature {_cut(name)} is {right}, not {_shown(raw)}")


def _repeated_feature(name: str) -> ProblemDetails:
    return describe(Problem.DUPLICATE_FEATURE, f"the feature {_cut(name)} is given twice", f"/features/{_token(name)}")


def _invalid(pointer: str, detail: str) -> ProblemDetails:
    return describe(Problem.INVALID_SNAPSHOT, detail, pointer)


def _symbol(raw: bytes | None = None) -> str:
    return (_read(_text, raw) if raw else None) or ""


def _ts_event(raw: bytes | None = None) -> int:
    return (_read(_time, raw) if raw else None) or 0


def _read(decoder: "msgspec.json.Decoder[Any]", raw: bytes) -> Any:
    """What a decoder makes of a part that is known to be JSON, or None where it has another type."""
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError:
        return None


def _read_array(raw: bytes) -> list[bytes] | None:
    items = _read(_array, raw)
    return None if items is None else [bytes(item) for item in items]


def _pairs(raw: bytes) -> list[tuple[str, Any]]:
    # numbers stay text: they have been checked, and Python refuses to read very long ones
    pairs: list[tuple[str, Any]] = json.loads(raw, object_pairs_hook=list, parse_int=str, parse_float=str)
    return pairs


def _first_repeated(names: list[str] | tuple[str, ...]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def _shown(raw: bytes) -> str:
    return _cut(raw[:200].decode(errors="ignore")) or "nothing"


def _token(name: str) -> str:
    return escape_pointer(name if len(name) <= MAX_NAME else _cut(name))


def _cut(text: str) -> str:
    return text if len(text) <= 60 else text[:60] + "…"
