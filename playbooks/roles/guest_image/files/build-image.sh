#!/bin/sh
# Build the micro guest's kernel and initramfs from a tree of unpacked packages, without root's rights.
#
# usage: build-image.sh TREE IMAGE_DIR PYTHON MODULE...
#   TREE       directory that holds kernel, busybox, fio, qemu-ga and all of their libraries
#   IMAGE_DIR  made whole: vmlinux (or vmlinuz), initramfs.cpio, image.json
#   PYTHON     the interpreter for what lies beside this script
#   MODULE...  kernel modules to load, in order
# The same input gives the same bytes.
set -eu
export LC_ALL=C
umask 022

tree=$1 image=$2 python=$3
shift 3
here=$(cd "$(dirname "$0")" && pwd)

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
unpacking=0
"$python" -B "$here/unpack_kernel.py" "$kernel" "$out/vmlinux" || unpacking=$?
case $unpacking in
    0) booted=vmlinux ;;
    3)
        booted=vmlinuz
        cp "$kernel" "$out/vmlinuz"
        ;;
    *) fail "unpack_kernel.py, run by $python, ended with $unpacking; see above" ;;
esac

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

find_program() {
    program=$(find "$tree/bin" "$tree/sbin" "$tree/usr/bin" "$tree/usr/sbin" -name "$1" ! -type d 2>/dev/null | head -n 1)
    [ -n "$program" ] || fail "no program $1 in $tree"
}
add_program() {
    find_program "$1"
    cp -L "$program" "$root/usr/bin/$1"
    # 0: it needs a loader; 1 or a crash: it stands alone.
    "$loader" --verify "$program" >/dev/null 2>&1 || return 0
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
add_program qemu-ga

# Debian's fio comes with the libraries of every storage back end there is: most of the image, and most of the
# time that fio takes to start. The disk of a guest is none of them. What the two programs above need is there
# already with all that it needs itself: it goes before what is hollow, here as in the guest.
fio_works() {
    LD_BIND_NOW=1 "$loader" --library-path "$1" "$program" --enghelp >"$work/$2" 2>&1 &&
        LD_BIND_NOW=1 "$loader" --library-path "$1" "$program" --name=try --ioengine=null --rw=randread \
            --size=4k --output-format=json >/dev/null 2>&1
}
make_hollow() {
    # Linked statically, it has none.
    "$loader" --verify "$program" >/dev/null 2>&1 || return 0
    # Whether one is missing, add_program says.
    "$loader" --library-path "$libraries" --list "$program" >"$work/needs" 2>&1 || return 0
    sed -n 's/.* => \(\/[^ ]*\) (.*/\1/p' "$work/needs" >"$work/files"
    mkdir "$work/hollow"
    xargs -r "$python" -B "$here/hollow.py" "$program" "$work/hollow" <"$work/files" >"$work/names" ||
        fail "hollow.py, run by $python, failed; see above"
    [ -s "$work/names" ] || return 0
    with_hollow=$root/usr/lib:$work/hollow:$libraries
    if fio_works "$libraries" real && fio_works "$with_hollow" hollowed && cmp "$work/real" "$work/hollowed" >&2; then
        libraries=$with_hollow
    else
        echo "guest image: no library stays hollow: fio does not work with hollow $(tr '\n' ' ' <"$work/names")" >&2
    fi
}
find_program fio
make_hollow
add_program fio

run() {
    program=$1
    shift
    if "$loader" --verify "$root/usr/bin/$program" >/dev/null 2>&1; then
        "$loader" --library-path "$root/usr/lib" "$root/usr/bin/$program" "$@"
    else
        "$root/usr/bin/$program" "$@"
    fi
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
cat >"$root/etc/fstab" <<'END'
proc /proc proc defaults 0 0
sysfs /sys sysfs defaults 0 0
run /run tmpfs mode=0755 0 0
shm /dev/shm tmpfs defaults 0 0
devpts /dev/pts devpts defaults 0 0
END
cp "$here/init" "$root/init"
# The agent's guest-shutdown calls this.
printf '#!/bin/sh\ncase " $* " in *" -r "*) exec reboot -f ;; *) exec poweroff -f ;; esac\n' >"$root/usr/sbin/shutdown"
chmod 755 "$root/init" "$root/usr/sbin/shutdown"

# The loader finds libraries in /usr/lib without a cache; /lib holds the modules.
find "$root" -exec touch -h -d @0 {} +
(cd "$root" && find . -mindepth 1 | sort | cpio --quiet -o -H newc --reproducible -R 0:0) >"$out/initramfs.cpio"

sha256=$(cat "$out/$booted" "$out/initramfs.cpio" | sha256sum | cut -d ' ' -f 1)
cat >"$out/image.json" <<END
{
 "kernel": "$image/$booted",
 "initrd": "$image/initramfs.cpio",
 "sha256": "$sha256",
 "kernel_version": "$kernel_version",
 "fio_version": "$fio_version"
}
END
rm -rf "$image"
mv "$out" "$image"
