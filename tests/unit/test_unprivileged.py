"""What does not need root works without: as an ordinary user, who owns nothing but a directory."""

from __future__ import annotations

import json

from test_comparing import a_run

from somebody import ROOT, somebody


def test_reading_and_planning_need_nothing() -> None:
    fio = ROOT / "fio"
    with somebody() as user:
        run, page, store = a_run(user.home / "run"), user.home / "page.html", user.home / "history.duckdb"
        head = run / "run.json"
        document = json.loads(head.read_text()) | {"created": "2026-01-01T00:00:00+00:00"}
        head.write_text(json.dumps(document))
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
