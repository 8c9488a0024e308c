"""The CYW43439 of a Pico W as embassy's driver uses it.

rp2040py has a model of the radio that follows the pico-sdk. Embassy's driver configures the chip in another way; the class here
is that model with the differences. It talks gSPI: words, a status word after each transfer.
"""

from rp2040py.external.cyw43 import Cyw43439
from rp2040py.external.cyw43 import bus as model

# The one network that the model has; any password is right.
NETWORK = "RP2040PY-GUEST"

# Pins of a Pico W.
POWER, SELECT = 23, 25

F2_READY = 0x20
# BCMILCP_SUBTYPE_VENDOR_LONG, by which embassy knows an event.
EVENT_SUBTYPE = b"\x80\x01"
# Events of a join as the chip sends them: number, status, flags. The last one is what embassy waits for.
JOIN_EVENTS = ((3, 0, 0), (7, 0, 0), (1, 0, 0), (16, 0, 1), (46, 6, 0), (0, 0, 0))
# A shift register with nothing in it.
EMPTY = 32
# How often the state machine gets a step while the processor sleeps: a cycle while it has work.
BUSY_NANOS, IDLE_NANOS = 16, 4000


class EmbassyBus(model.GSPIBus):
    """Little-endian words, one word of padding on the backplane, and a status word after every transfer."""

    def _word(self, word):
        return word if self._word_length_32 else model._swap_halves(word)

    def _status(self):
        return self._read_f0(model.SPI_STATUS_REGISTER, 4)

    def _answer(self, words):
        self._response_bytes = b"".join(self._word(word).to_bytes(4, "big") for word in words)
        self._response_bit_index = 0

    def _start_response(self, command):
        value = self.read_register(command.function, command.address, command.size)
        words = model._value_to_words(value, command.size)
        if command.function == model.BACKPLANE_FUNCTION:
            words = [0] + words
        self._answer(words + [self._status()])

    def read_register(self, function, address, size):
        return super().read_register(function, self._whole_word(function, address), size)

    def write_register(self, function, address, size, value):
        super().write_register(function, self._whole_word(function, address), size, value)
        self._answer([self._status()])

    @staticmethod
    def _whole_word(function, address):
        """Embassy leaves the flag of 32-bit access out, and the chip does not mind."""
        windowed = function == model.BACKPLANE_FUNCTION and not address & 0x10000
        return address | model.SBSDIO_SB_ACCESS_2_4B_FLAG if windowed else address

    def _read_f0(self, address, size):
        value = super()._read_f0(address, size)
        return value | F2_READY if address == model.SPI_STATUS_REGISTER else value

    def _write_wlan(self, data):
        # Padded to whole words; the first two bytes have the length.
        super()._write_wlan(data[: int.from_bytes(data[:2], "little")])

    def _build_async_event(self, *arguments, **options):
        frame = bytearray(super()._build_async_event(*arguments, **options))
        subtype = model.SDPCM_HEADER_LEN + 4 + 14
        frame[subtype : subtype + 2] = EVENT_SUBTYPE
        return bytes(frame)

    def _queue_join_events(self):
        for event, status, flags in JOIN_EVENTS:
            self.queue_rx_packet(self._build_async_event(event, status, flags=flags))


class Radio:
    """The radio of `rp`. `sent` is told of every Ethernet frame that the program sends."""

    def __init__(self, rp, sent):
        self.sent = sent
        chip = Cyw43439()
        chip.bus = EmbassyBus()
        chip.attach(rp)
        chip.bus.nat_bridge = self
        self.bus = chip.bus
        self.machine = rp.pio[0].machines[0]
        self.machines = [machine for block in rp.pio for machine in block.machines]
        # The emulator starts a state machine with a full output shift register; the chip starts with an empty one.
        rp.gpio[POWER].add_listener(lambda *_: self._empty_registers())
        rp.gpio[SELECT].add_listener(lambda level, _: self._end_wait(level))
        # While the processor sleeps the emulator goes straight to the next alarm, and the state machine gets one step a jump.
        self.alarm = rp.clock.create_alarm(self._step)
        self._step()

    def receive(self, frame):
        """A frame from the wire."""
        self.bus.queue_rx_ethernet_frame(frame)

    def _empty_registers(self):
        for machine in self.machines:
            machine.output_shift_count = EMPTY

    def _end_wait(self, level):
        """An instruction that is written to a stalled state machine ends the stall on the chip, but not in the emulator."""
        if int(level) == 0:
            self.machine.enabled = False
            self.machine.waiting = False
            self.machine.output_shift_count = EMPTY

    def _step(self):
        busy = self.machine.enabled and not self.machine.waiting
        self.alarm.schedule(BUSY_NANOS if busy else IDLE_NANOS)

    # What the model calls.

    def handle_outbound_ethernet_frame(self, frame):
        self.sent(bytes(frame))

    def reset(self):
        pass
