//! Uses `weft-core` in a finished library that has no global allocator.
//!
//! The compiler refuses to finish such a library when any crate in it needs `alloc`.

#![no_std]
#![forbid(unsafe_code)]

use minicbor as _;
use weft_core as _;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}
