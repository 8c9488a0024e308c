"""The flash chip of a Pico, the boot ROM's functions that write it, and the port that its number is read by.

As in hil-tests/rp2040js: each function of the ROM is `bkpt #number; bx lr`, and the work is done where the breakpoint arrives.
"""

import os

SECTOR, PAGE = 4096, 256
# What boards/rp2040/src/region.rs keeps for weft; the file holds it.
REGION = 2 * 1024 * 1024 - 64 * 1024
REGION_LENGTH = 64 * 1024
# Typical times of the W25Q16JV's data sheet.
ERASE_NANOS, PROGRAM_NANOS = 45e6, 0.4e6

STUBS, TABLE = 0x100, 0x20
ROM_END = 0x4000
BKPT, BX_LR = 0xBE00, 0x4770


class FlashChip:
    """The chip, whose last 64 KiB outlive the power in a file."""

    def __init__(self, rp):
        self.rp = rp

    def open(self, path):
        """Takes the content of the region from `path`, and keeps it there from now on."""
        self.file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        kept = os.pread(self.file, REGION_LENGTH, 0).ljust(REGION_LENGTH, b"\xff")
        os.pwrite(self.file, kept, 0)
        self.rp.flash[REGION : REGION + REGION_LENGTH] = kept

    def erase(self, offset, length):
        for at in range(offset, offset + length, SECTOR):
            self._change(at, b"\xff" * SECTOR, ERASE_NANOS)

    def program(self, offset, data):
        for at in range(0, len(data), PAGE):
            old = self.rp.flash[offset + at : offset + at + PAGE]
            self._change(offset + at, bytes(a & b for a, b in zip(old, data[at : at + PAGE])), PROGRAM_NANOS)

    def _change(self, offset, content, nanos):
        self.rp.clock.tick(nanos)
        self.rp.flash[offset : offset + len(content)] = content
        if offset >= REGION:
            os.pwrite(self.file, content, offset - REGION)


class BootRom:
    """The functions of the ROM that embassy-rp calls. `stray` is told of breakpoints of the program itself.

    To be made before anything is put into flash: the emulator resets the chip for a ROM, and erases its flash.
    """

    def __init__(self, rp, chip, stray):
        self.rp, self.chip, self.stray = rp, chip, stray
        nothing = lambda *_: None
        self.functions = [
            ("lookup", lambda _table, code, *_: self._address(code)),
            ("IF", nothing),
            ("EX", nothing),
            ("FC", nothing),
            ("CX", nothing),
            ("RE", lambda offset, length, *_: chip.erase(offset, length)),
            ("RP", lambda offset, data, length, *_: chip.program(offset, self._bytes(data, length))),
            ("C4", lambda to, start, length, *_: self._copy(to, start, length)),
            ("MC", lambda to, start, length, *_: self._copy(to, start, length)),
        ]
        rom = bytearray(ROM_END)
        for at, value in ((0x14, TABLE), (0x16, TABLE), (0x18, STUBS | 1)):
            rom[at : at + 2] = value.to_bytes(2, "little")
        for number in range(len(self.functions)):
            at = STUBS + 4 * number
            rom[at : at + 4] = (BKPT | number | BX_LR << 16).to_bytes(4, "little")
        rp.load_bootrom([int.from_bytes(rom[at : at + 4], "little") for at in range(0, ROM_END, 4)])
        rp.on_break = self._called

    def _called(self, number):
        core = self.rp.core
        if core.pc >= ROM_END or number >= len(self.functions):
            self.stray()
            return
        result = self.functions[number][1](*(core.registers[index] for index in range(4)))
        if result is not None:
            core.registers[0] = result

    def _address(self, code):
        name = bytes((code & 0xFF, code >> 8 & 0xFF)).decode("latin1")
        for number, (known, _) in enumerate(self.functions):
            if known == name:
                return STUBS + 4 * number | 1
        raise RuntimeError(f"the program calls the boot ROM's function {name}, which this boot ROM lacks")

    def _bytes(self, start, length):
        return bytes(self.rp.read_uint8(start + index) for index in range(length))

    def _copy(self, to, start, length):
        for index, byte in enumerate(self._bytes(start, length)):
            self.rp.write_uint8(to + index, byte)
        return to


class Registers:
    """A peripheral that keeps what is written to it. `fixed` has what some registers read as, whatever was written."""

    def __init__(self, fixed=None):
        self.fixed, self.values, self.raw_write_value = fixed or {}, {}, 0

    def read_uint32(self, offset):
        fixed = self.fixed.get(offset)
        return fixed() if fixed else self.values.get(offset, 0)

    def write_uint32(self, offset, value):
        self.values[offset] = value & 0xFFFFFFFF

    def write_uint32_atomic(self, offset, value, kind):
        self.raw_write_value = value
        old = 0 if kind == 0 else self.read_uint32(offset)
        self.write_uint32(offset, (value, old ^ value, old | value, old & ~value)[kind])

    def reset(self):
        self.values.clear()


class FlashPort(Registers):
    """The serial port to the flash chip, as far as the boot loader and `unique_id` use it."""

    CTRLR0, SSIENR, SR, DR0 = 0x00, 0x08, 0x28, 0x60
    READY, HAS_DATA = 0x06, 0x08
    READ_ONLY = 0x300

    def __init__(self, unique_id):
        super().__init__()
        self.id = unique_id
        self._restart()

    def _restart(self):
        self.command, self.unread, self.next = [], 0, 0

    def _read_only(self):
        return self.values.get(self.CTRLR0, 0) & self.READ_ONLY == self.READ_ONLY

    def _answer(self, index):
        command = self.command[0] if self.command else 0
        if command == 0x35:  # status register 2: quad mode is on
            return 0x02
        if command == 0x4B:  # the number, after four bytes of nothing
            return self.id[(index - 4) % len(self.id)]
        return 0

    def read_uint32(self, offset):
        if offset == self.SR:
            return self.READY | (self.HAS_DATA if self.unread or self._read_only() else 0)
        if offset != self.DR0:
            return super().read_uint32(offset)
        index = self.next
        self.next += 1
        if self._read_only():
            return self._answer(index)
        self.unread = max(0, self.unread - 1)
        return self._answer(index - 1) if index else 0

    def write_uint32(self, offset, value):
        if offset == self.SSIENR:
            self._restart()
        if offset != self.DR0:
            super().write_uint32(offset, value)
            return
        if self.unread == 0 and self.next:
            self._restart()
        self.command.append(value & 0xFF)
        self.unread += 1
