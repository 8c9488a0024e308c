// SEGGER RTT, up channel 0: where defmt-rtt puts its log.
const RAM = 0x20000000;
const UP_CHANNEL = 24;
const MAGIC = 'SEGGER RTT';
const BLOCK_IF_FULL = 2;

export class Rtt {
  /** The control block at `address` of the RP2040's memory. */
  constructor(rp, address) {
    this.sram = Buffer.from(rp.sram.buffer);
    this.at = address - RAM;
  }

  /** The bytes written since the last call. A firmware that fills the buffer waits for the next call, as under probe-rs. */
  drain() {
    const { sram, at } = this;
    if (sram.toString('latin1', at, at + MAGIC.length) !== MAGIC) return Buffer.alloc(0);
    const up = at + UP_CHANNEL;
    sram.writeUInt32LE(BLOCK_IF_FULL, up + 20);
    const [start, size, written, read] = [4, 8, 12, 16].map((field) => sram.readUInt32LE(up + field));
    if (written === read) return Buffer.alloc(0);
    const buffer = sram.subarray(start - RAM, start - RAM + size);
    const bytes = written > read
      ? Buffer.from(buffer.subarray(read, written))
      : Buffer.concat([buffer.subarray(read), buffer.subarray(0, written)]);
    sram.writeUInt32LE(written, up + 16);
    return bytes;
  }
}
