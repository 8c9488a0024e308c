//! The field against plain big-integer arithmetic, with limbs at and between their limits.

use std::{vec, vec::Vec};

use proptest::prelude::*;

use crate::{
    element::{Element, LOOSE, MAX_FACTOR, TIGHT},
    product::Scratch,
};

/// A number modulo p as sixteen 16-bit digits, little-endian: slow, and plainly right.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Number([u32; 16]);

impl Number {
    /// Any signed digits of any weight, by Horner: value = value * 2 + bit, a bit at a time.
    fn from_limbs(limbs: impl DoubleEndedIterator<Item = i64>) -> Self {
        let mut value = Self([0; 16]);
        for limb in limbs.rev() {
            for _ in 0..13 {
                value = value.plus(&value);
            }
            let magnitude = Self::from_u64(limb.unsigned_abs());
            value = if limb < 0 { value.minus(&magnitude) } else { value.plus(&magnitude) };
        }
        value
    }

    fn from_u64(value: u64) -> Self {
        let mut digits = [0; 16];
        for (index, digit) in digits.iter_mut().take(4).enumerate() {
            *digit = (value >> (16 * index)) as u32 & 0xffff;
        }
        Self(digits)
    }

    fn p() -> Self {
        let mut digits = [0xffff; 16];
        digits[0] = 0xffed;
        digits[15] = 0x7fff;
        Self(digits)
    }

    fn less_than(&self, other: &Self) -> bool {
        self.0.iter().rev().lt(other.0.iter().rev())
    }

    /// The difference of numbers where `other` is not greater.
    fn less(&self, other: &Self) -> Self {
        let mut borrow = 0;
        let mut digits = [0; 16];
        for ((digit, a), b) in digits.iter_mut().zip(&self.0).zip(&other.0) {
            let difference = a.wrapping_sub(*b).wrapping_sub(borrow);
            *digit = difference & 0xffff;
            borrow = difference >> 31;
        }
        Self(digits)
    }

    fn plus(&self, other: &Self) -> Self {
        let mut carry = 0;
        let mut digits = [0; 16];
        for ((digit, a), b) in digits.iter_mut().zip(&self.0).zip(&other.0) {
            let sum = a + b + carry;
            *digit = sum & 0xffff;
            carry = sum >> 16;
        }
        let sum = Self(digits);
        if sum.less_than(&Self::p()) { sum } else { sum.less(&Self::p()) }
    }

    fn minus(&self, other: &Self) -> Self {
        self.plus(&Self::p().less(other))
    }

    fn times(&self, other: &Self) -> Self {
        let mut product = Self([0; 16]);
        for digit in other.0.iter().rev() {
            for bit in (0..16).rev() {
                product = product.plus(&product);
                if digit >> bit & 1 == 1 {
                    product = product.plus(self);
                }
            }
        }
        product
    }

    fn to_bytes(&self) -> [u8; 32] {
        let bytes: Vec<u8> = self.0.iter().flat_map(|digit| (*digit as u16).to_le_bytes()).collect();
        bytes.try_into().unwrap()
    }
}

fn number(element: &Element) -> Number {
    Number::from_limbs(element.low.iter().chain(&element.high).map(|limb| i64::from(*limb)))
}

fn element(limbs: Vec<i32>) -> Element {
    Element { low: limbs[..10].try_into().unwrap(), high: limbs[10..].try_into().unwrap() }
}

fn scratch() -> Scratch {
    Scratch::NEW
}

fn to_bytes(element: &Element) -> [u8; 32] {
    let (mut copy, mut temporary) = (Element::ZERO, Element::ONE);
    copy.copy_from(element);
    copy.encode(&mut temporary)
}

fn from_bytes(bytes: &[u8; 32]) -> Element {
    let mut element = Element::ZERO;
    element.set_bytes(bytes);
    element
}

/// Elements whose limbs are at most `bound` in magnitude: any, all at a limit, and all at some limit.
fn elements(bound: i32) -> impl Strategy<Value = Element> {
    let limit = prop::sample::select(vec![-bound, bound, -bound + 1, bound - 1, 0]);
    prop_oneof![
        prop::collection::vec(-bound..=bound, 20),
        limit.clone().prop_map(|limb| vec![limb; 20]),
        prop::collection::vec(limit, 20),
    ]
    .prop_map(element)
}

impl core::fmt::Debug for Element {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_list().entries(self.low).entries(self.high).finish()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn products_of_loose_elements_are_right_and_tight(a in elements(LOOSE), b in elements(LOOSE)) {
        let mut product = Element::ZERO;
        scratch().multiply(&a, &b).reduce(&mut product);
        prop_assert!(product.is_tight(), "{:?}", product);
        prop_assert_eq!(number(&product), number(&a).times(&number(&b)));
    }

    #[test]
    fn squares_of_loose_elements_are_right_and_tight(a in elements(LOOSE)) {
        let mut square = Element::ZERO;
        scratch().square(&a).reduce(&mut square);
        prop_assert!(square.is_tight(), "{:?}", square);
        prop_assert_eq!(number(&square), number(&a).times(&number(&a)));
    }

    #[test]
    fn sums_and_differences_of_tight_elements_are_right_and_loose(a in elements(TIGHT), b in elements(TIGHT)) {
        let mut out = Element::ZERO;
        out.set_sum(&a, &b);
        prop_assert!(out.is_loose());
        prop_assert_eq!(number(&out), number(&a).plus(&number(&b)));
        out.set_difference(&a, &b);
        prop_assert!(out.is_loose());
        prop_assert_eq!(number(&out), number(&a).minus(&number(&b)));
    }

    #[test]
    fn multiples_are_right_and_tight(
        a in elements(LOOSE),
        b in elements(TIGHT),
        factor in prop::sample::select(vec![0, 9, MAX_FACTOR]),
    ) {
        let mut out = Element::ZERO;
        out.set_multiple_and_sum(&a, factor, &b);
        prop_assert!(out.is_tight(), "{:?}", out);
        prop_assert_eq!(number(&out), number(&a).times(&Number::from_u64(factor as u64)).plus(&number(&b)));
    }

    #[test]
    fn encodings_are_canonical_and_come_back(a in elements(LOOSE)) {
        let bytes = to_bytes(&a);
        prop_assert_eq!(bytes, number(&a).to_bytes());
        let back = from_bytes(&bytes);
        prop_assert!(back.is_tight());
        prop_assert_eq!(to_bytes(&back), bytes);
    }

    #[test]
    fn any_bytes_are_an_element(bytes in any::<[u8; 32]>()) {
        let mut masked = bytes;
        masked[31] &= 0x7f;
        let digits = masked.chunks_exact(2).map(|pair| u32::from(u16::from_le_bytes([pair[0], pair[1]])));
        let digits = Number(digits.collect::<Vec<_>>().try_into().unwrap());
        let expected = if digits.less_than(&Number::p()) { digits } else { digits.less(&Number::p()) };
        let element = from_bytes(&bytes);
        prop_assert!(element.is_tight());
        prop_assert_eq!(number(&element), expected);
    }

    #[test]
    fn a_swap_swaps_or_leaves(a in elements(LOOSE), b in elements(LOOSE)) {
        let (mut x, mut y) = (Element::ZERO, Element::ZERO);
        x.copy_from(&a);
        y.copy_from(&b);
        Element::swap(0, &mut x, &mut y);
        prop_assert_eq!((x.low, x.high, y.low, y.high), (a.low, a.high, b.low, b.high));
        Element::swap(1, &mut x, &mut y);
        prop_assert_eq!((x.low, x.high, y.low, y.high), (b.low, b.high, a.low, a.high));
    }

    #[test]
    fn an_element_times_its_inverse_is_one(a in elements(LOOSE)) {
        let mut scratch = scratch();
        let mut t = [const { Element::ZERO }; 4];
        let [t0, t1, t2, t3] = &mut t;
        let mut inverse = Element::ZERO;
        inverse.copy_from(&a);
        inverse.invert(&mut scratch, [t0, t1, t2, t3]);
        scratch.multiply(&a, &inverse).reduce(&mut inverse);
        let one = if number(&a) == Number::from_u64(0) { 0 } else { 1 };
        prop_assert_eq!(number(&inverse), Number::from_u64(one));
    }
}

/// The encodings next to the places where the last subtraction of p begins.
#[test]
fn values_around_multiples_of_p_encode_modulo_p() {
    for multiple in -33i64..=33 {
        for small in -40i64..=40 {
            // multiple * p + small, as limbs: multiple * 2^255 is multiple * 2^8 in the highest limb.
            let mut limbs = vec![0i32; 20];
            limbs[19] = (multiple << 8).clamp(-i64::from(LOOSE), i64::from(LOOSE)) as i32;
            if i64::from(limbs[19]) != multiple << 8 {
                continue;
            }
            limbs[0] = (small - 19 * multiple) as i32;
            let a = element(limbs);
            let expected = if small < 0 {
                Number::p().less(&Number::from_u64(small.unsigned_abs()))
            } else {
                Number::from_u64(small as u64)
            };
            assert_eq!(to_bytes(&a), expected.to_bytes(), "{multiple} * p + {small}");
        }
    }
}
