"""What does not need root works without: as an ordinary user, who owns nothing but a directory."""

from __future__ import annotations

import json

from test_comparing import SAME, a_run

from resealed import write_sealed
from somebody import ROOT, somebody


def test_reading_and_planning_need_nothing() -> None:
    fio = ROOT / "fio"
    with somebody() as user:
        run, page, store = a_run(user.home / "run"), user.home / "page.html", user.home / "history.duckdb"
        head = run / "run.json"
        write_sealed(head, json.loads(head.read_text()) | {"created": "2026-01-01T00:00:00+00:00"})
        for arguments in (
            ["check", *(str(path) for path in sorted(fio.glob("*.yml")))],
            ["plan", str(fio / "quick.yml")],
            ["schema"],
            ["show", "run"],
            ["compare", "run"],
            ["report", "run", "-o", str(page)],
            ["export", "run", "--format", "junit"],
            ["export", "run", "--bundle", "run.tar.zst"],
            ["compare", "run.tar.zst"],
            ["history", "add", "run", "--store", str(store)],
            ["history", "list", "--store", str(store)],
            ["builds", "list"],
        ):
            done = user(*arguments)
            assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        assert page.stat().st_size > 0


def test_what_needs_root_says_so_before_anything_happens() -> None:
    with somebody() as user:
        file = user.home / "tuned.yml"
        file.write_text((ROOT / "fio" / "quick.yml").read_text())
        done = user("run", str(file), "--no-provision", "--max-map-count", "70000")
        assert done.returncode == 2
        assert "--max-map-count" in done.stderr
        assert "run as root" in done.stderr
        assert not (user.home / "runs").exists()


def test_of_experiments_that_may_not_be_read_each_is_named_with_what_else_is_wrong() -> None:
    with somebody() as user:
        for name, text in {"a": "name: a\n", "b": "name: b\n", "c": "nonsense: 1\n"}.items():
            (user.home / f"{name}.yml").write_text(text)
        for closed in ("a.yml", "b.yml"):
            (user.home / closed).chmod(0)
        done = user("check", "a.yml", "b.yml", "c.yml", "d.yml")
        assert done.returncode == 2
        for words in ("a.yml: cannot be read", "b.yml: cannot be read", "c.yml: nonsense", "d.yml: does not"):
            assert words in done.stderr
        assert done.stderr.count("remedy: make it readable for this user") == 2


def test_a_run_is_read_where_its_noise_floor_may_not_be() -> None:
    with somebody() as user:
        floor = a_run(user.home / "closed" / "aa", builds=SAME)
        a_run(user.home / "run", noise_floor="../closed/aa")
        floor.parent.chmod(0)
        for arguments in (["compare", "run"], ["export", "run", "--bundle", "run.tar.zst"]):
            done = user(*arguments)
            assert done.returncode == 0, done.stderr
            if arguments[0] == "compare":
                assert "the noise floor is not shown: its run directory run/../closed/aa is" in done.stdout
        floor.parent.chmod(0o700)


def test_a_run_of_another_user_is_named_and_the_others_are_cleaned() -> None:
    with somebody() as user:
        for name in ("a-dead", "b-closed", "c-dead"):
            (user.home / "runs" / name / "counts").mkdir(parents=True)
        closed = user.home / "runs" / "b-closed"
        closed.chmod(0)
        for paths in ([], ["runs"], ["runs/b-closed", "runs"]):
            done = user("clean", "--dry-run", *paths)
            assert done.returncode == 0, done.stderr
            assert "left alone: runs/b-closed, which this user may not look into: clean it as" in done.stdout
            assert "runs/a-dead" in done.stdout
            assert "runs/c-dead" in done.stdout
        shown = user("show", "runs/b-closed")
        assert shown.returncode == 2
        assert "runs/b-closed: may not be looked into by this user" in shown.stderr
        assert "remedy: ask as its owner" in shown.stderr
        closed.chmod(0o700)
