//! Elements of the field of integers modulo p = 2^255 - 19.
//!
//! An element is 20 signed limbs of 13 bits: limb `i` counts 2^(13 i), and 2^260 is 608 modulo p. Limbs are
//! *tight* where a product or [`Element::set_bytes`] made them, at most [`TIGHT`] in magnitude, and *loose*, at
//! most [`LOOSE`], after one addition or subtraction of tight elements, which therefore carry nothing. Products
//! take loose operands; sums take tight ones. Debug builds check it.

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::product::Scratch;

/// Bits of a limb.
pub(crate) const LIMB_BITS: u32 = 13;
/// 2^260 modulo p: 2^5 * 19.
pub(crate) const FOLD: i32 = 608;
/// The greatest magnitude of a limb of a product. Limbs are in -4,096..=4,095 but for the third lowest, where the
/// last carry ends.
pub(crate) const TIGHT: i32 = 4_105;
/// The greatest magnitude of a limb of a sum.
pub(crate) const LOOSE: i32 = 2 * TIGHT;

/// The greatest factor of [`Element::set_multiple_and_sum`]: the curve's (486,662 + 2) / 4.
pub(crate) const MAX_FACTOR: i32 = 121_666;
/// Bits of the highest limb that are below 2^255.
const TOP_BITS: u32 = 255 - 19 * LIMB_BITS;
pub(crate) const LIMB_MASK: i32 = (1 << LIMB_BITS) - 1;

/// Half of an element's limbs.
pub(crate) type Half = [i32; 10];

/// An element of the field, in one of its many representations.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct Element {
    /// Limbs 0 to 9.
    pub(crate) low: Half,
    /// Limbs 10 to 19.
    pub(crate) high: Half,
}

/// A value as a limb in -4,096..=4,095 and the carry to the next limb. Values are below 2^31 - 4,096 in magnitude.
#[inline(always)]
pub(crate) const fn split(value: i32) -> (i32, i32) {
    // The two shifts carry the sign of the limb's highest bit up.
    let limb = (value << (32 - LIMB_BITS)) >> (32 - LIMB_BITS);
    (limb, value.wrapping_sub(limb) >> LIMB_BITS)
}

impl Element {
    pub(crate) const ZERO: Self = Self { low: [0; 10], high: [0; 10] };

    pub(crate) const ONE: Self = Self { low: [1, 0, 0, 0, 0, 0, 0, 0, 0, 0], high: [0; 10] };

    /// Becomes the element that RFC 7748 encodes so: the highest bit does not count, and values from p on are taken
    /// modulo p. Tight.
    pub(crate) fn set_bytes(&mut self, bytes: &[u8; 32]) {
        let mut bytes = *bytes;
        bytes[31] &= 0x7f;
        let mut bytes = bytes.into_iter();
        let (mut bits, mut held, mut carry) = (0u32, 0, 0);
        for limb in self.limbs_mut() {
            while held < LIMB_BITS {
                bits |= u32::from(bytes.next().unwrap_or(0)) << held;
                held += 8;
            }
            let value = (bits & LIMB_MASK.cast_unsigned()).cast_signed();
            // The highest limb is at most 2^8, so that nothing is carried out of it.
            (*limb, carry) = split(value + carry);
            bits >>= LIMB_BITS;
            held -= LIMB_BITS;
        }
    }

    /// The one encoding that is less than p. The element may be loose; its limbs become the encoding's, and
    /// `temporary` is overwritten.
    pub(crate) fn encode(&mut self, temporary: &mut Self) -> [u8; 32] {
        // The limbs below the highest are worth less than 2^249 in magnitude, so that after the first pass the value
        // is between -2^249 and 2^255 + 2^249, and after the second, which adds p or takes it away where the
        // value is outside, between 0 and 2^255 - 1.
        for _ in 0..2 {
            self.subtract_multiple_of_p(self.high[9] >> TOP_BITS);
        }
        // The value is p or more exactly where 19 more reach 2^255.
        temporary.copy_from(self);
        temporary.low[0] += 19;
        temporary.carry_up();
        self.subtract_multiple_of_p(temporary.high[9] >> TOP_BITS);

        let mut out = [0; 32];
        let mut limbs = self.limbs_mut();
        let (mut bits, mut held) = (0u32, 0);
        for byte in &mut out {
            if held < 8 {
                bits |= limbs.next().map_or(0, |limb| limb.cast_unsigned()) << held;
                held += LIMB_BITS;
            }
            [*byte, ..] = bits.to_le_bytes();
            bits >>= 8;
            held -= 8;
        }
        out
    }

    /// Takes `multiple` times 2^255 - 19 away, and makes all limbs but the highest non-negative.
    fn subtract_multiple_of_p(&mut self, multiple: i32) {
        self.high[9] -= multiple << TOP_BITS;
        self.low[0] += 19 * multiple;
        self.carry_up();
    }

    /// Makes all limbs but the highest non-negative; the value stays the same.
    fn carry_up(&mut self) {
        let mut carry = 0;
        for limb in self.limbs_mut().take(19) {
            let value = *limb + carry;
            *limb = value & LIMB_MASK;
            carry = value >> LIMB_BITS;
        }
        self.high[9] += carry;
    }

    /// Becomes equal to `other`.
    pub(crate) fn copy_from(&mut self, other: &Self) {
        self.low = other.low;
        self.high = other.high;
    }

    fn limbs_mut(&mut self) -> impl Iterator<Item = &mut i32> {
        self.low.iter_mut().chain(&mut self.high)
    }

    /// `self = a + b` of tight elements; loose.
    #[inline(never)]
    pub(crate) fn set_sum(&mut self, a: &Self, b: &Self) {
        debug_assert!(a.is_tight() && b.is_tight(), "only tight elements are added");
        unroll!(I in [0 1 2 3 4 5 6 7 8 9] {
            self.low[I] = a.low[I].wrapping_add(b.low[I]);
            self.high[I] = a.high[I].wrapping_add(b.high[I]);
        });
    }

    /// `self = a - b` of tight elements; loose.
    #[inline(never)]
    pub(crate) fn set_difference(&mut self, a: &Self, b: &Self) {
        debug_assert!(a.is_tight() && b.is_tight(), "only tight elements are subtracted");
        unroll!(I in [0 1 2 3 4 5 6 7 8 9] {
            self.low[I] = a.low[I].wrapping_sub(b.low[I]);
            self.high[I] = a.high[I].wrapping_sub(b.high[I]);
        });
    }

    /// `self = a * factor + b`, tight, where `a` may be loose and `factor` is at most [`MAX_FACTOR`].
    #[inline(never)]
    pub(crate) fn set_multiple_and_sum(&mut self, a: &Self, factor: i32, b: &Self) {
        debug_assert!(a.is_loose() && (0..=MAX_FACTOR).contains(&factor) && b.is_tight(), "the limbs would overflow");
        // At most 8,210 * 121,666 + 4,105 + 122,000 < 0.9991e9 a limb.
        let mut carry = 0;
        unroll!(I in [0 1 2 3 4 5 6 7 8 9] {
            (self.low[I], carry) = split(a.low[I].wrapping_mul(factor).wrapping_add(b.low[I]).wrapping_add(carry));
        });
        unroll!(I in [0 1 2 3 4 5 6 7 8 9] {
            (self.high[I], carry) = split(a.high[I].wrapping_mul(factor).wrapping_add(b.high[I]).wrapping_add(carry));
        });
        self.fold_carry(carry);
    }

    /// Adds what was carried out of the highest limb, at most 166,000, to the lowest. The limbs are then tight:
    /// 166,000 * 608 + 4,096 < 1.01e8 leaves a carry of at most 12,400, that one of at most 2.
    #[inline(always)]
    pub(crate) const fn fold_carry(&mut self, carry: i32) {
        let (limb, carry) = split(self.low[0].wrapping_add(carry.wrapping_mul(FOLD)));
        self.low[0] = limb;
        let (limb, carry) = split(self.low[1].wrapping_add(carry));
        self.low[1] = limb;
        self.low[2] = self.low[2].wrapping_add(carry);
    }

    /// Swaps `a` and `b` where `choice` is 1, leaves them where it is 0, with the same instructions.
    #[inline(never)]
    pub(crate) fn swap(choice: u32, a: &mut Self, b: &mut Self) {
        // Opaque, so that the compiler makes no branch of it.
        let mask = core::hint::black_box(choice.wrapping_neg()).cast_signed();
        unroll!(I in [0 1 2 3 4 5 6 7 8 9] {
            let difference = mask & (a.low[I] ^ b.low[I]);
            a.low[I] ^= difference;
            b.low[I] ^= difference;
            let difference = mask & (a.high[I] ^ b.high[I]);
            a.high[I] ^= difference;
            b.high[I] ^= difference;
        });
    }

    /// `self = 1 / self` by Fermat, as the power p - 2 = 2^255 - 21; zero for zero.
    pub(crate) fn invert(&mut self, scratch: &mut Scratch, temporaries: [&mut Self; 4]) {
        let [t0, t1, t2, t3] = temporaries;
        scratch.square(self).reduce(t0); // 2
        scratch.square(t0).reduce(t1); // 4
        scratch.square_times(t1, 1); // 8
        scratch.multiply(t1, self).reduce(t1); // 9
        scratch.multiply(t0, t1).reduce(t0); // 11
        scratch.square(t0).reduce(t2); // 22
        scratch.multiply(t1, t2).reduce(t1); // 2^5 - 1
        scratch.square(t1).reduce(t2);
        scratch.square_times(t2, 4);
        scratch.multiply(t1, t2).reduce(t1); // 2^10 - 1
        scratch.square(t1).reduce(t2);
        scratch.square_times(t2, 9);
        scratch.multiply(t2, t1).reduce(t2); // 2^20 - 1
        scratch.square(t2).reduce(t3);
        scratch.square_times(t3, 19);
        scratch.multiply(t2, t3).reduce(t2); // 2^40 - 1
        scratch.square_times(t2, 10);
        scratch.multiply(t1, t2).reduce(t1); // 2^50 - 1
        scratch.square(t1).reduce(t2);
        scratch.square_times(t2, 49);
        scratch.multiply(t2, t1).reduce(t2); // 2^100 - 1
        scratch.square(t2).reduce(t3);
        scratch.square_times(t3, 99);
        scratch.multiply(t2, t3).reduce(t2); // 2^200 - 1
        scratch.square_times(t2, 50);
        scratch.multiply(t1, t2).reduce(t1); // 2^250 - 1
        scratch.square_times(t1, 5); // 2^255 - 2^5
        scratch.multiply(t0, t1).reduce(self); // 2^255 - 21
    }

    pub(crate) fn is_tight(&self) -> bool {
        self.low.iter().chain(&self.high).all(|limb| limb.abs() <= TIGHT)
    }

    pub(crate) fn is_loose(&self) -> bool {
        self.low.iter().chain(&self.high).all(|limb| limb.abs() <= LOOSE)
    }
}
