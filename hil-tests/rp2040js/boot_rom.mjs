// The part of the RP2040's boot ROM that embassy-rp calls, in place of the real one, which the emulator's package does not hold.
//
// Each function is two instructions of ROM, `bkpt #number; bx lr`; the work is done here, where the breakpoint arrives. The
// function table and its look-up are as in section 2.8.3 of the RP2040 data sheet.
const STUBS = 0x100;
const FUNCTION_TABLE = 0x20;
const BX_LR = 0x4770;
const BKPT = 0xbe00;

export class BootRom {
  /** Puts the ROM into `rp`. `flash` does the erasing and programming; `stray(number)` is told of breakpoints of the program. */
  constructor(rp, flash, stray) {
    this.rp = rp;
    const nothing = () => {};
    this.functions = [
      ['lookup', (table, code) => this.address(code)],
      ['IF', nothing], // connect_internal_flash
      ['EX', nothing], // flash_exit_xip
      ['FC', nothing], // flash_flush_cache
      ['CX', nothing], // flash_enter_cmd_xip
      ['RE', (offset, length) => flash.erase(offset, length)], // flash_range_erase
      ['RP', (offset, data, length) => flash.program(offset, this.bytes(data, length))], // flash_range_program
      ['C4', (to, from, length) => this.copy(to, from, length)], // memcpy44
      ['MC', (to, from, length) => this.copy(to, from, length)], // memcpy
    ];
    this.write();
    rp.onBreak = (number) => {
      const entry = rp.core.PC < 0x4000 ? this.functions[number] : undefined;
      if (!entry) return stray(number);
      const result = entry[1](...rp.core.registers.subarray(0, 4));
      if (result !== undefined) rp.core.registers[0] = result;
    };
  }

  write() {
    const rom = new DataView(this.rp.bootrom.buffer);
    rom.setUint16(0x14, FUNCTION_TABLE, true);
    rom.setUint16(0x16, FUNCTION_TABLE, true);
    rom.setUint16(0x18, STUBS | 1, true);
    this.functions.forEach((_, number) => {
      rom.setUint16(STUBS + 4 * number, BKPT | number, true);
      rom.setUint16(STUBS + 4 * number + 2, BX_LR, true);
    });
  }

  /** The address of the function with this code of two letters; zero, as in the real ROM, where there is none. */
  address(code) {
    const name = String.fromCharCode(code & 0xff, (code >> 8) & 0xff);
    const number = this.functions.findIndex(([known]) => known === name);
    if (number < 0) throw new Error(`the program calls the boot ROM's function ${name}, which this boot ROM lacks`);
    return (STUBS + 4 * number) | 1;
  }

  bytes(from, length) {
    return Uint8Array.from({ length }, (_, index) => this.rp.readUint8(from + index));
  }

  copy(to, from, length) {
    this.bytes(from, length).forEach((byte, index) => this.rp.writeUint8(to + index, byte));
    return to;
  }
}
