"""The request body of an endpoint as a type, made from its models' signatures: decoding is validating.

msgspec decodes and checks a row in one pass; only a body that fails is looked at twice, to name place and remedy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from salus.kernel.errors import InvalidInput
from salus.kernel.schema import Column
from salus.kernel.structs import Record
from salus.serving.wire import FeatureLookup

FLOAT32_MAX = 3.4028234663852886e38
LAST_MS = 253_402_300_799_999

_Float = Annotated[float, Meta(ge=-FLOAT32_MAX, le=FLOAT32_MAX)]
_Int = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
_TYPES: dict[str, Any] = {"float": _Float, "int": _Int, "time": _Int, "string": str, "bool": bool}
_EventMs = Annotated[int, Meta(ge=0, le=LAST_MS)]
_Key = Annotated[str, Meta(max_length=1024)]
Scalar = str | int | float | bool | None
_UNKNOWN = "Object contains unknown field `"
_MISSING = "Object missing required field `"


class Asked(Record):
    """One column that a request may carry. `required`: it must be there, null or not; otherwise absent is null."""

    column: Column
    required: bool = True


class RowShape:
    """What a row of one endpoint looks like, and how to take it apart.

    `asked` are the columns of the request, `keys` further columns that only look-ups or the split read, `lookups`
    add features: fields of the row too, but not the request's to give.
    """

    def __init__(
        self, endpoint: str, asked: Sequence[Asked], keys: Sequence[str], lookups: Sequence[FeatureLookup], rows: int
    ) -> None:
        self.endpoint = endpoint
        self.columns = tuple(item.column for item in asked)
        self.required = tuple(item.column.name for item in asked if item.required)
        self.features = {name: lookup.view for lookup in lookups for name in lookup.features}
        known = {column.name for column in self.columns}
        fields: list[tuple[str, Any, Any]] = [
            (item.column.name, _field_type(item), msgspec.NODEFAULT if item.required else None) for item in asked
        ]
        fields += [(name, Scalar, msgspec.NODEFAULT) for name in keys if name not in known]
        fields += [(name, Scalar | UnsetType, UNSET) for name in self.features]
        fields.sort(key=lambda field: field[2] is not msgspec.NODEFAULT)
        self._names = tuple(field[0] for field in fields)
        self._fields = {name: f"c{index}" for index, name in enumerate(self._names)}
        row = _row_struct(fields, self._fields)
        self._features_of = self.getter(tuple(self.features)) if self.features else None
        body = msgspec.defstruct(
            "Body",
            [
                ("rows", Annotated[list[row], Meta(min_length=1, max_length=rows)]),  # type: ignore[valid-type]
                ("keys", list[_Key] | None, None),
                ("event_ms", list[_EventMs] | None, None),
            ],
            forbid_unknown_fields=True,
        )
        self._row = row
        self._decoder = msgspec.json.Decoder(body)

    def getter(self, names: Sequence[str]) -> Callable[[Any], tuple[Any, ...]]:
        """A function from a row to the tuple of its values in `names`."""
        fields = [self._fields[name] for name in names]
        get = attrgetter(*fields)
        return get if len(fields) > 1 else lambda row: (get(row),)

    def setter(self, name: str) -> Callable[[Any, Any], None]:
        """A function that puts a feature into a row."""
        field = self._fields[name]
        return lambda row, value: setattr(row, field, value)

    def decode(self, body: bytes) -> Any:
        """The body: `.rows`, `.keys`, `.event_ms`.

        Raises:
            InvalidInput: it breaks a law; `path` says where, `remedy` what to do.
        """
        try:
            request: Any = self._decoder.decode(body)
        except msgspec.ValidationError as error:
            raise self._explain(str(error)) from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidInput(
                f"the body is not valid JSON: {error}",
                path="$",
                remedy='Send {"rows": [{column: value, ...}]}. JSON has no NaN and no Infinity: send null.',
            ) from error
        if self._features_of is not None:
            self._refuse_given_features(request.rows)
        _check_lengths(request)
        return request

    def blank_rows(self, count: int) -> list[Any]:
        """Rows of zeros and empty strings, to warm models up."""
        blank = self.example()["rows"][0] | dict.fromkeys(self.features)
        fields = {self._fields[name]: value for name, value in blank.items()}
        return [self._row(**fields) for _ in range(count)]

    def example(self) -> dict[str, Any]:
        """A body that this endpoint takes."""
        kinds: dict[str, Any] = {"float": 0.0, "int": 0, "time": 0, "string": "", "bool": False}
        row = {column.name: kinds[column.dtype] for column in self.columns}
        row |= {name: "" for name in self._names if name not in row and name not in self.features}
        return {"rows": [row]}

    def _refuse_given_features(self, rows: Sequence[Any]) -> None:
        assert self._features_of is not None
        for index, row in enumerate(rows):
            for (name, view), value in zip(self.features.items(), self._features_of(row), strict=True):
                if value is not UNSET:
                    raise InvalidInput(
                        f"{name} is not the request's to give: it comes from the feature view {view}",
                        path=f"$.rows[{index}].{name}",
                        remedy="Leave it out.",
                    )

    def _explain(self, text: str) -> InvalidInput:
        message, _, path = text.partition(" - at `")
        path = path.rstrip("`") or "$"
        remedy = f"GET /endpoints/{self.endpoint} shows the columns and an example."
        if message.startswith(_UNKNOWN):
            name = message[len(_UNKNOWN) : -1]
            takes = "rows, keys, event_ms" if path == "$" else ", ".join(self._given_names())
            return InvalidInput(
                f"unknown {'field' if path == '$' else 'column'} {name!r}",
                path=f"{path}.{name}",
                remedy=f"Leave it out. Known are: {takes}.",
            )
        if message.startswith(_MISSING):
            name = message[len(_MISSING) : -1]
            noun = "field" if path == "$" else "column"
            return InvalidInput(
                f"missing {noun} {name!r}",
                path=f"{path}.{name}",
                remedy="Send every column; a nullable one may be null." if noun == "column" else remedy,
            )
        if message.endswith("got `null`"):
            remedy = "This column takes no null: the model cannot do without its value."
        return InvalidInput(message, path=path, remedy=remedy)

    def _given_names(self) -> list[str]:
        return [name for name in self._names if name not in self.features]


def _row_struct(fields: Sequence[tuple[str, Any, Any]], renamed: dict[str, str]) -> type[msgspec.Struct]:
    back = {field: name for name, field in renamed.items()}
    return msgspec.defstruct(
        "Row",
        [
            (renamed[name], kind) if default is msgspec.NODEFAULT else (renamed[name], kind, default)
            for name, kind, default in fields
        ],
        rename=back.get,
        forbid_unknown_fields=True,
        gc=False,
    )


def _field_type(asked: Asked) -> Any:
    kind = _TYPES[asked.column.dtype]
    return kind | None if asked.column.nullable or not asked.required else kind


def _check_lengths(request: Any) -> None:
    for name in ("keys", "event_ms"):
        values = getattr(request, name)
        if values is not None and len(values) != len(request.rows):
            raise InvalidInput(
                f"{name} must have one item a row, got {len(values)} for {len(request.rows)} rows",
                path=f"$.{name}",
                remedy=f"Leave {name} out, or give one for each row.",
            )
