//! How deep the stack ever went: the free stack is painted at boot, and what is still painted was never used.
//!
//! The linker script gives the bounds: `_stack_start` is the top, where the stack begins, and `_stack_end` the lowest
//! address that it may reach. On a chip with one stack interrupts are counted too.

#![allow(unsafe_code)]

use core::ptr;

/// What nothing leaves on a stack by chance.
const PAINT: u32 = 0xa5c3_5a3c;
/// Words above the lowest free address that stay unpainted: the frames of [`paint`] itself and of what it calls.
const MARGIN: usize = 64;

unsafe extern "C" {
    static mut _stack_start: u32;
    static mut _stack_end: u32;
}

/// Paints the free part of the stack. To be called once, first thing in `main`.
#[inline(never)]
pub fn paint() {
    let here = 0u32;
    let bottom = &raw mut _stack_end;
    let words = words_between(bottom, ptr::from_ref(&here)).saturating_sub(MARGIN);
    for index in 0..words {
        // SAFETY: from `_stack_end` to the present stack pointer, less a margin for this function's own frame, is memory that
        // the linker keeps for the stack alone and that nothing uses yet.
        unsafe { bottom.add(index).write_volatile(PAINT) };
    }
}

/// The greatest depth of the stack since [`paint`], in bytes.
pub fn high_water() -> usize {
    let bottom = &raw const _stack_end;
    let all = words_between(bottom, &raw const _stack_start);
    // SAFETY: the range is the stack's own memory, aligned and never unmapped; the read is volatile, since the compiler does not
    // know what pushes there.
    let painted = (0..all).take_while(|index| unsafe { bottom.add(*index).read_volatile() } == PAINT).count();
    (all - painted) * size_of::<u32>()
}

/// Bytes that the linker left for the stack.
pub fn size() -> usize {
    words_between(&raw const _stack_end, &raw const _stack_start) * size_of::<u32>()
}

fn words_between(low: *const u32, high: *const u32) -> usize {
    (high as usize).saturating_sub(low as usize) / size_of::<u32>()
}
