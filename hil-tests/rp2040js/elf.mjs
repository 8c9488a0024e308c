// An ELF image of an RP2040: its segments go to flash, its symbols are returned.
import fs from 'node:fs';

const FLASH = 0x10000000;
const FLASH_END = 0x11000000;
const PT_LOAD = 1;
const SHT_SYMTAB = 2;

/** Copies the segments of the 32-bit little-endian ELF file at `path` into `flash`; returns symbol names and their addresses. */
export function loadElf(path, flash) {
  const bytes = fs.readFileSync(path);
  if (bytes.readUInt32BE(0) !== 0x7f454c46 || bytes[4] !== 1) throw new Error(`${path} is not a 32-bit ELF file`);
  copySegments(path, bytes, flash);
  return symbols(bytes);
}

function copySegments(path, bytes, flash) {
  const [table, size, count] = [bytes.readUInt32LE(28), bytes.readUInt16LE(42), bytes.readUInt16LE(44)];
  for (let at = table; at < table + size * count; at += size) {
    const [type, offset, address, length] = [0, 4, 12, 16].map((field) => bytes.readUInt32LE(at + field));
    if (type !== PT_LOAD || length === 0) continue;
    if (address < FLASH || address + length > FLASH_END) throw new Error(`${path} has a segment outside of flash`);
    flash.set(bytes.subarray(offset, offset + length), address - FLASH);
  }
}

function symbols(bytes) {
  const found = new Map();
  const [table, size, count] = [bytes.readUInt32LE(32), bytes.readUInt16LE(46), bytes.readUInt16LE(48)];
  for (let at = table; at < table + size * count; at += size) {
    if (bytes.readUInt32LE(at + 4) !== SHT_SYMTAB) continue;
    const [offset, length, link] = [16, 20, 24].map((field) => bytes.readUInt32LE(at + field));
    const names = bytes.readUInt32LE(table + link * size + 16);
    for (let symbol = offset; symbol < offset + length; symbol += 16) {
      const name = names + bytes.readUInt32LE(symbol);
      found.set(bytes.toString('latin1', name, bytes.indexOf(0, name)), bytes.readUInt32LE(symbol + 4));
    }
  }
  return found;
}
