#!/bin/sh
# One fio invocation: one cell, one JSON document on stdout, fio's exit code passed on.
# Runs in the guest (the harness feeds it to `sh -s --`), and by hand on any machine.
set -uf # no name is ever taken for a pattern

usage() {
    cat <<'USAGE'
Usage: sh fio.sh --target DEVICE [options]

Run one cell of the benchmark matrix with fio and print fio's JSON, and nothing
else, on stdout. fio's exit code is passed on; 64 means that this script refused.

  --target DEVICE     block device to measure (required; several times: all at
                      once, a job each, one result)
  --rw PATTERN        randread, randwrite, read, write, randrw ... (randread)
  --bs SIZE           block size: 512, 4k, 128k, 1m ... (4k)
  --iodepth N         requests in flight a job (1)
  --numjobs N         jobs (1)
  --ioengine ENGINE   fio's engine (libaio)
  --runtime TIME      measured time, in whole seconds or as 1500ms (10)
  --ramp TIME         time before measuring starts (1)
  --requests N        end each job after N requests instead of after a time
  --scheduler NAME    I/O scheduler to set on the target (none)
  --destroy-data      needed for every pattern that writes: the target's data is lost
  --help              this text

Example: sh fio.sh --target /dev/vdb --rw randread --bs 4k --iodepth 8 --runtime 5
USAGE
}

refuse() {
    echo "fio.sh: $*" >&2
    exit 64
}

targets='' rw=randread bs=4k iodepth=1 numjobs=1 ioengine=libaio
runtime=10 ramp=1 requests='' scheduler=none destroy_data=no

while [ $# -gt 0 ]; do
    option=$1
    shift
    case $option in
        --help | -h)
            usage
            exit 0
            ;;
        --destroy-data)
            destroy_data=yes
            continue
            ;;
        --target | --rw | --bs | --iodepth | --numjobs | --ioengine | --runtime | --ramp | --requests | --scheduler) ;;
        *) refuse "unknown option $option; see --help" ;;
    esac
    [ $# -gt 0 ] || refuse "$option needs a value; see --help"
    case $option in
        --target)
            case $1 in
                '') refuse "no --target given; see --help" ;;
                *[[:space:]]*) refuse "a device's path has no blanks: $1" ;;
            esac
            targets="$targets $1"
            ;;
        --rw) rw=$1 ;;
        --bs) bs=$1 ;;
        --iodepth) iodepth=$1 ;;
        --numjobs) numjobs=$1 ;;
        --ioengine) ioengine=$1 ;;
        --runtime) runtime=$1 ;;
        --ramp) ramp=$1 ;;
        --requests) requests=$1 ;;
        --scheduler) scheduler=$1 ;;
    esac
    shift
done

# fio cuts "1.5" down to 1 without a word.
case $runtime$ramp in
    *.*) refuse "--runtime and --ramp take whole seconds or milliseconds (1500ms), not fractions" ;;
esac
[ -n "$targets" ] || refuse "no --target given; see --help"
command -v fio >/dev/null 2>&1 || refuse "fio is not installed here; install the package 'fio'"
for target in $targets; do
    # fio silently creates a missing target as a regular file and measures the page cache.
    [ -b "$target" ] || refuse "$target is not a block device"
done
case $rw in
    read | randread) readonly_option=--readonly ;;
    *)
        [ "$destroy_data" = yes ] || refuse "$rw overwrites$targets; add --destroy-data if it holds nothing you need"
        readonly_option=
        ;;
esac

if [ -n "$requests" ]; then
    extent=--number_ios=$requests
else
    extent="--time_based --runtime=$runtime --ramp_time=$ramp"
fi
jobs=
for target in $targets; do
    # A process takes milliseconds in an emulated guest: none is started that is not needed.
    device=$target
    [ ! -L "$target" ] || device=$(readlink -f "$target")
    device=${device##*/}
    queue=/sys/class/block/$device/queue
    # A partition has no queue of its own: its disk's scheduler is the one that counts.
    [ -d "$queue" ] || queue=$(readlink -f "/sys/class/block/$device")/../queue
    if [ -e "$queue/scheduler" ]; then
        # Already set is left alone, so that a read-only look needs no privilege.
        read -r schedulers <"$queue/scheduler"
        case $schedulers in
            *"[$scheduler]"* | "$scheduler") ;;
            *)
                echo "$scheduler" >"$queue/scheduler" ||
                    refuse "cannot set the I/O scheduler of $target to $scheduler (are you root?)"
                ;;
        esac
    fi
    jobs="$jobs --name=fio --filename=$target"
done

# What stands before the first job's name holds for all jobs.
# shellcheck disable=SC2086  # words or nothing; no path has a blank
exec fio --rw="$rw" --bs="$bs" --iodepth="$iodepth" \
    --numjobs="$numjobs" --ioengine="$ioengine" --direct=1 $extent \
    --group_reporting --randrepeat=0 --norandommap \
    --allow_file_create=0 $readonly_option --eta=never --output-format=json $jobs
