//! How deep the stack went, by painting what lies below it.

use core::arch::asm;

/// What the unused stack is painted with.
const PAINT: u32 = 0x5afe_57ac;
/// Words below the stack pointer that are painted: more than anything here uses, less than the chips have.
const WORDS: usize = 8 * 1024;

/// A painted stack.
pub struct Painted {
    lowest: *mut u32,
}

fn stack_pointer() -> usize {
    let pointer;
    // SAFETY: copies a register.
    unsafe {
        #[cfg(target_arch = "arm")]
        asm!("mov {}, sp", out(reg) pointer, options(nomem, nostack));
        #[cfg(target_arch = "riscv32")]
        asm!("mv {}, sp", out(reg) pointer, options(nomem, nostack));
    }
    pointer
}

/// Paints the stack below the caller.
#[inline(never)]
pub fn paint() -> Painted {
    let lowest = (stack_pointer() - WORDS * size_of::<u32>()) as *mut u32;
    for index in 0..WORDS {
        // SAFETY: the words lie below the stack pointer, where nothing of this single thread lives, and above the
        // statics: the stack has over 200 KB.
        unsafe { lowest.add(index).write_volatile(PAINT) };
    }
    Painted { lowest }
}

impl Painted {
    /// Bytes from where it was painted to the deepest word that was written since.
    #[inline(never)]
    pub fn depth(&self) -> usize {
        // SAFETY: as in `paint`.
        let untouched = (0..WORDS).take_while(|index| unsafe { self.lowest.add(*index).read_volatile() } == PAINT);
        (WORDS - untouched.count()) * size_of::<u32>()
    }
}
