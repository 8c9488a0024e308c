#!/bin/sh
# `cargo run --release`: the firmware in QEMU, on QEMU's own network, its web page at http://127.0.0.1:8080/.
# The log on stdout is defmt's; to read it: `cargo run --release | defmt-print -e target/thumbv6m-none-eabi/release/qemu-mps2`.
exec qemu-system-arm -M mps2-an385 -display none -monitor none -serial none \
    -semihosting-config enable=on,target=native,arg=weft \
    -netdev user,id=n0,hostfwd=tcp:127.0.0.1:8080-:80 -net nic,model=lan9118,netdev=n0 \
    -kernel "$@"
