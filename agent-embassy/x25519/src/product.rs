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
//! Everything is straight-line: the columns are written out, so that the compiler does it the same at every
//! optimisation level.

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::element::{Element, FOLD, Half, LIMB_BITS, LIMB_MASK, split};

/// The columns of a product of two [`Half`]s.
type Columns = [i32; 19];

/// Where products are computed. One for a whole scalar multiplication, wiped on drop.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct Scratch {
    low: Columns,
    middle: Columns,
    high: Columns,
    sums: [Half; 2],
}

impl Scratch {
    pub(crate) const fn new() -> Self {
        Self { low: [0; 19], middle: [0; 19], high: [0; 19], sums: [[0; 10]; 2] }
    }

    /// `a * b`. Operands may be loose.
    #[inline(never)]
    pub(crate) fn multiply(&mut self, a: &Element, b: &Element) -> Product<'_> {
        debug_assert!(a.is_loose() && b.is_loose(), "an operand's limbs are too large");
        let [a_sum, b_sum] = &mut self.sums;
        add_halves(a_sum, &a.low, &a.high);
        add_halves(b_sum, &b.low, &b.high);
        multiply_half(&mut self.low, &a.low, &b.low);
        multiply_half(&mut self.high, &a.high, &b.high);
        multiply_half(&mut self.middle, a_sum, b_sum);
        Product(self)
    }

    /// `a * a`. The operand may be loose.
    #[inline(never)]
    pub(crate) fn square(&mut self, a: &Element) -> Product<'_> {
        debug_assert!(a.is_loose(), "the operand's limbs are too large");
        let [sum, _] = &mut self.sums;
        add_halves(sum, &a.low, &a.high);
        square_half(&mut self.low, &a.low);
        square_half(&mut self.high, &a.high);
        square_half(&mut self.middle, sum);
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

/// The sum of the products of pairs of limbs.
macro_rules! sum {
    ($a:ident $b:ident: $i0:literal $j0:literal $(, $i:literal $j:literal)*) => {
        $a[$i0].wrapping_mul($b[$j0])$(.wrapping_add($a[$i].wrapping_mul($b[$j])))*
    };
}

const fn twice(x: i32) -> i32 {
    x.wrapping_add(x)
}

#[inline(never)]
#[rustfmt::skip]
fn multiply_half(out: &mut Columns, a: &Half, b: &Half) {
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

#[inline(never)]
#[rustfmt::skip]
fn square_half(out: &mut Columns, a: &Half) {
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
