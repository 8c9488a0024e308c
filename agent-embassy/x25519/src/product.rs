//! Products of field elements: multiplication, squaring, and the reduction of their columns.
//!
//! The only multiply that ARMv6-M has gives the low 32 bits of a product. So limbs are small enough that a whole
//! column of products fits into 32 bits, and all arithmetic here is modulo 2^32. One level of Karatsuba then costs
//! no thought of overflow: what it adds and takes away again may wrap, since the columns that come out are small.
//!
//! | value | bound | why |
//! |---|---|---|
//! | a limb of an operand | 8,210 | [`LOOSE`](super::element::LOOSE) |
//! | a column | 20 * 8,210^2 < 1.349e9 | at most 20 products |
//! | a carry | 1.36e9 / 2^13 < 166,000 | |
//! | a folded column | 1.349e9 + 608 * 8,191 + 166,000 < 1.355e9 | fits, since 2^31 > 2.147e9 |
//!
//! Everything is straight-line, so that the compiler does it the same at every optimisation level.

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::{
    element::{Element, FOLD, Half, LIMB_BITS, LIMB_MASK, split},
    half_product::{self, Columns},
};

/// Where products are computed. One for a whole scalar multiplication, wiped on drop.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct Scratch {
    low: Columns,
    middle: Columns,
    high: Columns,
    sums: [Half; 2],
}

impl Scratch {
    pub(crate) const NEW: Self = Self { low: [0; 19], middle: [0; 19], high: [0; 19], sums: [[0; 10]; 2] };

    /// `a * b`. Operands may be loose.
    #[inline(never)]
    pub(crate) fn multiply(&mut self, a: &Element, b: &Element) -> Product<'_> {
        debug_assert!(a.is_loose() && b.is_loose(), "an operand's limbs are too large");
        let [a_sum, b_sum] = &mut self.sums;
        add_halves(a_sum, &a.low, &a.high);
        add_halves(b_sum, &b.low, &b.high);
        half_product::multiply(&mut self.low, &a.low, &b.low);
        half_product::multiply(&mut self.high, &a.high, &b.high);
        half_product::multiply(&mut self.middle, a_sum, b_sum);
        Product(self)
    }

    /// `a * a`. The operand may be loose.
    #[inline(never)]
    pub(crate) fn square(&mut self, a: &Element) -> Product<'_> {
        debug_assert!(a.is_loose(), "the operand's limbs are too large");
        let [sum, _] = &mut self.sums;
        add_halves(sum, &a.low, &a.high);
        half_product::square(&mut self.low, &a.low);
        half_product::square(&mut self.high, &a.high);
        half_product::square(&mut self.middle, sum);
        Product(self)
    }

    /// Squares `element` in place, `times` times.
    pub(crate) fn square_times(&mut self, element: &mut Element, times: u32) {
        for _ in 0..times {
            self.square(element).reduce(element);
        }
    }
}

/// A product that is not reduced yet, so that the result may take the place of an operand.
#[must_use]
pub(crate) struct Product<'a>(&'a mut Scratch);

impl Product<'_> {
    /// Reduces the product to 20 tight limbs.
    #[inline(never)]
    pub(crate) fn reduce(self, out: &mut Element) {
        let Scratch { low, middle, high, .. } = self.0;
        combine(low, middle, high);
        fold(low, middle, high);
        carry(out, low, middle);
    }
}

// The three steps of a reduction are functions of their own: each alone gets by with the few registers there are.

/// Puts the half products together. Columns 0 to 18 are then in `low`, column 19 in `middle[9]` and columns 20 to 38
/// in `high`.
#[inline(never)]
fn combine(low: &mut Columns, middle: &mut Columns, high: &mut Columns) {
    // The product of the sums, less the two others, belongs ten columns up.
    unroll!(I in [0 1 2 3 4 5 6 7 8] {
        let shared = low[10 + I].wrapping_sub(high[I]);
        low[10 + I] = shared.wrapping_add(middle[I]).wrapping_sub(low[I]);
        high[I] = middle[10 + I].wrapping_sub(shared).wrapping_sub(high[10 + I]);
    });
    middle[9] = middle[9].wrapping_sub(low[9]).wrapping_sub(high[9]);
}

/// Carries through the columns from 2^260 on, and adds them to those below.
#[inline(never)]
fn fold(low: &mut Columns, middle: &mut Columns, high: &Columns) {
    let mut carry = 0;
    unroll!(I in [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18] {
        let column = high[I].wrapping_add(carry);
        carry = column >> LIMB_BITS;
        low[I] = low[I].wrapping_add((column & LIMB_MASK).wrapping_mul(FOLD));
    });
    middle[9] = middle[9].wrapping_add(carry.wrapping_mul(FOLD));
}

/// Carries through the 20 columns that are left.
#[inline(never)]
fn carry(out: &mut Element, low: &Columns, middle: &Columns) {
    let mut carry = 0;
    unroll!(I in [0 1 2 3 4 5 6 7 8 9] {
        (out.low[I], carry) = split(low[I].wrapping_add(carry));
    });
    unroll!(I in [0 1 2 3 4 5 6 7 8] {
        (out.high[I], carry) = split(low[10 + I].wrapping_add(carry));
    });
    (out.high[9], carry) = split(middle[9].wrapping_add(carry));
    out.fold_carry(carry);
}

fn add_halves(out: &mut Half, a: &Half, b: &Half) {
    unroll!(I in [0 1 2 3 4 5 6 7 8 9] {
        out[I] = a[I].wrapping_add(b[I]);
    });
}
