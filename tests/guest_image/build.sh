#!/bin/sh
# Make the disk image that the tests boot: a Debian as its users know it (boot loader, systemd, cloud-init,
# sshd, guest agent), from packages, without root's mounts.
#
# usage: build.sh IMAGE.qcow2     as root; takes two minutes
set -eu
export LC_ALL=C DEBIAN_FRONTEND=noninteractive
umask 022

image=$1
tools='dosfstools e2fsprogs fdisk mmdebstrap mtools qemu-utils syslinux syslinux-common'
missing=
for package in $tools; do
    dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || missing="$missing $package"
done
if [ -n "$missing" ]; then
    apt-get update -q
    # shellcheck disable=SC2086 # package names are words
    apt-get install -y -q --no-install-recommends $missing
fi

mkdir -p "$(dirname "$image")"
work=$(mktemp -d "$(dirname "$image")/.making-XXXXXX")
trap 'rm -rf "$work"' EXIT
root=$work/root
disk=$work/disk
# sfdisk and the makers of file systems are not in every user's PATH.
PATH=/usr/sbin:/sbin:$PATH

mmdebstrap --quiet --variant=minbase --format=directory \
    --include=linux-image-cloud-amd64,initramfs-tools,systemd-sysv,udev,openssh-server,cloud-init \
    --include=qemu-guest-agent,fio,iproute2,python3-minimal,sudo \
    --aptopt='Apt::Install-Recommends "false"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' bookworm "$root"

# What the makers of cloud images do, and no more.
root_uuid=5e1f0c1e-0000-4000-8000-00000000a001
echo "UUID=$root_uuid / ext4 defaults,noatime 0 1" >"$root/etc/fstab"
# Emulated, each module of cloud-init takes a second: those that tests need, and a small initramfs.
cat >"$root/etc/cloud/cloud.cfg.d/50-test.cfg" <<END
datasource_list: [NoCloud, None]
cloud_init_modules: [users-groups, ssh]
cloud_config_modules: []
cloud_final_modules: []
END
echo MODULES=list >"$root/etc/initramfs-tools/conf.d/test"
printf 'virtio_pci\nvirtio_blk\next4\n' >>"$root/etc/initramfs-tools/modules"
chroot "$root" update-initramfs -u
printf '[Match]\nName=en*\n[Network]\nDHCP=yes\n' >"$root/etc/systemd/network/80-dhcp.network"
chroot "$root" systemctl --quiet enable systemd-networkd
rm -f "$root"/etc/ssh/ssh_host_* "$root"/var/lib/apt/lists/*_* "$root"/var/cache/apt/*.bin
: >"$root/etc/machine-id"
echo test-guest >"$root/etc/hostname"

# A boot partition that syslinux reads, and the root file system: both written without a mount. QEMU before 8.0
# translates each program anew where it finds it at other addresses: systemd starts hundreds.
boot=$work/boot
cat >"$work/syslinux.cfg" <<END
DEFAULT linux
LABEL linux
  LINUX vmlinuz
  APPEND root=UUID=$root_uuid ro console=ttyS0 quiet norandmaps cryptomgr.notests
  INITRD initrd.img
END
mkfs.vfat -n BOOT -C "$boot" $((64 * 1024)) >/dev/null
mcopy -i "$boot" "$work/syslinux.cfg" ::syslinux.cfg
mcopy -i "$boot" "$root"/boot/vmlinuz-* ::vmlinuz
mcopy -i "$boot" "$root"/boot/initrd.img-* ::initrd.img
syslinux --install "$boot"
mke2fs -q -t ext4 -U $root_uuid -d "$root" "$work/system" 1536m

truncate -s 1602M "$disk"
sfdisk --quiet "$disk" <<END
label: dos
start=1MiB, size=64MiB, type=6, bootable
start=65MiB, size=1536MiB, type=83
END
dd if=/usr/lib/syslinux/mbr/mbr.bin of="$disk" bs=440 count=1 conv=notrunc status=none
dd if="$boot" of="$disk" bs=1M seek=1 conv=notrunc,sparse status=none
dd if="$work/system" of="$disk" bs=1M seek=65 conv=notrunc,sparse status=none

qemu-img convert -f raw -O qcow2 "$disk" "$work/image.qcow2"
mv "$work/image.qcow2" "$image"
