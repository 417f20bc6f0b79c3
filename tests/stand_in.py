"""A source tree that looks like QEMU's to whoever builds it, and takes a second instead of ten minutes."""

from __future__ import annotations

import subprocess
from pathlib import Path

CONFIGURE = """\
#!/bin/sh
# Takes what QEMU's takes, of an old version: not all options are known.
source=$(dirname "$0")
cc=cc
for argument; do
    case $argument in
    --cc=*) cc=${argument#--cc=} ;;
    --disable-download | --meson=* | --broken) echo "ERROR: unknown option $argument"; exit 1 ;;
    --missing) echo "../src/meson.build:7:4: ERROR: Dependency \\"glib-2.0\\" not found"; exit 1 ;;
    esac
done
test -e "$source/pc-bios/edk2-x86_64-code.fd.bz2" || { echo "ERROR: File edk2 does not exist"; exit 1; }
test -e "$source/subprojects/keycodemapdb/data.h" || { echo "ERROR: no keycodemapdb"; exit 1; }
cat > build.ninja <<END
rule cc
  command = $cc -g -MD -MF \\$out.d -I$source/util -I$source/subprojects/keycodemapdb -c \\$in -o \\$out
  depfile = \\$out.d
  deps = gcc
rule link
  command = $cc -o \\$out \\$in
build pool.o: cc $source/util/pool.c
build main.o: cc $source/util/main.c
build qemu-system-$(uname -m): link main.o pool.o
build qemu-img: link main.o pool.o
END
"""
MAIN = """\
#include <stdio.h>
#include <string.h>
#include "data.h"
int pool_size(void);
int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "--version")) {
        const char *name = strstr(argv[0], "qemu-img") ? "qemu-img" : "QEMU emulator";
        printf("%s version 10.0.%d\\n", name, pool_size() + DATA);
        return 0;
    }
    while (getchar() != EOF)
        ;
    puts("{\\"return\\": {}}\\n{\\"return\\": []}");
    return 0;
}
"""
# As much of `qemu-img bench -c COUNT ...` as the load asks for: a loop for each request.
BENCH = """\
    if (argc > 1 && !strcmp(argv[1], "bench")) {
        volatile long work = 0;
        for (int i = 1; i + 1 < argc; i++)
            if (!strcmp(argv[i], "-c"))
                for (long request = atol(argv[i + 1]); request; request--)
                    for (int n = pool_size(); n; n--)
                        work++;
        return 0;
    }
"""
POOL = """\
int pool_size(void)
{
    return 128;
}
"""
PATCH = """\
A smaller pool.

diff --git a/util/pool.c b/util/pool.c
--- a/util/pool.c
+++ b/util/pool.c
@@ -1,4 +1,4 @@
 int pool_size(void)
 {
-    return 128;
+    return %s;
 }
"""
FILES = {
    "configure": CONFIGURE,
    "util/main.c": MAIN,
    "util/pool.c": POOL,
    "subprojects/keycodemapdb/data.h": "#define DATA 0\n",
    "pc-bios/meson.build": "fds = [\n  'edk2-x86_64-code.fd',\n]\n",
    "pc-bios/bios-256k.bin": "its own\n",
}


def patch(value: str) -> str:
    """Return a patch that gives the pool another size."""
    return PATCH % value


def write_tree(directory: Path, without: str | None = None) -> Path:
    """Write the source tree."""
    for name, content in FILES.items():
        if without is None or not name.startswith(without):
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
    (directory / "configure").chmod(0o755)
    return directory


def write_bench_tree(directory: Path) -> Path:
    """Write the source tree with a `qemu-img bench` that spends the pool's size on each request."""
    main = write_tree(directory) / "util/main.c"
    text = main.read_text().replace("#include <string.h>", "#include <stdlib.h>\n#include <string.h>")
    main.write_text(text.replace("    while (getchar()", f"{BENCH}    while (getchar()"))
    return directory


def bench_experiment(repository: Path, name: str) -> str:
    """Return an experiment that counts it: the tag v10.0.2 against the branch."""
    return (
        f"name: {name}\nworkload: instructions\nbaseline: OLD\nbuilds:\n"
        f"  OLD: {{git: {repository}, ref: v10.0.2}}\n  NEW: {{git: {repository}, ref: master}}\n"
        "matrix: {rw: read, bs: 4k, iodepth: 1}\n"
        "instructions: {load: qemu-img, repeats: 2, requests: 2000}\n"
    )


def git(directory: Path, *argv: str) -> str:
    """Run git as somebody."""
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=master"]
    argv_ = ["git", "-C", str(directory), *who, *argv]
    return subprocess.run(argv_, check=True, capture_output=True, text=True).stdout.strip()


def commit(directory: Path, message: str = "a commit") -> str:
    """Commit everything; return the commit."""
    if not (directory / ".git").exists():
        git(directory, "init", "-q")
    git(directory, "add", "-A")
    git(directory, "commit", "-q", "-m", message)
    return git(directory, "rev-parse", "HEAD")


def repository(directory: Path, without: str | None = None) -> Path:
    """Make a git repository of the source tree, tagged v10.0.2."""
    commit(write_tree(directory, without))
    git(directory, "tag", "v10.0.2")
    return directory


def tarball(directory: Path) -> Path:
    """Make a tarball of the source tree, as releases are."""
    tree = write_tree(directory / "qemu-10.0.2")
    path = directory / "qemu-10.0.2.tar.xz"
    subprocess.run(["tar", "-cJf", str(path), "-C", str(directory), tree.name], check=True)
    return path


def runs(pid: str) -> bool:
    """Return whether a process still runs; one that nobody has waited for yet has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
