"""The reference pages of docs/, made from the code: experiment keys, JSON of results, command line.

`make docs` writes them; a unit test fails where a page is older than the code.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.analysis.documents import result_schema
from harness.core.experiment import Experiment, json_schema
from harness.core.experiment import quantities as q
from harness.core.experiment import values as v
from harness.shell.cli.main import cli

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DOCS = Path(__file__).parents[1] / "docs"

_MARKED = re.compile(r"<!-- generated: (.+?) -->\n.*?<!-- end of generated -->\n", re.DOTALL)
_KINDS = {
    q.SIZE_PATTERN: "size",
    q.DURATION_PATTERN: "duration",
    q.PERCENT_PATTERN: "percentage",
    v.CPUSET_PATTERN: "CPUs",
    v.NAME_PATTERN: "name",
    "^/": "absolute path",
}
_WIDTH = 118


def fresh(page: str, text: str) -> str:
    """Return a page with everything that comes from the code made anew; prose stays as it is."""
    if page == "cli.md":
        return cli_page()
    return _MARKED.sub(lambda found: _marked(found[1], _table(found[1])), text)


def generated_pages() -> list[str]:
    """Return the names of the pages that hold anything made from the code."""
    return ["cli.md", *(page.name for page in sorted(DOCS.glob("*.md")) if _MARKED.search(page.read_text()))]


def generated_parts(text: str) -> list[str]:
    """Return what a page has made from the code: `keys of disk`, `JSON of Cell`."""
    return [found[1] for found in _MARKED.finditer(text)]


def _marked(what: str, table: str) -> str:
    return f"<!-- generated: {what} -->\n{table}<!-- end of generated -->\n"


def _table(what: str) -> str:
    kind, _, name = what.partition(" of ")
    if kind == "keys":
        return key_table(name)
    if kind == "JSON":
        return json_table(name)
    raise ValueError(f"nothing makes {what!r}")


def _rows(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


# -- experiment files ----------------------------------------------------------------------------------------


def key_sections() -> list[str]:
    """Return the parts of an experiment file that need a table of keys."""
    sections = [name for name, prop in json_schema()["properties"].items() if _section(prop)]
    return ["the top level", "builds", *sections]


def key_table(section: str) -> str:
    """Return the table of the keys of one section of an experiment file."""
    schema = json_schema()
    if section == "the top level":
        properties = {k: p for k, p in schema["properties"].items() if not _section(p)}
        rows = [_key_row(key, prop, key in schema["required"]) for key, prop in properties.items()]
    elif section == "builds":
        rows = list(_build_rows(schema))
    else:
        rows = list(_section_rows(section, schema["$defs"][section.capitalize()]))
    return _rows(("key", "value", "default", "meaning"), rows)


def _build_rows(schema: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    kinds = [part["$ref"].rpartition("/")[2] for part in _build_kinds(schema)]
    every = [key for kind in kinds for key in schema["$defs"][kind]["properties"]]
    shared = {key for key in every if every.count(key) > 1}
    seen: set[str] = set()
    for kind in kinds:
        definition = schema["$defs"][kind]
        # What says where the build comes from first, what builds from source share last.
        for key in sorted(
            definition["properties"], key=lambda k: (k not in definition["required"], k in shared)
        ):
            if key not in seen:
                seen.add(key)
                yield _key_row(f"builds.NAME.{key}", definition["properties"][key], required=False)


def _build_kinds(schema: dict[str, Any]) -> list[dict[str, str]]:
    (named,) = schema["properties"]["builds"]["patternProperties"].values()
    kinds: list[dict[str, str]] = named["oneOf"]
    return kinds


def _section_rows(prefix: str, definition: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for key, prop in definition["properties"].items():
        inner = _section(prop)
        if inner:
            yield from _section_rows(f"{prefix}.{key}", json_schema()["$defs"][inner])
        else:
            yield _key_row(f"{prefix}.{key}", prop, key in definition.get("required", ()))


def _key_row(key: str, prop: dict[str, Any], required: bool) -> tuple[str, ...]:  # noqa: FBT001 - private
    default = "required" if required else _default(key, prop)
    return (f"`{key}`", _value(prop), default, prop["description"])


def _section(prop: dict[str, Any]) -> str | None:
    """Return the name of the section that a key holds, if it holds one."""
    refs = [part["$ref"] for part in (prop, *prop.get("anyOf", ())) if "$ref" in part]
    return refs[0].rpartition("/")[2] if refs else None


def _value(prop: dict[str, Any]) -> str:
    """Say in a word what may be written."""
    parts = [part for part in prop.get("anyOf", (prop,)) if part.get("type") != "null"]
    single = [part for part in parts if part.get("type") != "array"]
    words = dict.fromkeys(word for part in single for word in _words(part))
    # 1g is what people write; that a plain number is taken too, the page says once.
    if {"size", "duration", "percentage", "CPUs"} & set(words):
        words.pop("number", None)
    return ", ".join(words) + (", or a list" if len(single) < len(parts) else "")


def _words(part: dict[str, Any]) -> list[str]:
    if "anyOf" in part:
        return [word for inner in part["anyOf"] for word in _words(inner)]
    if "enum" in part:
        return _choices(part["enum"])
    if part.get("type") == "object":
        return ["mapping"]
    if part.get("type") in {"integer", "number"}:
        bounded = part.get("maximum", q.MAX_WHOLE) < q.MAX_WHOLE
        return [f"{part['minimum']} to {part['maximum']}" if bounded else "number"]
    return [_KINDS.get(part.get("pattern", ""), "text")]


def _choices(choices: list[Any]) -> list[str]:
    if True in choices:  # of the many ways to write a switch
        return ["`true`, `false`"]
    if all(isinstance(choice, int) for choice in choices):
        return [f"{min(choices)} to {max(choices)}"]
    return [f"`{choice}`" for choice in choices]


def _default(key: str, prop: dict[str, Any]) -> str:
    """Return a key's default as an experiment file would have it."""
    found: Any = Experiment.model_validate(_least()).model_dump(mode="json")
    for part in key.split("."):
        # Of builds, and of what is not there at all by default, the schema knows.
        found = found.get(part, prop.get("default")) if isinstance(found, dict) else prop.get("default")
    if isinstance(found, list):
        found = ", ".join(map(str, found))
    if found is None or found in ({}, ""):
        return ""
    return f"`{str(found).lower() if isinstance(found, bool) else found}`"


def _least() -> dict[str, Any]:
    return {"name": "n", "builds": {"A": {"path": "/a"}, "B": {"path": "/b"}}, "baseline": "A"}


# -- JSON of results -----------------------------------------------------------------------------------------


def json_types() -> list[str]:
    """Return the objects that the JSON of results is made of."""
    return [name for name, kind in result_schema()["$defs"].items() if "properties" in kind]


def json_table(name: str) -> str:
    """Return the table of the keys of one object."""
    definitions = result_schema()["$defs"]
    definition = definitions[name]
    rows = []
    for key, prop in definition["properties"].items():
        # A key that says nothing of itself holds an object that does.
        held = definitions.get(prop.get("$ref", "").rpartition("/")[2], {})
        meaning = prop.get("description") or held["description"]
        maybe = "" if key in definition["required"] else " May be absent."
        rows.append((f"`{key}`", _type(prop, definitions), meaning + maybe))
    return _rows(("key", "type", "meaning"), rows)


def _type(prop: dict[str, Any], definitions: dict[str, Any]) -> str:
    if "$ref" in prop:
        name = prop["$ref"].rpartition("/")[2]
        held = definitions[name]
        return _type(held, definitions) if "enum" in held else f"[{name}](#{name.lower()})"
    if "anyOf" in prop:
        return " or ".join(dict.fromkeys(_type(part, definitions) for part in prop["anyOf"]))
    if "const" in prop or "enum" in prop:
        return " / ".join(f"`{value}`" for value in prop.get("enum", [prop.get("const")]))
    if prop.get("type") == "array":
        return f"list of {_type(prop['items'], definitions)}"
    held = prop.get("additionalProperties")
    return f"object of {_type(held, definitions)}" if isinstance(held, dict) else str(prop["type"])


# -- command line --------------------------------------------------------------------------------------------


def commands() -> dict[str, click.Command]:
    """Return every command by what is typed: `harness`, `harness run`, `harness builds list`."""
    return dict(_commands("harness", cli))


def _commands(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=name)
        for verb in command.list_commands(context):
            inner = command.get_command(context, verb)
            if inner is not None and not inner.hidden:
                yield from _commands(f"{name} {verb}", inner)


def options(command: click.Command) -> list[click.Option]:
    """Return a command's options in the order of its help, without hidden ones."""
    return [p for p in command.params if isinstance(p, click.Option) and not p.hidden]


def cli_page() -> str:
    """Return docs/cli.md."""
    found = commands()
    verbs = {name: command for name, command in found.items() if name != "harness"}
    parts = [_CLI_HEAD, _rows(("verb", "does"), ((_link(n), _summary(c)) for n, c in verbs.items()))]
    parts += ["\n## Exit codes\n\n", _exit_codes(verbs)]
    parts += [_verb(name, command) for name, command in verbs.items()]
    return "".join(parts)


_CLI_HEAD = """\
# Command line

Made from the code by `make docs`; `harness VERB --help` says the same. `harness --version` prints the
version, and `eval "$(_HARNESS_COMPLETE=bash_source harness)"` completes verbs and options in bash (also zsh,
fish).

"""


def _exit_codes(verbs: dict[str, click.Command]) -> str:
    failing = [
        _link(name) for name, command in verbs.items() if "fail_on" in {p.name for p in command.params}
    ]
    which = ", ".join(failing)
    unclear = ", ".join(_link(name) for name, command in verbs.items() if _may_fail_on(command, "unclear"))
    return _rows(
        ("code", "when"),
        (
            ("0", "done"),
            ("1", "the run failed; `doctor`: a run could not work here"),
            ("2", "invalid input or usage: every problem is named, nothing was touched"),
            ("3", f"a `slower` (of counts: `costlier`) verdict, with `--fail-on slower`: {which}"),
            ("4", f"an `unclear` verdict, or none, with `--fail-on unclear`: {unclear}"),
            ("130", "interrupted; what was measured is kept"),
        ),
    )


def _may_fail_on(command: click.Command, word: str) -> bool:
    options = (p for p in command.params if p.name == "fail_on")
    return any(isinstance(p.type, click.Choice) and word in p.type.choices for p in options)


def _link(name: str) -> str:
    return f"[`{name}`](#{name.replace(' ', '-')})"


def _summary(command: click.Command) -> str:
    return command.get_short_help_str(limit=200)


def _verb(name: str, command: click.Command) -> str:
    context = click.Context(command, info_name=name)
    usage = " ".join(["harness", *name.split()[1:], *command.collect_usage_pieces(context)])
    text = f"\n## `{name}`\n\n```\n{usage}\n```\n\n{_help_text(command)}"
    rows = [(_option(option, context), _meaning(option, context)) for option in options(command)]
    return text + ("\n" + _rows(("option", "meaning"), rows) if rows else "")


def _help_text(command: click.Command) -> str:
    """Return a command's help as Markdown: paragraphs, and what it keeps as it is as blocks of code."""
    parts = inspect.cleandoc(command.help or "").replace("\x0c", "").split("\n\n")
    return "\n".join(
        f"```\n{inspect.cleandoc(part[1:].strip(chr(10)))}\n```\n" if part.startswith("\b") else _plain(part)
        for part in parts
    )


def _plain(paragraph: str) -> str:
    import textwrap

    return textwrap.fill(" ".join(paragraph.split()), _WIDTH, break_on_hyphens=False) + "\n"


def _option(option: click.Option, context: click.Context) -> str:
    names = ", ".join(f"`{name}`" for name in option.opts)
    if option.is_flag or option.count:
        return names
    if isinstance(option.type, click.Choice):
        return f"{names} {', '.join(f'`{choice}`' for choice in option.type.choices)}"
    numeric = isinstance(option.type, click.types.IntParamType) and option.metavar is None
    return f"{names} `{'N' if numeric else option.make_metavar(context)}`"


def _meaning(option: click.Option, context: click.Context) -> str:
    text = option.help or ""
    text += " Can be given several times." if option.multiple and "several" not in text else ""
    text += " Required." if option.required else ""
    extra = option.get_help_extra(context)
    return text + (f" [default: {extra['default']}]" if "default" in extra else "")
