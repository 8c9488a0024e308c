#!/bin/sh
# `cargo run --release`: the firmware in QEMU, on QEMU's own network, its web page at http://127.0.0.1:8080/.
# The log on stdout is defmt's; to read it: `cargo run --release | defmt-print -e target/riscv32imc-unknown-none-elf/release/qemu-rv32`.
exec qemu-system-riscv32 -M virt -cpu rv32,a=off,f=off,d=off -m 8M -bios none \
    -display none -monitor none -serial none \
    -semihosting-config enable=on,target=native,arg=weft \
    -global virtio-mmio.force-legacy=false \
    -netdev user,id=n0,hostfwd=tcp:127.0.0.1:8080-:80 -device virtio-net-device,netdev=n0 \
    -kernel "$@"
