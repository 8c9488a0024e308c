//! The Montgomery ladder (RFC 7748 section 5).

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{
    element::{Element, MAX_FACTOR},
    product::Scratch,
};

/// The u of the curve's base point.
const GENERATOR: i32 = 9;

/// The point that a scalar is multiplied with.
pub(crate) enum Base<'a> {
    /// The base point of the curve, which saves a multiplication a bit.
    Generator,
    /// Another point, by its encoded u.
    Point(&'a [u8; 32]),
}

/// The u of `scalar`, which is clamped here, times `base`.
#[inline(never)]
pub(crate) fn multiply(scalar: &[u8; 32], base: Base<'_>) -> [u8; 32] {
    let mut scalar = Zeroizing::new(*scalar);
    let [lowest, .., highest] = &mut *scalar;
    *lowest &= 248;
    *highest = (*highest & 127) | 64;
    let mut ladder = Ladder::NEW;
    ladder.set_base(base);
    let mut swapped = 0;
    // From bit 254 down: clamping has cleared bit 255.
    for bit in scalar.iter().rev().flat_map(|byte| (0..8).rev().map(move |bit| u32::from(byte >> bit) & 1)).skip(1) {
        ladder.swap(swapped ^ bit);
        swapped = bit;
        ladder.step();
    }
    // The lowest bit is clear after clamping, so nothing is swapped any more.
    ladder.finish()
}

/// Two projective points whose difference is the base: the multiple so far, and that plus the base.
#[derive(Zeroize, ZeroizeOnDrop)]
struct Ladder {
    /// Whether the base is the generator, whose u is small.
    #[zeroize(skip)]
    generator: bool,
    base: Element,
    x2: Element,
    z2: Element,
    x3: Element,
    z3: Element,
    a: Element,
    b: Element,
    scratch: Scratch,
}

impl Ladder {
    /// Both points at infinity. A constant, so that it is made where it stays: a copy would take a kilobyte of stack.
    const NEW: Self = Self {
        generator: false,
        base: Element::ZERO,
        x2: Element::ONE,
        z2: Element::ZERO,
        x3: Element::ZERO,
        z3: Element::ONE,
        a: Element::ZERO,
        b: Element::ZERO,
        scratch: Scratch::NEW,
    };

    fn set_base(&mut self, base: Base<'_>) {
        match base {
            Base::Generator => {
                self.generator = true;
                self.base.low[0] = GENERATOR;
            }
            Base::Point(u) => self.base.set_bytes(u),
        }
        self.x3.copy_from(&self.base);
    }

    fn swap(&mut self, choice: u32) {
        Element::swap(choice, &mut self.x2, &mut self.x3);
        Element::swap(choice, &mut self.z2, &mut self.z3);
    }

    /// Doubles the first point and adds it to the second. The names in the comments are those of the RFC.
    fn step(&mut self) {
        let Self { generator, base, x2, z2, x3, z3, a, b, scratch } = self;
        a.set_sum(x2, z2); // A
        b.set_difference(x2, z2); // B
        x2.set_sum(x3, z3); // C
        z2.set_difference(x3, z3); // D
        scratch.multiply(z2, a).reduce(x3); // DA
        scratch.multiply(x2, b).reduce(z3); // CB
        scratch.square(a).reduce(x2); // AA
        scratch.square(b).reduce(z2); // BB
        a.set_sum(x3, z3);
        b.set_difference(x3, z3);
        scratch.square(a).reduce(x3); // x_3 = (DA + CB)^2
        scratch.square(b).reduce(b);
        // z_3 = x_1 * (DA - CB)^2
        if *generator {
            z3.set_multiple_and_sum(b, GENERATOR, &Element::ZERO);
        } else {
            scratch.multiply(b, base).reduce(z3);
        }
        a.set_difference(x2, z2); // E
        // AA + a24 * E = BB + (a24 + 1) * E, and AA is needed no more after the next line.
        b.set_multiple_and_sum(a, MAX_FACTOR, z2);
        scratch.multiply(x2, z2).reduce(x2); // x_2 = AA * BB
        scratch.multiply(a, b).reduce(z2); // z_2 = E * (AA + a24 * E)
    }

    /// The first point's u: x_2 / z_2.
    fn finish(&mut self) -> [u8; 32] {
        let Self { x2, z2, x3, z3, a, b, scratch, .. } = self;
        z2.invert(scratch, [x3, z3, a, b]);
        scratch.multiply(x2, z2).reduce(x2);
        x2.encode(a)
    }
}
