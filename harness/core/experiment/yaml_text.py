"""YAML as experiment files use it: YAML 1.2's plain scalars, every duplicate key and odd tag reported.

PyYAML follows YAML 1.1, where ``NO`` is false, ``010`` is eight and ``1:30`` is ninety, keeps the last of two
equal keys in silence, and expands nested aliases without end. None of this should happen to a measurement.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from harness.core.experiment.paths import Path

_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(
    r"[-+]?(?:[0-9]+\.[0-9]*(?:[eE][-+]?[0-9]+)?|\.[0-9]+(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)"
)
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_NULL = re.compile(r"~|null|Null|NULL|")
_ODD_ENDS = re.compile("[\x85\u2028\u2029]")
_TAG = "tag:yaml.org,2002:"
_LONGEST_NUMBER = 40
# An experiment has some thousand characters. PyYAML takes a second for ten thousands of values.
_MAX_CHARS = 64 * 1024
_MAX_NODES = 5_000
_MAX_DEPTH = 30
_TOO_DEEP = ("it is nested too deeply", "an experiment has few levels")
_UNREADABLE = object()


@dataclass(frozen=True, slots=True)
class Flaw:
    """Something wrong with the text itself.

    Attributes:
        path: the key, as far as there is one.
        line: counted from 1; 0 when it concerns the whole text.
        column: counted from 1.
        message: what is wrong.
        remedy: how to put it right.
    """

    path: Path
    line: int
    column: int
    message: str
    remedy: str | None = None


class YamlTextError(Exception):
    """The text is no YAML that could be looked at any further."""

    def __init__(self, flaw: Flaw) -> None:
        super().__init__(flaw.message)
        self.flaw = flaw


class _Loader(yaml.SafeLoader):
    """PyYAML's loader with YAML 1.2's idea of what is a number, a truth value or nothing.

    It stops at what is no experiment while it reads: the time that PyYAML takes grows with the square of
    the depth, and it would read to the end first.
    """

    composed = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.composed += 1
        if self.composed > _MAX_NODES:
            raise YamlTextError(_flaw_here(self, "it holds too many values", "an experiment has few"))
        node: yaml.Node | None = super().compose_node(parent, index)
        return node

    def fetch_flow_collection_start(self, token: type[yaml.Token]) -> None:
        if self.flow_level > _MAX_DEPTH:
            raise YamlTextError(_flaw_here(self, *_TOO_DEEP))
        super().fetch_flow_collection_start(token)


_Loader.yaml_implicit_resolvers = {}


class _Dumper(yaml.SafeDumper):
    """PyYAML's dumper, which also quotes what only _Loader takes for a number."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        """Return a text's node; escaped where PyYAML writes ends of lines that it reads as others."""
        return self.represent_scalar(f"{_TAG}str", text, style='"' if _ODD_ENDS.search(text) else None)


_Loader.add_implicit_resolver(f"{_TAG}null", re.compile(rf"(?:{_NULL.pattern})\Z"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver(f"{_TAG}bool", re.compile(rf"(?:{_BOOL.pattern})\Z"), list("tTfF"))
_Loader.add_implicit_resolver(f"{_TAG}int", re.compile(rf"{_INT.pattern}\Z"), list("-+0123456789"))
_Loader.add_implicit_resolver(f"{_TAG}float", re.compile(rf"{_FLOAT.pattern}\Z"), list("-+.0123456789"))
_Dumper.add_representer(str, _Dumper.represent_text)
_Dumper.add_implicit_resolver(f"{_TAG}float", re.compile(rf"{_FLOAT.pattern}\Z"), list("-+.0123456789"))


@dataclass(slots=True)
class _Builder:
    """Turns nodes into plain Python values and collects what is wrong with them."""

    flaws: list[Flaw] = field(default_factory=list)
    nodes: int = 0

    def build(self, node: yaml.Node, path: Path) -> object:
        self.nodes += 1
        if self.nodes > _MAX_NODES:
            raise YamlTextError(
                _flaw_at(node, (), "it expands to too many values", "use fewer aliases (*name)")
            )
        if len(path) > _MAX_DEPTH:
            raise YamlTextError(_flaw_at(node, (), *_TOO_DEEP))
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
            items = [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
            return [item for item in items if item is not _UNREADABLE]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        self._odd_tag(node, path)
        return _UNREADABLE

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, object]:
        built: dict[str, object] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self.flaws.append(
                    _flaw_at(key_node, path, "a key is a list or a mapping", "write keys as plain words")
                )
                continue
            # As text, whatever it looks like: a build may be called 7.2 or NO.
            key: str = key_node.value
            if not _is_text(key):
                self.flaws.append(_flaw_at(key_node, path, *_HALF))
                continue
            if key in built:
                self.flaws.append(
                    _flaw_at(
                        key_node,
                        (*path, key),
                        f"the key is there twice, in lines {lines[key]} and {_line(key_node)}",
                        "keep one of them",
                    )
                )
                continue
            lines[key] = _line(key_node)
            value = self.build(value_node, (*path, key))
            if value is not _UNREADABLE:
                built[key] = value
        return built

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> object:
        text: str = node.value
        if not _is_text(text):
            self.flaws.append(_flaw_at(node, path, *_HALF))
            return _UNREADABLE
        kind = node.tag.removeprefix(_TAG)
        if kind == "str" or len(text) > _LONGEST_NUMBER:
            return text
        value = _plain_value(kind, text)
        if value is _UNREADABLE:
            self._odd_tag(node, path)
        return value

    def _odd_tag(self, node: yaml.Node, path: Path) -> None:
        tag = node.tag.replace(_TAG, "!!")[:_LONGEST_NUMBER]
        self.flaws.append(
            _flaw_at(node, path, f"the YAML tag {tag} means nothing here", "write the plain value")
        )


def _plain_value(kind: str, text: str) -> object:
    """Return what a scalar of one of YAML's kinds stands for; _UNREADABLE where the text says otherwise."""
    if kind == "null":
        return None
    # An explicit tag (!!int x) can claim what the text does not bear out, hence the matches.
    if kind == "bool" and _BOOL.fullmatch(text):
        return text.lower() == "true"
    if kind == "int" and _INT.fullmatch(text):
        return int(text)
    if kind == "float" and (_FLOAT.fullmatch(text) or _INT.fullmatch(text)):
        return float(text)
    return _UNREADABLE


_HALF = ("half of a character (an escape such as \\ud800) is no text", "write the character itself")


def _is_text(text: str) -> bool:
    """Return whether a text can be written to a file: an escape can make halves of characters."""
    return not any("\ud800" <= char <= "\udfff" for char in text)


def _flaw_here(loader: yaml.SafeLoader, message: str, remedy: str) -> Flaw:
    return Flaw((), int(loader.line) + 1, int(loader.column) + 1, message, remedy)


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _flaw_at(node: yaml.Node, path: Path, message: str, remedy: str) -> Flaw:
    return Flaw(path, _line(node), int(node.start_mark.column) + 1, message, remedy)


def _syntax_flaw(error: yaml.YAMLError, text: str) -> Flaw:
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        problem = ": ".join(part for part in (error.context, error.problem) if part)
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        source_line = text.splitlines()[line - 1] if 0 < line <= len(text.splitlines()) else ""
        remedy = (
            "indent with blanks, not with tabs" if "\t" in source_line[:column] else "correct the YAML there"
        )
        return Flaw((), line, column, f"not valid YAML: {problem}", remedy)
    position = getattr(error, "position", None)
    if isinstance(position, int):
        before = text[:position]
        column = position - (before.rfind("\n") + 1) + 1
        return Flaw(
            (),
            before.count("\n") + 1,
            column,
            "not valid YAML: a character that text does not hold",
            "save the file as UTF-8 text",
        )
    return Flaw((), 0, 0, f"not valid YAML: {error}", "correct the YAML")


def read_yaml(text: str) -> tuple[object, list[Flaw]]:
    """Return the document as plain values (keys always text), with what is wrong but could be read past.

    An empty document is None.

    Raises:
        YamlTextError: the text cannot be read at all.
    """
    if len(text) > _MAX_CHARS:
        raise YamlTextError(
            Flaw((), 0, 0, "the file is too large for an experiment", "give an experiment file")
        )
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise YamlTextError(_syntax_flaw(error, text)) from error
    except RecursionError:
        raise YamlTextError(Flaw((), 0, 0, *_TOO_DEEP)) from None
    except (ValueError, OverflowError) as error:
        # PyYAML lets some escapes (a code point that does not exist) and directives through to Python.
        raise YamlTextError(Flaw((), 0, 0, f"not valid YAML: {error}", "correct the YAML")) from error
    if node is None:
        return None, []
    builder = _Builder()
    document = builder.build(node, ())
    return None if document is _UNREADABLE else document, builder.flaws


def write_yaml(document: dict[str, Any]) -> str:
    """Return a document as YAML that read_yaml reads back unchanged."""
    text: str = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return text
