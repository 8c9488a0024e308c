//! Products of half elements: 10 by 10 limbs to 19 columns, modulo 2^32.
//!
//! ARMv6-M has eight registers for arithmetic, and the compiler does not order the products so that they suffice. So
//! there the two functions are assembly, a third shorter than what is compiled, in `armv6m.s`; every other target
//! has the columns written out in Rust. The assembly has no branch, and no address in it depends on a limb. The
//! vectors run on the chip itself, in `hil-tests/cost-probe`.

use crate::element::Half;

/// The columns of a product of two [`Half`]s.
pub(crate) type Columns = [i32; 19];

#[cfg(short_multiply)]
pub(crate) use armv6m::{multiply, square};
#[cfg(any(test, not(short_multiply)))]
pub(crate) use portable::{multiply, square};

#[cfg(short_multiply)]
mod armv6m {
    #![expect(unsafe_code, reason = "calls the assembly")]

    use super::{Columns, Half};

    core::arch::global_asm!(include_str!("armv6m.s"), options(raw));

    unsafe extern "C" {
        fn weft_x25519_multiply_half(out: *mut Columns, a: *const Half, b: *const Half);
        fn weft_x25519_square_half(out: *mut Columns, a: *const Half);
    }

    /// `out = a * b`.
    #[inline(always)]
    pub(crate) fn multiply(out: &mut Columns, a: &Half, b: &Half) {
        // SAFETY: the function keeps to the C calling convention, reads the 10 words of each operand and writes the
        // 19 words of the result, which the references make valid, aligned and apart from each other.
        unsafe { weft_x25519_multiply_half(out, a, b) }
    }

    /// `out = a * a`.
    #[inline(always)]
    pub(crate) fn square(out: &mut Columns, a: &Half) {
        // SAFETY: as above, with one operand.
        unsafe { weft_x25519_square_half(out, a) }
    }
}

#[cfg(any(test, not(short_multiply)))]
mod portable {
    use super::{Columns, Half};

    /// The sum of the products of pairs of limbs.
    macro_rules! sum {
        ($a:ident $b:ident: $i0:literal $j0:literal $(, $i:literal $j:literal)*) => {
            $a[$i0].wrapping_mul($b[$j0])$(.wrapping_add($a[$i].wrapping_mul($b[$j])))*
        };
    }

    const fn twice(x: i32) -> i32 {
        x.wrapping_add(x)
    }

    /// `out = a * b`.
    #[inline(never)]
    #[rustfmt::skip]
    pub(crate) fn multiply(out: &mut Columns, a: &Half, b: &Half) {
        out[0] = sum!(a b: 0 0);
        out[1] = sum!(a b: 0 1, 1 0);
        out[2] = sum!(a b: 0 2, 1 1, 2 0);
        out[3] = sum!(a b: 0 3, 1 2, 2 1, 3 0);
        out[4] = sum!(a b: 0 4, 1 3, 2 2, 3 1, 4 0);
        out[5] = sum!(a b: 0 5, 1 4, 2 3, 3 2, 4 1, 5 0);
        out[6] = sum!(a b: 0 6, 1 5, 2 4, 3 3, 4 2, 5 1, 6 0);
        out[7] = sum!(a b: 0 7, 1 6, 2 5, 3 4, 4 3, 5 2, 6 1, 7 0);
        out[8] = sum!(a b: 0 8, 1 7, 2 6, 3 5, 4 4, 5 3, 6 2, 7 1, 8 0);
        out[9] = sum!(a b: 0 9, 1 8, 2 7, 3 6, 4 5, 5 4, 6 3, 7 2, 8 1, 9 0);
        out[10] = sum!(a b: 1 9, 2 8, 3 7, 4 6, 5 5, 6 4, 7 3, 8 2, 9 1);
        out[11] = sum!(a b: 2 9, 3 8, 4 7, 5 6, 6 5, 7 4, 8 3, 9 2);
        out[12] = sum!(a b: 3 9, 4 8, 5 7, 6 6, 7 5, 8 4, 9 3);
        out[13] = sum!(a b: 4 9, 5 8, 6 7, 7 6, 8 5, 9 4);
        out[14] = sum!(a b: 5 9, 6 8, 7 7, 8 6, 9 5);
        out[15] = sum!(a b: 6 9, 7 8, 8 7, 9 6);
        out[16] = sum!(a b: 7 9, 8 8, 9 7);
        out[17] = sum!(a b: 8 9, 9 8);
        out[18] = sum!(a b: 9 9);
    }

    /// `out = a * a`.
    #[inline(never)]
    #[rustfmt::skip]
    pub(crate) fn square(out: &mut Columns, a: &Half) {
        out[0] = sum!(a a: 0 0);
        out[1] = twice(sum!(a a: 0 1));
        out[2] = twice(sum!(a a: 0 2)).wrapping_add(sum!(a a: 1 1));
        out[3] = twice(sum!(a a: 0 3, 1 2));
        out[4] = twice(sum!(a a: 0 4, 1 3)).wrapping_add(sum!(a a: 2 2));
        out[5] = twice(sum!(a a: 0 5, 1 4, 2 3));
        out[6] = twice(sum!(a a: 0 6, 1 5, 2 4)).wrapping_add(sum!(a a: 3 3));
        out[7] = twice(sum!(a a: 0 7, 1 6, 2 5, 3 4));
        out[8] = twice(sum!(a a: 0 8, 1 7, 2 6, 3 5)).wrapping_add(sum!(a a: 4 4));
        out[9] = twice(sum!(a a: 0 9, 1 8, 2 7, 3 6, 4 5));
        out[10] = twice(sum!(a a: 1 9, 2 8, 3 7, 4 6)).wrapping_add(sum!(a a: 5 5));
        out[11] = twice(sum!(a a: 2 9, 3 8, 4 7, 5 6));
        out[12] = twice(sum!(a a: 3 9, 4 8, 5 7)).wrapping_add(sum!(a a: 6 6));
        out[13] = twice(sum!(a a: 4 9, 5 8, 6 7));
        out[14] = twice(sum!(a a: 5 9, 6 8)).wrapping_add(sum!(a a: 7 7));
        out[15] = twice(sum!(a a: 6 9, 7 8));
        out[16] = twice(sum!(a a: 7 9)).wrapping_add(sum!(a a: 8 8));
        out[17] = twice(sum!(a a: 8 9));
        out[18] = sum!(a a: 9 9);
    }
}
