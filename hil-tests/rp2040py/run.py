"""Runs an image of boards/pico-w with its Ethernet frames on a UDP socket, one a datagram.

    python run.py --elf IMAGE --switch 127.0.0.1:PORT --flash FILE [--id HEX]

The log (raw defmt) goes to standard output. Exits with 101 where the program stops itself (a panic).
"""

import argparse
import logging
import secrets
import select
import socket
import sys
import time

from elftools.elf.elffile import ELFFile
from rp2040py.simulator import Simulator

from flash_chip import BootRom, FlashChip, FlashPort, Registers
from radio import Radio

FLASH, RAM, VECTORS = 0x10000000, 0x20000000, 0x10000100
STOPPED = 101


def load(path, rp):
    """Copies the image into flash; returns the address of its log."""
    with open(path, "rb") as file:
        elf = ELFFile(file)
        for segment in elf.iter_segments("PT_LOAD"):
            start = segment["p_paddr"] - FLASH
            rp.flash[start : start + segment["p_filesz"]] = segment.data()
        return elf.get_section_by_name(".symtab").get_symbol_by_name("_SEGGER_RTT")[0]["st_value"]


def drain(rp, address):
    """The bytes of the log since the last call."""
    channel = address - RAM + 24
    if rp.sram[channel - 24 : channel - 14] != b"SEGGER RTT":
        return b""
    field = lambda number: int.from_bytes(rp.sram[channel + 4 * number : channel + 4 * number + 4], "little")
    rp.sram[channel + 20 : channel + 24] = (2).to_bytes(4, "little")  # the program waits where the buffer is full
    buffer, size, written, read = field(1) - RAM, field(2), field(3), field(4)
    ring = bytes(rp.sram[buffer : buffer + size])
    rp.sram[channel + 16 : channel + 20] = written.to_bytes(4, "little")
    return ring[read:written] if written >= read else ring[read:] + ring[:written]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--elf", required=True)
    parser.add_argument("--switch", required=True)
    parser.add_argument("--flash", required=True)
    parser.add_argument("--id", default="e660583883724a32")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)

    host, port = options.switch.split(":")
    wire = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    wire.bind(("127.0.0.1", 0))
    wire.setblocking(False)
    far = (host, int(port))

    simulator = Simulator()
    rp = simulator.rp2040

    def out():
        log = drain(rp, rtt)
        if log:
            sys.stdout.buffer.write(log)
            sys.stdout.buffer.flush()

    def stray():
        out()
        print(f"the program stopped itself at {rp.core.pc:#x}", file=sys.stderr)
        sys.exit(STOPPED)

    chip = FlashChip(rp)
    BootRom(rp, chip, stray)
    rtt = load(options.elf, rp)
    chip.open(options.flash)
    rp.peripherals[0x18000] = FlashPort(bytes.fromhex(options.id))
    rp.peripherals[0x40060] = Registers({0x18: lambda: 0x80001000, 0x1C: lambda: secrets.randbits(1)})
    radio = Radio(rp, lambda frame: wire.sendto(frame, far))
    rp.core.vtor = VECTORS
    rp.core.sp = rp.read_uint32(VECTORS)
    rp.core.pc = rp.read_uint32(VECTORS + 4) & ~1
    simulator.stopped = False
    start = time.monotonic()
    while True:
        simulator._execute_batch()
        out()
        # Never ahead of real time: whoever is at the other end of the wire lives in it. Behind, it stays behind.
        ahead = simulator.clock.nanos / 1e9 - (time.monotonic() - start)
        if ahead < 0:
            start -= ahead
        readable, _, _ = select.select([wire], [], [], max(0, ahead))
        while readable:
            try:
                radio.receive(wire.recv(2048))
            except BlockingIOError:
                break


if __name__ == "__main__":
    main()
