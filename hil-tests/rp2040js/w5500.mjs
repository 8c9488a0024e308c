// A WIZnet W5500 on an SPI port of the emulator: socket 0 in MACRAW mode, which is all that embassy-net-wiznet uses.
//
// Register names and behaviour are those of the W5500 data sheet, version 1.1.0, sections 2 to 4.
const BUFFER = 0x4000;

const common = { MR: 0x00, SHAR: 0x09, SIMR: 0x18, PHYCFGR: 0x2e, VERSIONR: 0x39 };
const socket = { MR: 0x00, CR: 0x01, IR: 0x02, SR: 0x03, TX_FSR: 0x20, TX_RD: 0x22, TX_WR: 0x24, RX_RSR: 0x26, RX_RD: 0x28, RX_WR: 0x2a, IMR: 0x2c };
const [COMMON, SOCKET0, TX, RX] = [0, 1, 2, 3];
const [OPEN, CLOSE, SEND, RECV] = [0x01, 0x10, 0x20, 0x40];
const [SENT, RECEIVED] = [0x10, 0x04];
const [SOCK_CLOSED, SOCK_MACRAW] = [0x00, 0x42];
const MAC_FILTER = 0x80;
const WRITE = 0x04;
const RESET = 0x80;
const LINK_UP = 0xbf;
const VERSION = 4;
const BITS_NANOS = 8e9;

export class W5500 {
  /** A chip on `spi` with its select, interrupt and reset lines on these pins. `sent` is told of every frame that it sends. */
  constructor(rp, spi, pins, sent) {
    this.interruptPin = rp.gpio[pins.interrupt];
    this.sent = sent;
    this.dropped = 0;
    this.reset();
    this.selected = false;
    rp.gpio[pins.select].addListener((level) => {
      this.selected = level === 0;
      this.position = 0;
    });
    rp.gpio[pins.reset].addListener((level) => level === 0 && this.reset());
    // A byte takes its time on the wire. Without it the DMA channel that sends outruns the one that receives, and the port's
    // receive FIFO overflows.
    const done = rp.clock.createAlarm(() => spi.completeTransmit(this.answer));
    spi.onTransmit = (byte) => {
      this.answer = this.selected ? this.exchange(byte & 0xff) : 0;
      done.schedule(BITS_NANOS / spi.clockFrequency);
    };
  }

  reset() {
    this.common = new Uint8Array(0x40);
    this.common[common.VERSIONR] = VERSION;
    this.common[common.PHYCFGR] = LINK_UP;
    this.socket = new DataView(new ArrayBuffer(0x30));
    this.tx = new Uint8Array(BUFFER);
    this.rx = new Uint8Array(BUFFER);
    this.readUpTo = 0;
    this.raiseInterrupt();
  }

  get(register) {
    return this.socket.getUint16(register);
  }

  set(register, value) {
    this.socket.setUint16(register, value & 0xffff);
  }

  /** One byte each way: two of address, one of control, then data. */
  exchange(byte) {
    const position = this.position++;
    if (position === 0) this.address = byte << 8;
    else if (position === 1) this.address |= byte;
    else if (position === 2) this.control = byte;
    else {
      const address = this.address;
      this.address = (address + 1) & 0xffff;
      const block = this.control >> 3;
      if (this.control & WRITE) this.write(block, address, byte);
      else return this.read(block, address);
    }
    return 0;
  }

  read(block, address) {
    if (block === COMMON) return this.common[address] ?? 0;
    if (block === TX) return this.tx[address % BUFFER];
    if (block === RX) return this.rx[address % BUFFER];
    if (block !== SOCKET0 || address >= this.socket.byteLength) return 0;
    this.set(socket.TX_FSR, BUFFER - ((this.get(socket.TX_WR) - this.get(socket.TX_RD)) & 0xffff));
    this.set(socket.RX_RSR, this.get(socket.RX_WR) - this.readUpTo);
    return this.socket.getUint8(address);
  }

  write(block, address, byte) {
    if (block === COMMON) {
      if (address === common.MR && byte & RESET) return this.reset();
      this.common[address] = byte;
    } else if (block === TX) this.tx[address % BUFFER] = byte;
    else if (block === RX) this.rx[address % BUFFER] = byte;
    else if (block === SOCKET0 && address === socket.CR) this.command(byte);
    else if (block === SOCKET0 && address === socket.IR) this.clearInterrupt(byte);
    else if (block === SOCKET0 && address < this.socket.byteLength) this.socket.setUint8(address, byte);
    this.raiseInterrupt();
  }

  command(command) {
    if (command === OPEN) this.socket.setUint8(socket.SR, SOCK_MACRAW);
    else if (command === CLOSE) this.socket.setUint8(socket.SR, SOCK_CLOSED);
    else if (command === SEND) this.send();
    else if (command === RECV) {
      this.readUpTo = this.get(socket.RX_RD);
      if (this.readUpTo !== this.get(socket.RX_WR)) this.interrupt(RECEIVED);
    }
  }

  send() {
    const [from, to] = [this.get(socket.TX_RD), this.get(socket.TX_WR)];
    const frame = Uint8Array.from({ length: (to - from) & 0xffff }, (_, index) => this.tx[(from + index) % BUFFER]);
    this.set(socket.TX_RD, to);
    this.interrupt(SENT);
    this.sent(frame);
  }

  /** A frame from the wire. Dropped, and counted, where the receive buffer has no room; ignored where it is for another. */
  receive(frame) {
    if (this.socket.getUint8(socket.SR) !== SOCK_MACRAW || !this.isForUs(frame)) return;
    const start = this.get(socket.RX_WR);
    const length = frame.length + 2;
    if (((start - this.readUpTo) & 0xffff) + length > BUFFER) {
      this.dropped += 1;
      return;
    }
    const record = Uint8Array.of(length >> 8, length & 0xff, ...frame);
    record.forEach((byte, index) => (this.rx[(start + index) % BUFFER] = byte));
    this.set(socket.RX_WR, start + length);
    this.interrupt(RECEIVED);
    this.raiseInterrupt();
  }

  isForUs(frame) {
    if (!(this.socket.getUint8(socket.MR) & MAC_FILTER) || frame[0] & 1) return true;
    return frame.subarray(0, 6).every((byte, index) => byte === this.common[common.SHAR + index]);
  }

  interrupt(cause) {
    this.socket.setUint8(socket.IR, this.socket.getUint8(socket.IR) | cause);
  }

  clearInterrupt(causes) {
    this.socket.setUint8(socket.IR, this.socket.getUint8(socket.IR) & ~causes);
  }

  /** The interrupt line is low while an unmasked cause is pending. */
  raiseInterrupt() {
    const pending = this.socket.getUint8(socket.IR) & this.socket.getUint8(socket.IMR);
    this.interruptPin.setInputValue(!(pending && this.common[common.SIMR] & 1));
  }
}
