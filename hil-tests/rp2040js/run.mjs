// Runs an image of boards/pico-w5500 with its Ethernet on a UDP socket, one frame a datagram, as QEMU's `-netdev dgram` does.
//
//   node run.mjs --elf IMAGE --switch 127.0.0.1:PORT [--local 127.0.0.1:PORT] [--flash FILE] [--id HEX] [--stuck-rosc]
//                [--cut-after N] [--verbose]
//
// The log (raw defmt) goes to standard output. Exits with 101 where the program stops itself (a panic), with 77 where the power
// was cut as --cut-after says.
import dgram from 'node:dgram';
import fs from 'node:fs';
import { parseArgs } from 'node:util';
import { Machine } from './machine.mjs';

const STOPPED = 101;
const POWER_CUT = 77;

const { values } = parseArgs({
  options: {
    elf: { type: 'string' },
    local: { type: 'string', default: '127.0.0.1:0' },
    switch: { type: 'string' },
    flash: { type: 'string' },
    id: { type: 'string', default: 'e660583883724a31' },
    'stuck-rosc': { type: 'boolean', default: false },
    'cut-after': { type: 'string', default: '0' },
    verbose: { type: 'boolean', default: false },
  },
});

function address(option) {
  const match = /^([\d.]+):(\d+)$/.exec(values[option] ?? '');
  if (!match) throw new Error(`--${option} must be an IPv4 address and a port, as 127.0.0.1:4000`);
  return { host: match[1], port: Number(match[2]) };
}

if (!values.elf) throw new Error('--elf IMAGE is missing');
const [local, far] = [address('local'), address('switch')];
const wire = dgram.createSocket('udp4');

function leave(code) {
  const rest = machine.rtt.drain();
  if (rest.length) fs.writeSync(1, rest);
  process.exit(code);
}

const machine = new Machine(
  {
    elf: values.elf,
    flash: values.flash,
    id: Buffer.from(values.id, 'hex'),
    stuckRosc: values['stuck-rosc'],
    cutAfter: Number(values['cut-after']),
    verbose: values.verbose,
  },
  {
    sent: (frame) => wire.send(frame, far.port, far.host),
    stray: () => {
      const at = (machine.rp.core.PC >>> 0).toString(16);
      process.stderr.write(`the program stopped itself at 0x${at} after ${(machine.nanos / 1e9).toFixed(3)} s\n`);
      leave(STOPPED);
    },
    cut: () => leave(POWER_CUT),
  },
);

let sleeping;
function turn() {
  sleeping = undefined;
  const idle = machine.slice();
  const log = machine.rtt.drain();
  if (log.length) fs.writeSync(1, log);
  if (idle >= 1) sleeping = setTimeout(turn, Math.min(idle, 100));
  else setImmediate(turn);
}

wire.on('message', (frame) => {
  machine.ethernet.receive(frame);
  if (sleeping) {
    clearTimeout(sleeping);
    turn();
  }
});
wire.bind(local.port, local.host, turn);
