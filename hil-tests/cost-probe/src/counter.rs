//! Exact counts of executed instructions, under QEMU's `-icount shift=0`: one instruction is one nanosecond.
//!
//! RISC-V has a register for it. On ARM the finest clock is SysTick, which steps every 40 instructions; it is read
//! as a vernier: 40 times, each 41 instructions after the other, so that the sum of the readings grows by one with
//! every instruction that the first one is later.

/// A moment, in instructions.
#[derive(Clone, Copy)]
pub struct Moment(imp::Moment);

/// Starts the clock.
pub fn start() {
    imp::start();
}

/// Now.
#[inline(always)]
pub fn now() -> Moment {
    Moment(imp::now())
}

impl Moment {
    /// The instructions from here to `later`, with those that reading the clock takes. Less than 671 million.
    pub fn until(self, later: Self) -> u32 {
        imp::between(self.0, later.0)
    }
}

#[cfg(target_arch = "arm")]
mod imp {
    use core::arch::global_asm;

    use cortex_m::peripheral::syst::SystClkSource;

    /// Instructions of a step of SysTick, which mps2-an385 clocks with 25 MHz.
    const STEP: u32 = 40;
    /// SysTick has 24 bits.
    const MASK: u32 = 0x00ff_ffff;
    #[derive(Clone, Copy)]
    pub struct Moment {
        /// SysTick at the first reading. It counts down.
        first: u32,
        /// The sum of all readings.
        sum: u32,
    }

    pub fn start() {
        // SAFETY: the program has one thread and takes the peripherals nowhere else.
        let mut peripherals = unsafe { cortex_m::Peripherals::steal() };
        peripherals.SYST.set_clock_source(SystClkSource::Core);
        peripherals.SYST.set_reload(MASK);
        peripherals.SYST.clear_current();
        peripherals.SYST.enable_counter();
    }

    // The first reading in r0 and the sum of the readings in r1, which is how a 64-bit result is returned. The
    // address is that of SysTick's current value (ARMv6-M manual B3.3.5).
    global_asm!(
        ".thumb",
        ".type read_vernier, %function",
        ".thumb_func",
        "read_vernier:",
        "push {{r4, lr}}",
        "ldr r4, 3f",
        "ldr r0, [r4]",
        "movs r1, #0",
        "movs r2, #40",
        "2:",
        "ldr r3, [r4]",
        "adds r1, r1, r3",
        ".rept 37",
        "nop",
        ".endr",
        "subs r2, #1",
        "bne 2b",
        "pop {{r4, pc}}",
        ".balign 4",
        "3:",
        ".word 0xe000e018",
    );

    unsafe extern "C" {
        fn read_vernier() -> u64;
    }

    #[inline(always)]
    pub fn now() -> Moment {
        // SAFETY: the function above keeps to the calling convention, and only reads a register that every ARMv6-M core
        // has and that reading does not change.
        let readings = unsafe { read_vernier() };
        Moment { first: readings as u32, sum: (readings >> 32) as u32 }
    }

    pub fn between(start: Moment, end: Moment) -> u32 {
        let coarse = (start.first.wrapping_sub(end.first) & MASK) * STEP;
        let fine = start.sum.wrapping_sub(end.sum);
        // `fine` is right modulo 2^24, `coarse` to less than two steps.
        let correction = fine.wrapping_sub(coarse).wrapping_shl(8).cast_signed() >> 8;
        coarse.wrapping_add_signed(correction)
    }
}

#[cfg(target_arch = "riscv32")]
mod imp {
    pub type Moment = u64;

    pub fn start() {}

    #[inline(always)]
    pub fn now() -> Moment {
        riscv::register::minstret::read64()
    }

    pub fn between(start: Moment, end: Moment) -> u32 {
        (end - start) as u32
    }
}
