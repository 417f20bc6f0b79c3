#!/bin/sh
# Build the micro guest's kernel and initramfs from a tree of unpacked packages, without root's rights.
#
# usage: build-image.sh TREE IMAGE_DIR INIT MODULE...
#   TREE       directory that holds kernel, busybox, fio, qemu-ga and all of their libraries
#   IMAGE_DIR  made whole: vmlinuz, initramfs.cpio, image.json
#   INIT       the guest's /init, base64
#   MODULE...  kernel modules to load, in order
# The same input gives the same bytes.
set -eu
export LC_ALL=C
umask 022

tree=$1 image=$2 init=$3
shift 3

fail() {
    echo "guest image: $1" >&2
    exit 1
}

mkdir -p "$(dirname "$image")"
work=$(mktemp -d "$(dirname "$image")/.making-XXXXXX")
trap 'rm -rf "$work"' EXIT
root=$work/root
out=$work/out
mkdir -p "$out" "$root/dev" "$root/proc" "$root/sys" "$root/run" "$root/tmp" "$root/root" "$root/etc" \
    "$root/usr/bin" "$root/usr/sbin" "$root/usr/lib" "$root/usr/lib64" "$root/lib/modules" "$root/var"
chmod 755 "$out"
ln -s usr/bin "$root/bin"
ln -s usr/sbin "$root/sbin"
ln -s usr/lib64 "$root/lib64"
ln -s ../run "$root/var/run"

# The kernel: the newest one, if the tree holds several.
kernel=$(find "$tree/boot" "$tree/lib/modules" "$tree/usr/lib/modules" -name 'vmlinuz*' -type f 2>/dev/null | sort -V | tail -n 1)
[ -n "$kernel" ] || fail "no kernel (vmlinuz) in $tree"
modules=$(find "$tree/lib/modules" "$tree/usr/lib/modules" -mindepth 1 -maxdepth 1 -type d 2>/dev/null | sort -V | tail -n 1)
[ -n "$modules" ] || fail "no kernel modules in $tree"
cp "$kernel" "$out/vmlinuz"

# Modules with what they need, in the order of loading; modules.dep would take depmod, each module says it too.
unpacked() {
    case $1 in
        *.xz) xz -dc "$1" ;;
        *.zst) zstd -dcq "$1" ;;
        *.gz) gzip -dc "$1" ;;
        *) cat "$1" ;;
    esac
}
: >"$root/lib/modules/order"
add_module() {
    ! grep -qx "$1.ko" "$root/lib/modules/order" || return 0
    pattern=$(printf '%s' "$1" | sed 's/[-_]/[-_]/g')
    if grep -q "/$pattern\.ko" "$modules/modules.builtin" 2>/dev/null; then
        return 0
    fi
    file=$(find "$modules/kernel" -name "$pattern.ko*" | head -n 1)
    [ -n "$file" ] || fail "the kernel ${modules##*/} has no module $1"
    unpacked "$file" >"$root/lib/modules/$1.ko"
    for needed in $(tr '\0' '\n' <"$root/lib/modules/$1.ko" | sed -n 's/^depends=//p' | tr ',-' ' _'); do
        add_module "$needed"
        # Functions share variables here: what was called may have changed $1's siblings, never $1 itself.
    done
    echo "$1.ko" >>"$root/lib/modules/order"
}
for module; do
    add_module "$module"
done

# Programs and their libraries. The tree's own loader says which: the system's libraries play no part.
loader=$(find "$tree/lib64" "$tree/usr/lib64" "$tree/lib" "$tree/usr/lib" -name 'ld-linux*.so.[0-9]' 2>/dev/null | head -n 1)
[ -n "$loader" ] || fail "no dynamic loader (ld-linux*.so) in $tree"
libraries=$(find "$tree/lib" "$tree/usr/lib" "$tree/lib64" "$tree/usr/lib64" -name '*.so*' 2>/dev/null |
    sed 's,/[^/]*$,,' | sort -u | tr '\n' ':')
interpreter=$(basename "$loader")
mkdir -p "$root/usr/lib64"
cp -L "$loader" "$root/usr/lib64/$interpreter"

add_program() {
    program=$(find "$tree/bin" "$tree/sbin" "$tree/usr/bin" "$tree/usr/sbin" -name "$1" 2>/dev/null | head -n 1)
    [ -n "$program" ] || fail "no program $1 in $tree"
    cp -L "$program" "$root/usr/bin/$1"
    "$loader" --library-path "$libraries" --list "$program" >"$work/needs" 2>&1 ||
        fail "$1: the libraries cannot be listed: $(tail -n 1 "$work/needs")"
    if grep 'not found' "$work/needs" >&2; then
        fail "$1 misses the libraries above in $tree"
    fi
    sed -n 's/.* => \(\/[^ ]*\) (.*/\1/p' "$work/needs" | while read -r library; do
        [ -e "$root/usr/lib/$(basename "$library")" ] || cp -L "$library" "$root/usr/lib/"
    done
}
add_program busybox
add_program fio
add_program qemu-ga

run() {
    program=$1
    shift
    "$loader" --library-path "$root/usr/lib" "$root/usr/bin/$program" "$@"
}
for applet in $(run busybox --list); do
    [ -e "$root/usr/bin/$applet" ] || ln -s busybox "$root/usr/bin/$applet"
done
for applet in sh mount insmod sha256sum dmesg blockdev sync cat; do
    [ -e "$root/usr/bin/$applet" ] || fail "busybox in $tree has no $applet"
done

fio_version=$(run fio --version)
kernel_version=${modules##*/}
printf 'kernel=%s\nfio=%s\n' "$kernel_version" "$fio_version" >"$root/etc/harness-guest"
echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
echo 'root:x:0:' >"$root/etc/group"
printf '%s' "$init" | base64 -d >"$root/init"
# The agent's guest-shutdown calls this.
printf '#!/bin/sh\ncase " $* " in *" -r "*) exec reboot -f ;; *) exec poweroff -f ;; esac\n' >"$root/usr/sbin/shutdown"
chmod 755 "$root/init" "$root/usr/sbin/shutdown"

# The loader finds libraries in /usr/lib without a cache; /lib holds the modules.
find "$root" -exec touch -h -d @0 {} +
(cd "$root" && find . -mindepth 1 | sort | cpio --quiet -o -H newc --reproducible -R 0:0) >"$out/initramfs.cpio"

sha256=$(cat "$out/vmlinuz" "$out/initramfs.cpio" | sha256sum | cut -d ' ' -f 1)
cat >"$out/image.json" <<END
{
 "kernel": "$image/vmlinuz",
 "initrd": "$image/initramfs.cpio",
 "sha256": "$sha256",
 "kernel_version": "$kernel_version",
 "fio_version": "$fio_version"
}
END
rm -rf "$image"
mv "$out" "$image"
