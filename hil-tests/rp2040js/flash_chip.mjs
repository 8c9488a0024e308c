// The flash chip of a Pico (a W25Q16): erasing and programming by NOR rules, its number, and a file that outlives the power.
import fs from 'node:fs';
import { Registers } from './registers.mjs';

export const SECTOR = 4096;
/** The last bytes of the chip, which the board keeps for weft (boards/rp2040/src/region.rs); they are what the file holds. */
export const REGION = { start: 2 * 1024 * 1024 - 64 * 1024, length: 64 * 1024 };
// Typical times of the W25Q16JV's data sheet.
const ERASE_NANOS = 45e6;
const PROGRAM_NANOS = 0.4e6;
const PAGE = 256;

export class FlashChip {
  /**
   * The chip behind `rp.flash`. `file` keeps the region, if given. `cutAfter` erases and writes the power goes, in the midst of
   * one: half of it is done, and `cut` is called.
   */
  constructor(rp, { file, cutAfter = 0, cut }) {
    this.rp = rp;
    this.left = cutAfter;
    this.cut = cut;
    if (file) this.open(file);
  }

  open(path) {
    this.file = fs.openSync(path, fs.constants.O_RDWR | fs.constants.O_CREAT, 0o600);
    const kept = Buffer.alloc(REGION.length, 0xff);
    fs.readSync(this.file, kept, 0, kept.length, 0);
    fs.writeSync(this.file, kept, 0, kept.length, 0);
    this.rp.flash.set(kept, REGION.start);
  }

  erase(offset, length) {
    if (offset % SECTOR || length % SECTOR) throw new Error(`erase of ${length} bytes at ${offset} is not in sectors`);
    for (let at = offset; at < offset + length; at += SECTOR) {
      this.change(at, new Uint8Array(SECTOR).fill(0xff), ERASE_NANOS);
    }
  }

  program(offset, data) {
    if (offset % PAGE || data.length % PAGE) throw new Error(`write of ${data.length} bytes at ${offset} is not in pages`);
    for (let at = 0; at < data.length; at += PAGE) {
      // Programming only clears bits.
      const page = data.slice(at, at + PAGE).map((byte, index) => byte & this.rp.flash[offset + at + index]);
      this.change(offset + at, page, PROGRAM_NANOS);
    }
  }

  change(offset, bytes, nanos) {
    this.rp.clock.tick(nanos);
    const dies = this.left > 0 && --this.left === 0;
    const done = dies ? bytes.subarray(0, bytes.length / 2) : bytes;
    this.rp.flash.set(done, offset);
    if (this.file !== undefined && offset >= REGION.start) {
      fs.writeSync(this.file, done, 0, done.length, offset - REGION.start);
    }
    if (dies) this.cut();
  }
}

const [CTRLR0, SSIENR, SR, IDR, VERSION, DR0] = [0x00, 0x08, 0x28, 0x58, 0x5c, 0x60];
const [READY, HAS_DATA] = [0x06, 0x08];
const READ_ONLY_MODE = 0x300;

/** The RP2040's serial port to the flash chip, as far as the second-stage boot loader and embassy-rp's unique_id use it. */
export class FlashPort extends Registers {
  constructor(rp, { id }) {
    super();
    this.base = rp.peripherals[0x18000];
    this.id = id;
    this.ctrlr0 = 0;
    this.restart();
  }

  restart() {
    this.command = [];
    this.unread = 0;
    this.next = 0;
  }

  get readOnly() {
    return (this.ctrlr0 & READ_ONLY_MODE) === READ_ONLY_MODE;
  }

  /** Byte number `index` of the answer to the command, counted from the byte after the command byte. */
  answer(index) {
    switch (this.command[0]) {
      case 0x35: // status register 2: quad mode is on
        return 0x02;
      case 0x4b: // unique id, after four bytes of nothing
        return this.id[(index - 4) % this.id.length] ?? 0;
      case 0x9f: // maker and size: Winbond W25Q16
        return [0xef, 0x70, 0x15][index % 3];
      default:
        return 0;
    }
  }

  readUint32(offset) {
    if (offset === CTRLR0) return this.ctrlr0;
    if (offset === SR) return READY | (this.unread > 0 || this.readOnly ? HAS_DATA : 0);
    if (offset !== DR0) return this.base.readUint32(offset);
    // In the mode that only reads, the bytes clocked out with the command itself are not kept.
    if (this.readOnly) return this.answer(this.next++);
    this.unread = Math.max(0, this.unread - 1);
    const index = this.next++;
    return index === 0 ? 0 : this.answer(index - 1);
  }

  writeUint32(offset, value) {
    if (offset === CTRLR0) this.ctrlr0 = value;
    if (offset === SSIENR) this.restart();
    if (offset !== DR0) return this.base.writeUint32(offset, value);
    // Whoever has read all answers begins a new command.
    if (this.unread === 0 && this.next > 0) this.restart();
    this.command.push(value & 0xff);
    this.unread += 1;
  }
}
