// A peripheral that only keeps what is written to it; others build on it.

/** Registers with the RP2040's atomic aliases: plain write, exclusive or, set bits, clear bits. */
export class Registers {
  constructor() {
    this.values = new Map();
  }

  readUint32(offset) {
    return this.values.get(offset) ?? 0;
  }

  writeUint32(offset, value) {
    this.values.set(offset, value >>> 0);
  }

  writeUint32Atomic(offset, value, type) {
    const old = type === 0 ? 0 : this.readUint32(offset);
    this.writeUint32(offset, [value, old ^ value, old | value, old & ~value][type]);
  }
}
