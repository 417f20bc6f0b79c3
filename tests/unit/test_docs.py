"""What docs/ say of the code is so: reference pages are fresh, examples load, commands and links exist."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from doc_pages import (
    ROOT,
    Block,
    anchors,
    blocks,
    commands_named,
    execute,
    links,
    make_checkout,
    pages,
    text_of,
    to_do,
)
from doc_reference import (
    DOCS,
    commands,
    fresh,
    generated_pages,
    generated_parts,
    json_types,
    key_sections,
    options,
)
from harness.core.experiment import load_experiment

PAGES = pages()
TO_FOLLOW = [page for page in PAGES if page == "docs/tutorial.md" or page.startswith("docs/howto/")]
YAML_BLOCKS = [block for page in PAGES for block in blocks(page) if block.language == "yaml"]


@pytest.mark.parametrize("page", generated_pages())
def test_reference_pages_are_as_the_code_is(page: str, regenerate: bool) -> None:  # noqa: FBT001 - a fixture
    path = DOCS / page
    text = path.read_text() if path.exists() else ""
    if regenerate:
        path.write_text(fresh(page, text))
        return
    assert text == fresh(page, text), f"docs/{page} is older than the code: make docs"


def test_the_reference_has_every_section_and_type() -> None:
    keys = generated_parts(text_of("docs/experiment.md"))
    assert sorted(keys) == sorted(f"keys of {section}" for section in key_sections())
    objects = generated_parts(text_of("docs/json.md"))
    assert sorted(objects) == sorted(f"JSON of {name}" for name in json_types())


@pytest.mark.parametrize("block", YAML_BLOCKS, ids=lambda block: block.where)
def test_experiments_in_the_docs_load(block: Block) -> None:
    if block.mark and block.mark.startswith("not an experiment: "):
        assert yaml.safe_load(block.text)
        return
    load_experiment(block.text if block.file_name else whole(block.text), block.where)


def whole(text: str) -> str:
    """Return a part of an experiment with the required keys that it leaves out."""
    given = yaml.safe_load(text)
    builds = given.get("builds", {"OLD": {"path": "/old"}, "NEW": {"path": "/new"}})
    least = {"name": "part", "builds": builds, "baseline": next(iter(builds))}
    missing = {key: value for key, value in least.items() if key not in given}
    return text + (yaml.safe_dump(missing) if missing else "")


@pytest.mark.parametrize("page", PAGES)
def test_commands_that_the_docs_name_exist(page: str) -> None:
    known = commands()
    wrong = []
    for named in commands_named(page):
        path = "harness"
        for word in named.words:
            if f"{path} {word}" not in known:
                break
            path += f" {word}"
        if path == "harness":
            wrong.append(f"{named.text}: no such verb")
            continue
        understood = {name for option in options(known[path]) for name in option.opts} | {"--help", "-h"}
        wrong += [f"{named.text}: no such option {o}" for o in named.options if o not in understood]
    assert wrong == []


def test_the_check_of_commands_sees_what_is_wrong() -> None:
    (named,) = commands_named("x.md", "`harness runn fio/quick.yml`\n")
    assert named.words[0] == "runn"
    found = list(
        commands_named("x.md", "```sh\nharness run a.yml --aa \\\n  --block 3 | tee x --nonsense\n```\n")
    )
    assert [(n.words, n.options) for n in found] == [(("run",), ("--aa", "--block"))]
    assert list(commands_named("x.md", "harness report in prose, and `harness/core`")) == []


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    wrong = []
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = ((ROOT / page).parent / name).resolve() if name else ROOT / page
        if not target.exists() or (anchor and anchor not in anchors(str(target.relative_to(ROOT)))):
            wrong.append(link)
    assert wrong == []


def test_the_index_has_every_page() -> None:
    listed = [link.partition("#")[0] for link in links("docs/README.md")]
    every = {str(Path(page).relative_to("docs")) for page in PAGES if page.startswith("docs/")}
    assert every - {"README.md"} <= set(listed)
    from_readme = {link.partition("#")[0] for link in links("README.md") if link.startswith("docs/")}
    assert {str(Path(link).relative_to("docs")) for link in from_readme} - {"README.md", "."} <= set(listed)


@pytest.mark.parametrize("page", TO_FOLLOW)
def test_every_command_to_type_is_run_or_says_why_not(page: str) -> None:
    shown = [block for block in blocks(page) if block.language == "sh"]
    assert shown
    for block in shown:
        known = block.mark is None or block.file_name or block.reason_not_to_run
        assert known, f"{block.where}: {block.mark!r} is no mark that tests/doc_pages.py knows"


def test_how_to_measure_nvme_can_be_followed_as_far_as_without_one(tmp_path: Path) -> None:
    checkout = make_checkout(tmp_path)
    outputs = []
    for block in to_do("docs/howto/nvme.md", checkout):
        done = execute(block, checkout, timeout_seconds=100)
        assert done.returncode == 0, f"{block.where}: {done.stdout}{done.stderr}"
        outputs.append(done.stderr + done.stdout)
    assert outputs == [
        block.text for block in blocks("docs/howto/nvme.md") if block.text.startswith("error:")
    ]
