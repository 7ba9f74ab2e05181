"""Histories of operations: kept in memory to be checked, recorded to files line by line."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, fields, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from ..errors import ConfigurationError
from ..process import clock
from .operations import Fault, Kind, Operation, Outcome

#: Operations that a history holds by default; 1,000,000 take about 250 MB.
LIMIT = 1_000_000


class History:
    """Operations and faults, in any order.

    Args:
        operations: those that it begins with.
        faults: those that it begins with.
        limit: the most operations that it takes.
    """

    def __init__(
        self,
        operations: Iterable[Operation] = (),
        faults: Iterable[Fault] = (),
        *,
        limit: int = LIMIT,
    ) -> None:
        self.limit = limit
        self.operations: list[Operation] = []
        self.faults = list(faults)
        for operation in operations:
            self.add(operation)

    def add(self, operation: Operation) -> None:
        """Add an operation. Raises ConfigurationError beyond the limit."""
        if len(self.operations) >= self.limit:
            raise ConfigurationError(
                f"a history of more than {self.limit} operations: record for a shorter time, or "
                "raise limit"
            )
        self.operations.append(operation)

    @property
    def until(self) -> float:
        """The last moment that it knows of; 0 if it is empty."""
        moments = [0.0]
        for one in self.operations:
            moments.append(one.invoked if math.isinf(one.completed) else one.completed)
        return max(moments)

    @classmethod
    def read(cls, *paths: str | os.PathLike[str], limit: int = LIMIT) -> History:
        """Read the JSON lines of one history, which may be in several files.

        A last line that is not complete, as of a process that was killed, is left out.
        Raises ConfigurationError with file and line if another one is wrong.
        """
        history, opened = cls(limit=limit), dict[tuple[str, int], Operation]()
        faults = dict[tuple[str, float, str | None, tuple[str, ...] | None], Fault]()
        for path in map(Path, paths):
            for place, line in enumerate(_lines(path), 1):
                try:
                    values = json.loads(line)
                    if not isinstance(values, dict):
                        raise ValueError("not a JSON object")  # noqa: TRY004  # with the others
                    if "fault" in values:
                        fault = _fault(values)  # a later line may have its end
                        named = fault.kind, fault.since, fault.process, fault.conversations
                        faults[named] = fault
                        continue
                    number = values.pop("number", None)
                    operation = _operation(values)
                except (ValueError, TypeError, KeyError, AttributeError) as error:
                    raise ConfigurationError(
                        f"{path}, line {place} is not an operation or a fault: {error}"
                    ) from None
                if number is None:
                    history.add(operation)
                else:
                    opened[operation.process, number] = operation  # the later line has its outcome
                    if len(opened) > limit:
                        break
        for operation in opened.values():
            history.add(operation)
        history.faults += faults.values()
        return history

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write it as JSON lines, which `read` reads. Raises OSError."""
        with Path(path).open("w", encoding="utf-8") as file:
            file.writelines(_line(_of_fault(fault)) for fault in self.faults)
            file.writelines(_line(_values(operation)) for operation in self.operations)


class Recorder:
    """Appends the operations of one worker to a file; what was recorded outlives its death.

    A context manager. Each operation is a line when it is called, and another one with its outcome.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._number = 0

    def invoke(self, kind: Kind, process: str, conversation: str, **known: Any) -> Call:
        """Record that an operation is called now.

        Args:
            known: attributes of the `Operation` that are known already.
        """
        self._number += 1
        operation = Operation(kind, process, conversation, clock(), **known)
        self._write({"number": self._number, **_values(operation)})
        return Call(self, self._number, operation)

    def fault(self, fault: Fault) -> None:
        """Record a fault that is over, or lasts to the end unless it is recorded again."""
        self._write(_of_fault(fault))

    def _write(self, values: dict[str, Any]) -> None:
        os.write(self._file, _line(values).encode())

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._file)


class Call:
    """An operation that has been called; say once what came of it."""

    __slots__ = ("_number", "_operation", "_recorder")

    def __init__(self, recorder: Recorder, number: int, operation: Operation) -> None:
        self._recorder, self._number, self._operation = recorder, number, operation

    def arrived(self) -> None:
        """The place in the queue is certain now."""
        self._note(replace(self._operation, arrived=clock()))

    def ok(self, **found: Any) -> None:
        """It has happened; `found` are attributes of the `Operation`."""
        self._end("ok", found)

    def fail(self) -> None:
        """It has certainly not happened."""
        self._end("fail", {})

    def unknown(self) -> None:
        """It may have happened."""
        self._end("unknown", {})

    def _end(self, outcome: Outcome, found: dict[str, Any]) -> None:
        self._note(replace(self._operation, completed=clock(), outcome=outcome, **found))

    def _note(self, operation: Operation) -> None:
        self._operation = operation
        self._recorder._write({"number": self._number, **_values(operation)})  # noqa: SLF001


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                if line.endswith("\n"):
                    yield line
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error  # without the file name
        raise ConfigurationError(f"{path} cannot be read: {why}") from error


def _line(values: dict[str, Any]) -> str:
    return json.dumps(values, separators=(",", ":")) + "\n"


def _values(one: Operation | Fault, *without: str) -> dict[str, Any]:
    """What is known of it: JSON has no infinity."""
    found = {each.name: getattr(one, each.name) for each in fields(one) if each.name not in without}
    return {name: value for name, value in found.items() if value not in (None, math.inf)}


def _of_fault(fault: Fault) -> dict[str, Any]:
    return {"fault": fault.kind, **_values(fault, "kind")}


def _check(kind: type[Operation | Fault], values: dict[str, Any]) -> None:
    """Raise ValueError if an attribute is missing, or one is there that `kind` does not have."""
    needed = [each.name for each in fields(kind) if each.default is MISSING]
    if missing := [name for name in needed if name not in values]:
        raise ValueError(f"{' and '.join(missing)} missing")
    if more := values.keys() - {each.name for each in fields(kind)}:
        raise ValueError(f"{' and '.join(sorted(more))} not known")


def _operation(values: dict[str, Any]) -> Operation:
    _check(Operation, values)
    for name in ("kind", "process", "conversation"):
        values[name] = sys.intern(values[name])  # they are the same in many operations
    return Operation(**values)


def _fault(values: dict[str, Any]) -> Fault:
    values["kind"] = values.pop("fault")
    _check(Fault, values)
    if values.get("conversations") is not None:
        values["conversations"] = tuple(values["conversations"])
    return Fault(**values)
