//! BLAKE2s (RFC 7693) in little code, for chips: one loop, where a host's library has the ten rounds one after the other.

use zeroize::{Zeroize, ZeroizeOnDrop};

const BLOCK_LEN: usize = 64;
const OUT_LEN: usize = 32;

const IV: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// Which words of the message each round takes, in the order of their use (RFC 7693 section 2.7).
const SCHEDULE: [[u8; 16]; 10] = [
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
    [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
    [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
    [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
    [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
    [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
    [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
    [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
    [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
    [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
];

/// A hash that is being computed.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct Blake2s {
    state: [u32; 8],
    /// Bytes that were compressed.
    done: u64,
    block: [u8; BLOCK_LEN],
    /// Bytes of the block that are filled. A full block waits, since it may be the last.
    filled: usize,
}

impl Blake2s {
    /// A hash of `out_len` bytes, at most 32, under a key of at most 32 bytes, which may be empty.
    pub(super) fn new(out_len: usize, key: &[u8]) -> Self {
        let mut hash = Self { state: IV, done: 0, block: [0; BLOCK_LEN], filled: 0 };
        let parameters = 0x0101_0000 ^ ((key.len() as u32) << 8) ^ out_len as u32;
        let [first, ..] = &mut hash.state;
        *first ^= parameters;
        if !key.is_empty() {
            hash.block.iter_mut().zip(key).for_each(|(room, byte)| *room = *byte);
            hash.filled = BLOCK_LEN;
        }
        hash
    }

    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.filled == BLOCK_LEN {
                self.compress(0);
            }
            let room = self.block.get_mut(self.filled..).unwrap_or_default();
            let (now, later) = bytes.split_at(room.len().min(bytes.len()));
            room.iter_mut().zip(now).for_each(|(room, byte)| *room = *byte);
            self.filled = self.filled.saturating_add(now.len());
            bytes = later;
        }
    }

    /// The hash; of a shorter one the first bytes count.
    pub(super) fn finish(mut self) -> [u8; OUT_LEN] {
        self.block.iter_mut().skip(self.filled).for_each(|byte| *byte = 0);
        self.compress(u32::MAX);
        let mut out = [0; OUT_LEN];
        out.chunks_exact_mut(4).zip(&self.state).for_each(|(out, word)| out.copy_from_slice(&word.to_le_bytes()));
        out
    }

    #[inline(never)]
    fn compress(&mut self, last: u32) {
        self.done = self.done.wrapping_add(self.filled as u64);
        self.filled = 0;
        let mut words = [0; 16];
        for (word, bytes) in words.iter_mut().zip(self.block.as_chunks::<4>().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        let [s0, s1, s2, s3, s4, s5, s6, s7] = self.state;
        let [i0, i1, i2, i3, i4, i5, i6, i7] = IV;
        let (low, high) = (self.done as u32, (self.done >> 32) as u32);
        let mut a = [s0, s1, s2, s3];
        let mut b = [s4, s5, s6, s7];
        let mut c = [i0, i1, i2, i3];
        let mut d = [i4 ^ low, i5 ^ high, i6 ^ last, i7];
        for round in &SCHEDULE {
            for (number, half) in round.as_chunks::<8>().0.iter().enumerate() {
                let places = half.as_chunks::<2>().0;
                for ((((a, b), c), d), [x, y]) in a.iter_mut().zip(&mut b).zip(&mut c).zip(&mut d).zip(places) {
                    let word = |place: &u8| words.get(usize::from(*place)).copied().unwrap_or_default();
                    *a = a.wrapping_add(*b).wrapping_add(word(x));
                    *d = (*d ^ *a).rotate_right(16);
                    *c = c.wrapping_add(*d);
                    *b = (*b ^ *c).rotate_right(12);
                    *a = a.wrapping_add(*b).wrapping_add(word(y));
                    *d = (*d ^ *a).rotate_right(8);
                    *c = c.wrapping_add(*d);
                    *b = (*b ^ *c).rotate_right(7);
                }
                // Columns become diagonals, and columns again.
                (b, d) = if number == 0 { (turn(b), turn(turn(turn(d)))) } else { (turn(turn(turn(b))), turn(d)) };
                c = turn(turn(c));
            }
        }
        let mixed = [a, b].into_iter().flatten().zip([c, d].into_iter().flatten());
        self.state.iter_mut().zip(mixed).for_each(|(state, (low, high))| *state ^= low ^ high);
        words.zeroize();
    }
}

const fn turn([a, b, c, d]: [u32; 4]) -> [u32; 4] {
    [b, c, d, a]
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    #[test]
    fn the_example_of_the_rfc_comes_out() {
        let mut hash = Blake2s::new(32, &[]);
        hash.update(b"abc");
        let expected = [
            0x50, 0x8c, 0x5e, 0x8c, 0x32, 0x7c, 0x14, 0xe2, 0xe1, 0xa7, 0x2b, 0xa3, 0x4e, 0xeb, 0x45, 0x2f, 0x37, 0x45,
            0x8b, 0x20, 0x9e, 0xd6, 0x3a, 0x29, 0x4d, 0x99, 0x9b, 0x4c, 0x86, 0x67, 0x59, 0x82,
        ];
        assert_eq!(hash.finish(), expected);
    }

    #[test]
    fn it_is_the_same_hash_as_a_hosts_for_any_length_key_and_split() {
        let text: Vec<u8> = (0..300u16).map(|index| (index * 7) as u8).collect();
        for len in 0..text.len() {
            for (key_len, out_len, split) in [(0, 32, 0), (32, 16, 64), (16, 16, 1), (1, 32, 128), (32, 32, 63)] {
                let (key, text) = (&text[..key_len], &text[..len]);
                let expected = blake2s_simd::Params::new().hash_length(out_len).key(key).hash(text);
                let (first, second) = text.split_at(split.min(len));
                let mut hash = Blake2s::new(out_len, key);
                hash.update(first);
                hash.update(second);
                assert_eq!(hash.finish()[..out_len], *expected.as_bytes(), "{len} {key_len} {out_len} {split}");
            }
        }
    }
}
