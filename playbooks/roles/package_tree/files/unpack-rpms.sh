#!/bin/sh
# Unpack RPM packages and what they need into a directory of their own, installing nothing.
#
# usage: unpack-rpms.sh PARENT LABEL REPOSITORY VERSION LEAVE PACKAGE...
#   REPOSITORY  repository to enable as well, or ''
#   VERSION     version of the first package, or ''
#   LEAVE       name patterns, separated by blanks, that are not unpacked
# Prints a JSON record (path, version, versions) on stdout; says "made" on stderr if there was something to do.
set -eu
umask 022

parent=$1 label=$2 repository=$3 version=$4 leave=$5
shift 5
first=$1
[ -z "$version" ] || { shift && set -- "$first-$version" "$@"; }

mkdir -p "$parent/.requests"
request=$parent/.requests/$(printf '%s\n' 1 "$label" "$repository" "$version" "$leave" "$@" | sha256sum | cut -c 1-16)
if [ -e "$request/tree.json" ]; then
    cat "$request/tree.json"
    exit 0
fi

work=$(mktemp -d "$parent/.making-XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/rpms" "$work/tree"
dnf -q download ${repository:+--enablerepo="$repository"} --resolve --alldeps \
    --arch "$(uname -m)" --arch noarch --destdir "$work/rpms" "$@" >&2 || {
    echo "package $first${version:+, version $version}${repository:+, suite $repository}: dnf cannot find or" \
        "download it; check the name with 'dnf search' and the repository with 'dnf repolist --all'" >&2
    exit 1
}

wanted() {
    for pattern in $leave; do
        # shellcheck disable=SC2254 # the pattern is meant to be one
        case $1 in $pattern) return 1 ;; esac
    done
}

: >"$work/versions"
for rpm in "$work"/rpms/*.rpm; do
    name=$(rpm -qp --qf '%{NAME}' "$rpm")
    wanted "$name" || continue
    rpm -qp --qf '%{NAME} %{VERSION}-%{RELEASE}\n' "$rpm" >>"$work/versions"
    rpm2cpio "$rpm" | (cd "$work/tree" && cpio --quiet -idmu --no-absolute-filenames)
done
sort -o "$work/versions" "$work/versions"
found=$(sed -n "s/^$first //p" "$work/versions" | head -n 1)
path=$parent/$label-$found-$(sha256sum <"$work/versions" | cut -c 1-8)

{
    printf '{"path": "%s", "version": "%s", "versions": {' "$path" "$found"
    sed -e 's/^\(.*\) \(.*\)$/"\1": "\2"/' -e '$!s/$/,/' "$work/versions"
    printf '}}\n'
} >"$work/tree/tree.json"
chmod 755 "$work/tree"
if [ ! -e "$path/tree.json" ]; then
    rm -rf "$path"
    mv "$work/tree" "$path"
    echo made >&2
fi
ln -sfn "$path" "$request"
cat "$path/tree.json"
