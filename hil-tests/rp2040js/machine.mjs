// A Raspberry Pi Pico with a W5500: the emulated chip, what the emulator lacks, and the passing of time.
import { RP2040 } from 'rp2040js';
import { BootRom } from './boot_rom.mjs';
import { loadElf } from './elf.mjs';
import { FlashChip, FlashPort } from './flash_chip.mjs';
import { Registers } from './registers.mjs';
import { Rosc } from './rosc.mjs';
import { Rtt } from './rtt.mjs';
import { W5500 } from './w5500.mjs';

const VECTORS = 0x10000100;
const CYCLE_NANOS = 8;
/** How long the emulator runs before it looks at the wire again, in milliseconds of real time. */
const SLICE_MS = 2;
/** Steps between two looks at the real clock. */
const STEPS = 2000;
/** A lag of a busy chip behind real time that is not made up for by skipping its sleep. */
const MAX_LAG_NANOS = 5e6;
/** The pins of boards/pico-w5500/src/main.rs. */
const PINS = { select: 17, reset: 20, interrupt: 21 };

export class Machine {
  /** Loads the image; `sent` is told of frames, `stray` of a breakpoint or an undefined instruction in the program. */
  constructor(options, { sent, stray, cut }) {
    const rp = new RP2040();
    this.rp = rp;
    rp.logger = this.logger(options.verbose);
    const symbols = loadElf(options.elf, rp.flash);
    this.flash = new FlashChip(rp, { file: options.flash, cutAfter: options.cutAfter, cut });
    this.rom = new BootRom(rp, this.flash, stray);
    // By the upper bits of the address: the flash cache, the serial port to the flash chip, the ring oscillator, the regulator.
    rp.peripherals[0x14000] = new Registers();
    rp.peripherals[0x18000] = new FlashPort(rp, { id: options.id });
    rp.peripherals[0x40060] = new Rosc({ stuck: options.stuckRosc });
    rp.peripherals[0x40064] = new Registers();
    this.ethernet = new W5500(rp, rp.spi[0], PINS, sent);
    if (!symbols.has('_SEGGER_RTT')) throw new Error(`${options.elf} has no RTT log`);
    this.rtt = new Rtt(rp, symbols.get('_SEGGER_RTT'));
    // What the boot ROM and the second-stage boot loader do before they jump into the program.
    rp.core.VTOR = VECTORS;
    rp.core.SP = rp.readUint32(VECTORS);
    rp.core.PC = rp.readUint32(VECTORS + 4) & ~1;
  }

  /** rp2040js logs SEV and does nothing else, but embassy's executor wakes itself with it: the log sets the event. */
  logger(verbose) {
    const tell = (level, name, message) => verbose && process.stderr.write(`${level} ${name}: ${message}\n`);
    return {
      debug: () => {},
      info: (name, message) => {
        if (message === 'SEV') this.rp.core.eventRegistered = true;
      },
      warn: (name, message) => tell('warn', name, message),
      error: (name, message) => tell('error', name, message),
    };
  }

  /** Emulated time since the start in nanoseconds. */
  get nanos() {
    return this.rp.clock.nanos;
  }

  /**
   * Runs for a slice. Returns how many milliseconds nothing is to be done: the chip sleeps, and its time never runs ahead of
   * real time, since the machines at the other end of the wire live in real time.
   */
  slice() {
    const { core, clock } = this.rp;
    let now = performance.now();
    const end = now + SLICE_MS;
    this.origin ??= now;
    do {
      const limit = this.emulated(now);
      for (let step = 0; step < STEPS; step++) {
        if (core.waiting) {
          const rest = clock.nanosToNextAlarm;
          if (clock.nanos + rest > limit) {
            clock.tick(Math.max(0, limit - clock.nanos));
            return clock.nanosToNextAlarm / 1e6;
          }
          clock.tick(rest);
        } else clock.tick(core.executeInstruction() * CYCLE_NANOS);
      }
      now = performance.now();
      // The chip was busy all the while: what it has no time for now, it does later.
      if (this.emulated(now) - clock.nanos > MAX_LAG_NANOS) this.origin = now - clock.nanos / 1e6;
    } while (now < end);
    return 0;
  }

  /** The emulated time that a chip without lag would have now, in nanoseconds. */
  emulated(now) {
    return (now - this.origin) * 1e6;
  }
}
