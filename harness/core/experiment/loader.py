"""Experiment file in, Experiment out; or every problem of it at once, in plain words."""

from __future__ import annotations

import functools
from copy import deepcopy
from typing import TYPE_CHECKING, Any, get_args

from pydantic import ValidationError

from harness.core.errors import InputError, Problem
from harness.core.experiment.bad_value import BadValueError, nearest, shown
from harness.core.experiment.builds import BUILD_KINDS
from harness.core.experiment.checks import problems_of
from harness.core.experiment.model import Experiment
from harness.core.experiment.paths import Path, path_text, related
from harness.core.experiment.section import Section
from harness.core.experiment.yaml_text import Flaw, YamlTextError, read_yaml

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_STAND_IN_BUILD = {"path": "/"}
_STAND_INS: dict[str, object] = {
    "name": "stand-in",
    "builds": {"A": _STAND_IN_BUILD, "B": _STAND_IN_BUILD},
    "baseline": "A",
}
"""What required keys are taken for when they are missing or wrong, so that the rest can still be checked."""

_KEY = "[key]"
_KIND = 2
"""Where pydantic's location holds the kind of a build: builds, its name, its kind."""
_ROUNDS = 8
"""Far more often than taking out what is wrong uncovers something else."""


# A command asks several times for the experiment of the run that it shows.
@functools.lru_cache(maxsize=4)
def load_experiment(text: str, source: str) -> Experiment:
    """Return the experiment that a text describes; nobody changes it.

    Args:
        text: the YAML.
        source: what to call the text in messages (its file's name).

    Raises:
        InputError: with every problem there is.
    """
    document, flaws = _read(text, source)
    problems = [_flaw_problem(flaw, source) for flaw in flaws]
    experiment, further = _validate(document, source)
    problems += further
    if problems or experiment is None:
        raise InputError(problems)
    return experiment


def _read(text: str, source: str) -> tuple[dict[str, Any], list[Flaw]]:
    try:
        document, flaws = read_yaml(text)
    except YamlTextError as error:
        raise InputError([_flaw_problem(error.flaw, source)]) from error
    if document is None and flaws:
        raise InputError([_flaw_problem(flaw, source) for flaw in flaws])
    if document is None:
        raise InputError.single(
            source,
            "the file is empty",
            "write an experiment; fio/quick.yml is an example, docs/experiment.md lists the keys",
        )
    if not isinstance(document, dict):
        raise InputError.single(
            source,
            f"the file holds {shown(document)} instead of an experiment's keys",
            "begin with name:, builds: and baseline:; fio/quick.yml is an example",
        )
    return document, flaws


def _flaw_problem(flaw: Flaw, source: str) -> Problem:
    where = f"{source}: {path_text(flaw.path)}" if flaw.path else source
    if flaw.line and not flaw.path:
        where = f"{source}: line {flaw.line}, column {flaw.column}"
    return Problem(where, flaw.message, flaw.remedy)


def _validate(document: dict[str, Any], source: str) -> tuple[Experiment | None, list[Problem]]:
    """Return the experiment, if there is one, and every problem.

    What is wrong is taken out (or replaced by a stand-in) and the rest looked at again, because pydantic
    stops at the first error of a value, and because good values may contradict one another beside bad ones.
    What concerns a value taken out is left unsaid.
    """
    problems: list[Problem] = []
    broken: list[Path] = []
    experiment: Experiment | None = None
    remains = document
    for _ in range(_ROUNDS):
        try:
            experiment = Experiment.model_validate(remains)
            break
        except ValidationError as error:
            errors = [_Located(details, remains) for details in error.errors(include_url=False)]
            said = {problem.where for problem in problems}
            problems += [
                problem
                for e in errors
                if (problem := e.problem(source)) not in problems
                # What was wrong is taken out, and then missing.
                and not (e.kind == "missing" and problem.where in said)
            ]
            remains, further = _without(errors, remains)
            broken += further
    if experiment is None:
        return None, problems
    problems += [
        Problem(f"{source}: {finding.key}", finding.message, finding.remedy)
        for finding in problems_of(experiment)
        if not _concerns(finding.paths, broken)
    ]
    return experiment, problems


def _concerns(paths: tuple[Path, ...], broken: list[Path]) -> bool:
    return any(related(path, bad) for path in paths for bad in broken)


class _Located:
    """One of pydantic's errors, with its place in the file rather than in the types."""

    def __init__(self, details: ErrorDetails, document: dict[str, Any]) -> None:
        self.kind = details["type"]
        self.details = details
        self.of_key = bool(details["loc"]) and details["loc"][-1] == _KEY
        self.path = _file_path(details["loc"], document)

    def problem(self, source: str) -> Problem:
        message, remedy = self._words()
        return Problem(f"{source}: {path_text(self.path)}", message, remedy)

    def _words(self) -> tuple[str, str | None]:
        cause = self.details.get("ctx", {}).get("error")
        if isinstance(cause, BadValueError):
            return cause.message, cause.remedy
        if self.kind == "missing":
            return "is missing", _missing_remedy(self.path)
        if self.kind == "extra_forbidden":
            return _unknown_key(self.path, self.details["loc"])
        if self.kind in {"model_type", "model_attributes_type", "dict_type"}:
            remedy = f"write keys below it, or remove {path_text(self.path)}"
            return f"{shown(self.details['input'])} where keys are expected", remedy
        return self.details["msg"], None


def _file_path(loc: tuple[str | int, ...], document: dict[str, Any]) -> Path:
    """Return where an error is in the file: without the kind of build and the index of a lone value."""
    if len(loc) > _KIND and loc[0] == "builds" and loc[_KIND] in BUILD_KINDS:
        loc = (*loc[:_KIND], *loc[_KIND + 1 :])
    path: Path = ()
    for part in loc:
        if part == _KEY or (isinstance(part, int) and not isinstance(_at(document, path), list)):
            continue
        path = (*path, part)
    return path


# -- words ---------------------------------------------------------------------------------------------------


def _section_types(annotation: object) -> list[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [found for part in get_args(annotation) for found in _section_types(part)]


def _section_at(loc: tuple[str | int, ...]) -> type[Section] | None:
    """Return the type of the section at pydantic's location."""
    if len(loc) > _KIND and loc[0] == "builds":
        return BUILD_KINDS.get(str(loc[_KIND]))
    here: type[Section] = Experiment
    for part in loc:
        field = here.model_fields.get(str(part))
        found = _section_types(field.annotation) if field else []
        if not found:
            return None
        here = found[0]
    return here


def _missing_remedy(path: Path) -> str:
    section = _section_at(path[:-1])
    field = section.model_fields.get(str(path[-1])) if section else None
    return f"add {path[-1]}: {field.description}" if field and field.description else f"add {path[-1]}"


def _homes(key: str) -> list[str]:
    """Return the sections that know a key."""
    sections = {"": Experiment} | {
        name: found[0]
        for name, field in Experiment.model_fields.items()
        if (found := _section_types(field.annotation))
    }
    sections.pop("builds", None)
    return [name for name, section in sections.items() if key in section.model_fields]


def _unknown_key(path: Path, loc: tuple[str | int, ...]) -> tuple[str, str]:
    key = str(path[-1])
    section = _section_at(loc[:-1])
    known = list(section.model_fields) if section else []
    homes = _homes(key)
    near = None if homes else nearest(key, known)
    if near:
        return "is an unknown key", f"did you mean {near}?"
    if homes:
        return (
            "is an unknown key here",
            f"it belongs {f'under {homes[0]}' if homes[0] else 'to the top level'}",
        )
    return "is an unknown key", f"the keys here are: {', '.join(known)}"


# -- the rest of a broken document ---------------------------------------------------------------------------


def _without(errors: list[_Located], document: dict[str, Any]) -> tuple[dict[str, Any], list[Path]]:
    """Return a copy of the document without what is wrong, and the paths nothing can be said of any more."""
    repaired = deepcopy(document)
    broken: list[Path] = []
    # The last item of a list first, so that the others keep their places.
    for error in sorted(errors, key=lambda e: tuple(str(p).rjust(6, "0") for p in e.path), reverse=True):
        broken += _repair(error, repaired)
    return repaired, broken


def _repair(error: _Located, document: dict[str, Any]) -> list[Path]:
    """Take one wrong value out of the document; return the paths nothing can be said of any more."""
    path = error.path
    if error.kind == "extra_forbidden":
        _remove(document, path)
        return []
    if len(path) == 1 and path[0] in _STAND_INS:
        document[str(path[0])] = deepcopy(_STAND_INS[str(path[0])])
        return [path, ("baseline",)] if path[0] == "builds" else [path]
    if path[0] == "builds" and not error.of_key:
        # The name is good, whatever is wrong with the build: it counts.
        document["builds"][path[1]] = dict(_STAND_IN_BUILD)
        return []
    if error.kind == "missing":
        path = path[:-1]
    _remove(document, path)
    while path and isinstance(path[-1], int):
        path = path[:-1]
    return [path[:1]] if error.of_key else [path]


def _remove(document: dict[str, Any], path: Path) -> None:
    holder = _at(document, path[:-1])
    last = path[-1]
    if isinstance(holder, dict):
        holder.pop(last, None)
    elif isinstance(holder, list) and isinstance(last, int) and last < len(holder):
        del holder[last]
        if not holder:
            _remove(document, path[:-1])


def _at(document: object, path: Path) -> object:
    """Return what stands at a path, or None."""
    here = document
    for part in path:
        if isinstance(here, dict):
            here = here.get(part)
        elif isinstance(here, list) and isinstance(part, int) and part < len(here):
            here = here[part]
        else:
            return None
    return here
