"""Reading contracts: YAML in, a typed contract out, or an error with file and line.

`wrm_pipeline.transform.schema` and everything else that has columns takes them from here.
"""

import datetime as dt
import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import pyarrow as pa
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from wrm_pipeline.contracts.model import Bound, Column, Contract, ContractError, Contracts, Dimension, Rule, Severity
from wrm_pipeline.contracts.vocabulary import DEAD_LETTERS, ENHANCED, PROCESSED, RAW, VOCABULARY

PACKAGED: Final = Path(__file__).parent
SUFFIX: Final = ".odcs.yaml"

# Physical type to Arrow type and the standard's logical type.
_TYPES: Final[dict[str, tuple[pa.DataType, str]]] = {
    "string": (pa.string(), "string"),
    "text": (pa.string(), "string"),
    "int32": (pa.int32(), "integer"),
    "double": (pa.float64(), "number"),
    "bool": (pa.bool_(), "boolean"),
    "date32[day]": (pa.date32(), "date"),
    "timestamp[us, tz=UTC]": (pa.timestamp("us", tz="UTC"), "timestamp"),
    "list<string>": (pa.list_(pa.string()), "array"),
}
_INT32_MAX: Final = 2**31 - 1
_SECONDS: Final = {"s": 1, "min": 60, "h": 3_600, "d": 86_400}
# Dagster's freshness policies and cron lines know nothing shorter than a minute; ten years is longer than any promise.
_LEAST_S: Final = 60
_GREATEST_S: Final = 3_650 * 86_400
_VERSION: Final = r"^[0-9]+\.[0-9]+\.[0-9]+$"
# What Dagster takes as the owner of an asset.
_OWNER: Final = r"^(team:\S+|[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,7})$"
# The standard has no dimension of the name validity.
_DIMENSIONS: Final = {d.value: d for d in Dimension if d is not Dimension.VALIDITY} | {"conformity": Dimension.VALIDITY}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel)


class _Custom(_Strict):
    property: str
    value: Any


class _Options(_Strict):
    minimum: Any = None
    maximum: Any = None
    min_length: Annotated[int, Field(ge=0, le=_INT32_MAX)] | None = None
    max_length: Annotated[int, Field(ge=0, le=_INT32_MAX)] | None = None


class _Quality(_Strict):
    name: str
    type: Literal["custom"]
    engine: Literal["wrm_pipeline"]
    implementation: dict[str, Any]
    dimension: str
    severity: str
    description: Annotated[str, Field(min_length=1)]


class _Property(_Strict):
    name: str
    logical_type: str
    physical_type: str
    required: bool = False
    description: Annotated[str, Field(min_length=1)]
    classification: Literal["public", "internal", "confidential", "restricted"] = "public"
    logical_type_options: _Options = _Options()
    examples: list[Any] = []
    custom_properties: list[_Custom] = []


class _Object(_Strict):
    name: str
    physical_name: str = ""
    physical_type: str = ""
    logical_type: str = "object"
    description: str = ""
    data_granularity_description: str = ""
    properties: Annotated[list[_Property], Field(min_length=1)]
    quality: list[_Quality] = []
    custom_properties: list[_Custom] = []


class _Level(_Strict):
    property: str
    value: Any
    unit: str = ""
    description: str = ""


class _Description(_Strict):
    purpose: Annotated[str, Field(min_length=1)]
    usage: str = ""
    limitations: str = ""


class _Team(_Strict):
    name: Annotated[str, Field(pattern=_OWNER)]
    description: str = ""


class _Document(_Strict):
    api_version: Literal["v3.1.0"]
    kind: Literal["DataContract"]
    id: str
    name: str
    version: Annotated[str, Field(pattern=_VERSION)]
    status: str
    domain: str = ""
    tags: list[str] = []
    description: _Description
    team: _Team
    schema_: Annotated[list[_Object], Field(alias="schema", min_length=1, max_length=1)]
    sla_properties: list[_Level]
    custom_properties: list[_Custom] = []


# The model of what stands under a key; what stands at the top is a _Document.
_UNDER: Final[dict[str, type[_Strict]]] = {
    "customProperties": _Custom,
    "logicalTypeOptions": _Options,
    "quality": _Quality,
    "properties": _Property,
    "schema": _Object,
    "slaProperties": _Level,
    "description": _Description,
    "team": _Team,
}


class _File:
    """One YAML file: its content as plain values, and the line of each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[tuple[str | int, ...], int] = {}
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise ContractError(
                f"{path}:1: cannot be read ({error.strerror}); check the path and its rights"
            ) from error
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            raise ContractError(f"{path}:{line}: this is not UTF-8; save the file as UTF-8 text") from error
        self._text = text
        try:
            node = yaml.compose(text, Loader=yaml.CSafeLoader)
            if not isinstance(node, yaml.MappingNode):
                raise ContractError(f"{path}:1: a contract is a mapping that begins with apiVersion: v3.1.0")
            self.content = self._value(node, ())
        except yaml.MarkedYAMLError as error:
            line = self._line(error.problem_mark) if error.problem_mark is not None else 1
            raise ContractError(f"{path}:{line}: this is not YAML: {error.problem}") from error
        except yaml.YAMLError as error:  # a character that YAML forbids; it comes with its position alone
            line = text.count("\n", 0, getattr(error, "position", 0)) + 1
            raise ContractError(f"{path}:{line}: this is not YAML: it holds a control character") from error
        except RecursionError:
            raise ContractError(
                f"{path}:1: it is nested without end; write it without anchors (&) and aliases (*)"
            ) from None

    def _value(self, node: yaml.Node, path: tuple[str | int, ...]) -> Any:
        line = self.lines[path] = self._line(node.start_mark)
        if isinstance(node, yaml.MappingNode):
            found: dict[str, Any] = {}
            for key, value in node.value:
                here = self._line(key.start_mark)
                if not isinstance(key, yaml.ScalarNode):
                    raise ContractError(f"{self.path}:{here}: a key must be a text")
                where = (*path, key.value)
                if key.value in found:
                    raise ContractError(
                        f"{self.path}:{here}: {key.value} stands here twice, first in line {self.lines[where]}; "
                        "keep one of them"
                    )
                found[key.value] = self._value(value, where)
                self.lines[where] = here
            return found
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*path, index)) for index, item in enumerate(node.value)]
        try:
            return _scalar(node)
        except (ValueError, yaml.YAMLError):  # such as 0x_, !!int abc, !own tag
            raise ContractError(f"{self.path}:{line}: {node.value!r} has no value in YAML; put it in quotes") from None

    def _line(self, mark: yaml.Mark) -> int:
        # Not the mark's own line: that counts breaks no editor knows, and may lie behind the end.
        return self._text.count("\n", 0, mark.index) + 1

    def line(self, path: tuple[str | int, ...]) -> int:
        """The line of a value, or of what it should stand in; from 1."""
        while path not in self.lines:
            path = path[:-1]
        return self.lines[path]

    def error(self, path: tuple[str | int, ...], message: str) -> ContractError:
        """Return an error that names the place."""
        return ContractError(f"{self.path}:{self.line(path)}: {message}")


def _scalar(node: yaml.Node) -> Any:
    loader = yaml.CSafeLoader("")
    try:
        # Dates stay text: the standard writes bounds of times as texts.
        return node.value if node.tag.endswith(":timestamp") else loader.construct_object(node)
    finally:
        loader.dispose()


@functools.cache
def packaged_contracts() -> Contracts:
    """Return the contracts that come with the package."""
    return load_contracts(None)


def load_contracts(directory: Path | None) -> Contracts:
    """Read all contracts; a file of the same name in `directory` takes the place of the package's.

    Raises:
        ContractError: one of them is malformed, or has other columns than the package's; the message names file and
            line.
    """
    own = _files_in(directory) if directory is not None else {}

    def read(name: str, extends: Contract | None = None) -> Contract:
        file = f"{name}{SUFFIX}"
        packaged = read_contract(PACKAGED / file, extends)
        return read_contract(own[file], extends, made=packaged) if file in own else packaged

    processed = read(PROCESSED)
    return Contracts(
        raw=read(RAW),
        processed=processed,
        enhanced=read(ENHANCED, extends=processed),
        dead_letters=read(DEAD_LETTERS),
    )


def _files_in(directory: Path) -> dict[str, Path]:
    try:
        found = {path.name: path for path in directory.iterdir() if path.suffix.lower() in {".yaml", ".yml"}}
    except OSError as error:
        raise ContractError(f"{directory}: cannot be listed ({error.strerror}); check WRM_CONTRACTS_DIR") from error
    known = [f"{name}{SUFFIX}" for name in (RAW, PROCESSED, ENHANCED, DEAD_LETTERS)]
    unknown = sorted(found.keys() - set(known))
    if unknown:
        raise ContractError(
            f"{found[unknown[0]]}:1: no dataset's contract has this name; rename it to one of {', '.join(known)}"
        )
    return found


def read_contract(path: Path, extends: Contract | None = None, made: Contract | None = None) -> Contract:
    """Read one contract.

    Args:
        path: its file.
        extends: its columns follow those of this contract.
        made: its columns must have the names, types and nulls of this contract's.

    Raises:
        ContractError: it is malformed.
    """
    file = _File(path)
    try:
        document = _Document.model_validate(file.content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise file.error(first["loc"], _sentence(first)) from None
    if f"{document.id}{SUFFIX}" != path.name:
        raise file.error(
            ("id",), f"id must be {path.name.removesuffix(SUFFIX)}, as the file's name (it is {document.id!r})"
        )
    table, levels = document.schema_[0], _levels(file, document.sla_properties)
    _extends(file, table, extends)
    inherited = extends.columns if extends is not None else ()
    own = tuple(_column(file, index, entry) for index, entry in enumerate(table.properties))
    _no_name_twice(file, inherited, own)
    if made is not None:
        _as_made(file, own, made.columns[len(inherited) :])
    warn_s, fail_s = _seconds(file, levels, "freshnessWarning"), _seconds(file, levels, "freshnessFailure")
    if warn_s >= fail_s:
        raise file.error(
            ("slaProperties", levels["freshnessWarning"][0]), "freshnessWarning must be shorter than freshnessFailure"
        )
    return Contract(
        id=document.id,
        version=document.version,
        owner=document.team.name,
        purpose=" ".join(document.description.purpose.split()),
        columns=(*inherited, *own),
        rules=_rules(file, document.id, table.quality),
        freshness_warn_s=warn_s,
        freshness_fail_s=fail_s,
        interval_s=_seconds(file, levels, "frequency"),
        retention=_text(file, levels, "retention"),
    )


def _extends(file: _File, table: _Object, extends: Contract | None) -> None:
    path = ("schema", 0, "customProperties")
    found = _custom(file, path, table.custom_properties, ("extends",)).get("extends")
    if extends is not None and found != extends.id:
        raise file.error(path, f"customProperties must hold extends with the value {extends.id} (it is {found!r})")
    if extends is None and found is not None:
        raise file.error(path, "this dataset extends no other; take extends out of customProperties")


def _no_name_twice(file: _File, inherited: tuple[Column, ...], own: tuple[Column, ...]) -> None:
    names = {column.name for column in inherited}
    for index, column in enumerate(own):
        if column.name in names:
            raise file.error(
                ("schema", 0, "properties", index, "name"),
                f"there is a column {column.name} already; give this one another name or take it out",
            )
        names.add(column.name)


def _as_made(file: _File, own: tuple[Column, ...], made: tuple[Column, ...]) -> None:
    for index, column in enumerate(own):
        if index >= len(made):
            wanted = "no further column"
        elif _shape(column) != _shape(made[index]):
            wanted = _shape(made[index])
        else:
            continue
        raise file.error(
            ("schema", 0, "properties", index),
            f"this version of the pipeline makes {wanted} here, not {_shape(column)}; start from a copy of the file in "
            f"{PACKAGED} and change bounds and rules only",
        )
    if len(own) < len(made):
        raise file.error(
            ("schema", 0, "properties"),
            f"the column {made[len(own)].name} is missing at the end; start from a copy of the file in {PACKAGED}",
        )


def _shape(column: Column) -> str:
    return f"{column.name} ({column.type}, {'may be null' if column.nullable else 'required'})"


_REASONS: Final = {
    "string_type": "must be a text; put it in quotes",
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
    "list_type": "must be a list, each entry after a dash",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "string_too_short": "must not be empty",
    "too_short": "must have an entry",
    "too_long": "must have one entry only",
}
_PATTERNS: Final = {
    _VERSION: "must be three numbers such as 1.0.0",
    _OWNER: "must be an e-mail address, or team: and a name",
}


def _sentence(error: Any) -> str:
    loc, kind = error["loc"], error["type"]
    names = [part for part in loc if isinstance(part, str)]
    key = names[-1]
    if kind == "missing":
        return f"{key} is missing"
    if kind == "extra_forbidden":
        model = _UNDER[names[-2]] if len(names) > 1 else _Document
        known = ", ".join(field.alias or name for name, field in model.model_fields.items())
        return f"{key} is no key that is known here; known are {known}"
    if kind == "literal_error":
        reason = f"must be {error['ctx']['expected']}"
    elif kind == "string_pattern_mismatch":
        reason = _PATTERNS[error["ctx"]["pattern"]]
    else:
        reason = _REASONS.get(kind) or str(error["msg"]).replace("Input should", "must")
    entry = "an entry of " if isinstance(loc[-1], int) else ""
    return f"{entry}{key} {reason} (it is {_shown(error['input'])})"


def _shown(value: object) -> str:
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else f"a list of {len(value)}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _custom(file: _File, path: tuple[str | int, ...], entries: list[_Custom], known: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for index, entry in enumerate(entries):
        if entry.property not in known or entry.property in found:
            raise file.error(
                (*path, index, "property"), f"{entry.property!r} stands here twice or is none of {', '.join(known)}"
            )
        found[entry.property] = entry.value
    return found


def _levels(file: _File, entries: list[_Level]) -> dict[str, tuple[int, _Level]]:
    known = ("freshnessWarning", "freshnessFailure", "frequency", "retention")
    levels: dict[str, tuple[int, _Level]] = {}
    for index, entry in enumerate(entries):
        if entry.property not in known or entry.property in levels:
            raise file.error(
                ("slaProperties", index, "property"),
                f"{entry.property!r} stands here twice or is none of {', '.join(known)}",
            )
        levels[entry.property] = (index, entry)
    missing = [name for name in known if name not in levels]
    if missing:
        raise file.error(("slaProperties",), f"the property {missing[0]} is missing")
    return levels


def _seconds(file: _File, levels: Mapping[str, tuple[int, _Level]], name: str) -> float:
    index, level = levels[name]
    if level.unit not in _SECONDS:
        raise file.error(
            ("slaProperties", index, "unit"),
            f"the unit of {name} must be one of {', '.join(_SECONDS)} (it is {level.unit!r})",
        )
    number = _number(level.value)
    if number is None or not _LEAST_S <= number * _SECONDS[level.unit] <= _GREATEST_S:
        raise file.error(
            ("slaProperties", index, "value"),
            f"{name} must be a number, from 1 min to 3650 d (it is {_shown(level.value)} {level.unit})",
        )
    return number * _SECONDS[level.unit]


def _text(file: _File, levels: Mapping[str, tuple[int, _Level]], name: str) -> str:
    index, level = levels[name]
    if not isinstance(level.value, str) or not level.value.strip():
        raise file.error(
            ("slaProperties", index, "value"),
            f"{name} must be a text such as 'for ever' (it is {_shown(level.value)})",
        )
    return level.value


def _number(value: object) -> float | None:
    """Return a number that can be compared with; None for what is none, infinite, or beyond a double."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _column(file: _File, index: int, entry: _Property) -> Column:
    path: tuple[str | int, ...] = ("schema", 0, "properties", index)
    if entry.physical_type not in _TYPES:
        raise file.error(
            (*path, "physicalType"),
            f"physicalType must be one of {', '.join(_TYPES)} (it is {_shown(entry.physical_type)})",
        )
    kind, logical = _TYPES[entry.physical_type]
    if entry.logical_type != logical:
        raise file.error(
            (*path, "logicalType"),
            f"logicalType must be {logical} for {entry.physical_type} (it is {_shown(entry.logical_type)})",
        )
    low, high = _bounds(file, (*path, "logicalTypeOptions"), kind, entry.logical_type_options)
    where = (*path, "customProperties")
    custom = _custom(file, where, entry.custom_properties, ("unit", "allowedValues"))
    unit, allowed = custom.get("unit", ""), custom.get("allowedValues", [])
    if not isinstance(unit, str):
        raise file.error(where, f"unit must be a text such as s (it is {_shown(unit)})")
    if not isinstance(allowed, list) or not all(isinstance(value, str) for value in allowed):
        raise file.error(where, f"allowedValues must be a list of texts (it is {_shown(allowed)})")
    if allowed and not pa.types.is_string(kind):
        raise file.error(where, f"a column of type {entry.physical_type} has no allowedValues; bound it instead")
    return Column(
        name=entry.name,
        type=kind,
        description=" ".join(entry.description.split()),
        nullable=not entry.required,
        unit=unit,
        classification=entry.classification,
        minimum=low,
        maximum=high,
        allowed=tuple(allowed),
    )


def _bounds(file: _File, path: tuple[str | int, ...], kind: pa.DataType, options: _Options) -> tuple[Bound, Bound]:
    of_text = {"minLength": options.min_length, "maxLength": options.max_length}
    of_value = {"minimum": options.minimum, "maximum": options.maximum}
    wanted, other = (of_text, of_value) if pa.types.is_string(kind) else (of_value, of_text)
    for key, value in other.items():
        if value is not None:
            raise file.error((*path, key), f"a column of type {kind} has no {key}; {' and '.join(wanted)} bound it")
    (least, low), (greatest, high) = ((key, _bound(file, (*path, key), kind, value)) for key, value in wanted.items())
    if low is not None and high is not None and low > high:  # type: ignore[operator] # both are of one type
        raise file.error((*path, least), f"{least} must not be over {greatest} ({low} is over {high})")
    return low, high


def _bound(file: _File, path: tuple[str | int, ...], kind: pa.DataType, value: object) -> Bound:
    if value is None:
        return None
    bound: Bound = None
    if pa.types.is_string(kind):
        return value  # type: ignore[return-value] # a length, seen to be a whole number by the model
    if pa.types.is_integer(kind):
        wanted = "a whole number that fits 32 bits"
        if isinstance(value, int) and not isinstance(value, bool) and -_INT32_MAX - 1 <= value <= _INT32_MAX:
            bound = value
    elif pa.types.is_floating(kind):
        wanted = "a number"
        bound = _number(value)
    elif pa.types.is_timestamp(kind):
        wanted = 'a time with its zone, such as "2000-01-01T00:00:00Z"'
        bound = _time(value)
    else:
        raise file.error(path, f"a column of type {kind} has no {path[-1]}; take it out")
    if bound is None:
        raise file.error(path, f"{path[-1]} must be {wanted} (it is {_shown(value)})")
    return bound


def _time(value: object) -> dt.datetime | None:
    if not isinstance(value, str):
        return None
    try:
        time = dt.datetime.fromisoformat(value)
        return time.astimezone(dt.UTC) if time.tzinfo is not None else None
    except (ValueError, OverflowError):  # overflow: the first or last day there is, in UTC
        return None


def _rules(file: _File, dataset: str, entries: list[_Quality]) -> dict[str, Rule]:
    rules: dict[str, Rule] = {}
    for index, entry in enumerate(entries):
        path: tuple[str | int, ...] = ("schema", 0, "quality", index)
        if entry.name in rules:
            raise file.error((*path, "name"), f"the rule {entry.name} stands here twice; keep one of them")
        rules[entry.name] = _rule(file, path, dataset, entry)
    missing = [
        name for name, spec in VOCABULARY.items() if spec.built_in and dataset in spec.datasets and name not in rules
    ]
    if missing:
        raise file.error(
            ("schema", 0, "quality"), f"the rule {missing[0]} is missing; it cannot be switched off, write it again"
        )
    return rules


def _rule(file: _File, path: tuple[str | int, ...], dataset: str, entry: _Quality) -> Rule:
    here = sorted(name for name, spec in VOCABULARY.items() if dataset in spec.datasets)
    spec = VOCABULARY.get(entry.name)
    if spec is None or dataset not in spec.datasets:
        raise file.error(
            (*path, "name"), f"there is no rule {_shown(entry.name)} for this dataset; known are {', '.join(here)}"
        )
    if entry.severity not in tuple(Severity):
        raise file.error((*path, "severity"), f"severity must be error or warning (it is {_shown(entry.severity)})")
    if entry.dimension not in _DIMENSIONS:
        raise file.error(
            (*path, "dimension"), f"dimension must be one of {', '.join(_DIMENSIONS)} (it is {_shown(entry.dimension)})"
        )
    if spec.built_in and entry.severity != Severity.ERROR:
        raise file.error((*path, "severity"), f"severity of {entry.name} must be error: it leaves no row to flag")
    if set(entry.implementation) != set(spec.arguments):
        raise file.error(
            (*path, "implementation"),
            f"implementation of {entry.name} must hold {', '.join(spec.arguments) or 'nothing, write {}'} "
            f"(it holds {', '.join(entry.implementation) or 'nothing'})",
        )
    arguments: dict[str, float] = {}
    for name in spec.arguments:
        number = _number(entry.implementation[name])
        if number is None:
            shown = _shown(entry.implementation[name])
            raise file.error((*path, "implementation", name), f"{name} must be a number (it is {shown})")
        arguments[name] = number
    return Rule(
        name=entry.name,
        scope=spec.scope,
        dimension=_DIMENSIONS[entry.dimension],
        severity=Severity(entry.severity),
        description=" ".join(entry.description.split()),
        arguments=arguments,
        place=f"{file.path.name}:{file.line(path)}",
    )
