// Runs the probe's program `cycles` in the RP2040 emulator rp2040js and prints, for each pair of its breakpoints,
// `cycles|subject|instructions|cycles`. The emulator counts as a Cortex-M0+ does where code and data are always at hand.
//
//   node cycles.mjs IMAGE
import { createRequire } from 'node:module';
import { loadElf } from '../rp2040js/elf.mjs';

const { RP2040 } = createRequire(new URL('../rp2040js/elf.mjs', import.meta.url))('rp2040js');

const SUBJECTS = ['X25519, weft-x25519', 'X25519, x25519-dalek', 'seal 1,280 B', 'open 1,280 B'];
const VECTORS = 0x10000100;
/** More than all subjects together take. */
const LIMIT = 200e6;

const rp = new RP2040();
rp.logger = { debug() {}, info() {}, warn() {}, error() {} };
loadElf(process.argv[2], rp.flash);
const { core } = rp;
core.VTOR = VECTORS;
core.SP = rp.readUint32(VECTORS);
core.PC = rp.readUint32(VECTORS + 4) & ~1;

let instructions = 0;
let since;
let done = 0;
let checked = false;
rp.onBreak = (number) => {
  if (number !== 0) throw new Error(`the program stopped itself at 0x${(core.PC >>> 0).toString(16)}`);
  const now = { instructions, cycles: core.cycles };
  if (done === SUBJECTS.length) {
    // The program has found its results right.
    checked = true;
  } else if (since) {
    // The breakpoint that ends it is counted once in both.
    console.log(`cycles|${SUBJECTS[done]}|${now.instructions - since.instructions - 1}|${now.cycles - since.cycles - 1}`);
    since = undefined;
    done += 1;
  } else since = now;
};
while (!checked) {
  core.executeInstruction();
  instructions += 1;
  if (instructions > LIMIT) throw new Error(`no end after ${LIMIT} instructions`);
}
