// The ring oscillator's random bit, which rp2040js does not model: noise, or stuck, as a broken one would be.
import { randomInt } from 'node:crypto';
import { Registers } from './registers.mjs';

const [STATUS, RANDOMBIT] = [0x18, 0x1c];
const STABLE_AND_ENABLED = 0x80001000;

export class Rosc extends Registers {
  constructor({ stuck }) {
    super();
    this.stuck = stuck;
  }

  readUint32(offset) {
    if (offset === RANDOMBIT) return this.stuck ? 1 : randomInt(2);
    if (offset === STATUS) return STABLE_AND_ENABLED;
    return super.readUint32(offset);
  }
}
