#!/bin/sh
# check-boot.sh [VMLINUX]: boots the kernel (default: the one build.sh has built) in QEMU's
# microvm with emulated CPUs and prints what a boot costs up to /init, for several sizes:
# instructions, memory not free, drivers bound. Fails when a machine does not come up. QEMU
# counts instructions (1 instruction = 1 tick of the time stamp counter), so load does not
# matter; with more than one vCPU the count holds their waiting for each other.
set -eu
program=check-boot.sh
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=cache.sh
. "$here/cache.sh"

need qemu-system-x86_64:qemu-system-x86 gcc:gcc cpio:cpio timeout:coreutils
kernel=${1:-$("$here/build.sh" --print-path)}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
gcc -O2 -s -static -o "$work/init" "$here/boot-probe.c"
"$here/initramfs.sh" "$work/init" "$work/initramfs"
truncate -s 1M "$work/disk"

# QEMU's 8 transports of microvm; without ACPI they have GSI 5 to 12.
transports() {
    for slot in 0 1 2 3 4 5 6 7; do
        printf 'virtio_mmio.device=512@0x%x:%d ' $((0xfeb00000 + slot * 512)) $((5 + slot))
    done
}

# timer_words VCPUS: emulated CPUs have no TSC-deadline timer, so the kernel spends 220 ms on
# calibrating and checking timers, which no KVM guest does. One vCPU can do without the APIC
# timer; several cannot, and their figure holds the 220 M.
timer_words() {
    [ "$1" -gt 1 ] || echo "nolapic_timer no_timer_check"
}

# boot MEMORY_MIB VCPUS: leaves the probe's lines in $work/said. tsc_early_khz: under icount
# shift=0 the counter runs at exactly 1 GHz. PIC and PIT: without ACPI and a deadline timer the
# kernel insists on them.
boot() {
    status=0
    timeout 600 qemu-system-x86_64 -accel tcg -cpu max -icount shift=0,sleep=off \
        -M microvm,acpi=off,pit=on,pic=on,rtc=on,isa-serial=off,auto-kernel-cmdline=off \
        -global virtio-mmio.force-legacy=false \
        -nodefaults -no-user-config -display none -no-reboot -m "$1" -smp "$2" \
        -kernel "$kernel" -initrd "$work/initramfs" \
        -append "quiet tsc_early_khz=1000000 8250.nr_uarts=0 reboot=t panic=-1 $(timer_words "$2") $(transports)" \
        -chardev "file,id=said,path=$work/said" \
        -device isa-debugcon,iobase=0xe9,chardev=said \
        -device isa-debug-exit,iobase=0x600,iosize=1 \
        -device virtio-rng-device \
        -drive "id=disk,file=$work/disk,format=raw,if=none" \
        -device virtio-blk-device,drive=disk || status=$?
    # The exit port turns the probe's byte 0x5a into this status.
    [ "$status" -eq $((0x5a * 2 + 1)) ] || die "$1 MiB, $2 vCPUs: QEMU ended with $status"
}

printf '%10s %6s %15s %15s  %s\n' memory_mib vcpus instructions not_free_mib drivers
for size in 128:1 512:1 512:2; do
    boot "${size%:*}" "${size#*:}"
    awk -v memory="${size%:*}" -v vcpus="${size#*:}" '
        $1 == "ticks" { ticks = $2 }
        $1 == "cpus" { cpus = $2 }
        $1 == "free_kib" { free = $2 }
        $1 == "device" { drivers = drivers " " $2 }
        END {
            printf "%10d %6d %15s %15.1f %s\n", memory, cpus, ticks, memory - free / 1024, drivers
            exit cpus != vcpus || drivers !~ /virtio_blk/ || drivers !~ /virtio_rng/
        }' "$work/said" || die "vCPUs or drivers are missing"
done
