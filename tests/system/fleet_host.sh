#!/bin/sh
# One "host" of a fleet on this machine: its own processes, name, locks and state, and an sshd on a loopback port.
#
# usage: unshare --mount --uts --pid --fork --kill-child --mount-proc fleet_host.sh NAME DIR STATE SSHD
#   NAME   its host name
#   DIR    holds sshd_config and passwd; takes what the host changes below STATE, so that it outlives a "power cut"
#   STATE  the state directory; what is there already is read, never changed
#   SSHD   the sshd to start
# Killing the first process ends everything on the host, as a power cut does.
set -eu
name=$1 dir=$2 state=$3 sshd=$4

hostname "$name"
mount -t tmpfs -o mode=1777 tmpfs /run/lock
[ ! -d /run/user ] || mount -t tmpfs -o mode=755 tmpfs /run/user
mkdir -p "$dir/upper" "$dir/work" "$state" /run/sshd
mount -t overlay overlay -o "lowerdir=$state,upperdir=$dir/upper,workdir=$dir/work" "$state"
# libvirt's own files are not shared: others use those of the machine while this host lives.
if [ ! -d "$dir/lv" ]; then
    mkdir "$dir/lv"
    [ ! -d "$state/lv/cache" ] || cp -a "$state/lv/cache" "$dir/lv/"
    chmod 711 "$dir/lv"
fi
mkdir -p "$state/lv"
mount --bind "$dir/lv" "$state/lv"
mount --bind "$dir/passwd" /etc/passwd
mkdir -p "$dir/root"
mount --bind "$dir/root" /root
# Not exec: the first process has to reap those whose parents are gone.
"$sshd" -D -e -f "$dir/sshd_config" &
wait
