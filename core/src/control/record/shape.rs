//! Whether bytes are one CBOR item of definite lengths, whatever it means.
//!
//! Checked before a record is decoded, so that what is accepted as a record does not depend on how a decoder
//! treats the parts that it skips.

use super::Malformed;

/// Checks that `bytes` are exactly one well-formed item (RFC 8949 section 5.3.1), all lengths in it definite.
///
/// Takes time in proportion to the bytes, and no memory for nesting.
pub(super) fn check(bytes: &[u8]) -> Result<(), Malformed> {
    let mut rest = bytes;
    let mut items = 1u64;
    while items > 0 {
        items -= 1;
        let (&initial, after) = rest.split_first().ok_or(Malformed)?;
        let (argument, after) = argument(initial & 0x1f, after)?;
        rest = after;
        match initial >> 5 {
            2 | 3 => {
                let len = usize::try_from(argument).map_err(|_| Malformed)?;
                rest = rest.get(len..).ok_or(Malformed)?;
            }
            4 => items = items.saturating_add(argument),
            5 => items = items.saturating_add(argument.saturating_mul(2)),
            6 => items = items.saturating_add(1),
            // Integers, floats and simple values end with their argument.
            _ => {}
        }
        // Each item has a byte at least: what announces more is not read to its end.
        if items > rest.len() as u64 {
            return Err(Malformed);
        }
    }
    if rest.is_empty() { Ok(()) } else { Err(Malformed) }
}

/// The argument of an initial byte with this additional information, and the bytes behind it.
fn argument(information: u8, bytes: &[u8]) -> Result<(u64, &[u8]), Malformed> {
    let len = match information {
        0..24 => return Ok((u64::from(information), bytes)),
        24 => 1,
        25 => 2,
        26 => 4,
        27 => 8,
        // Reserved, indefinite length, or the end of one.
        _ => return Err(Malformed),
    };
    let (argument, rest) = bytes.split_at_checked(len).ok_or(Malformed)?;
    Ok((argument.iter().fold(0, |value, byte| (value << 8) | u64::from(*byte)), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_of_definite_length_pass_and_nothing_else() {
        let pass: [&[u8]; 9] = [
            &[0x00],
            &[0x18, 0xff],
            &[0x43, 1, 2, 3],
            &[0x61, b'a'],
            &[0x82, 0x01, 0x80],
            &[0xa1, 0x00, 0xa0],
            &[0xc2, 0x41, 0x01],
            &[0xf6],
            &[0xfb, 0, 0, 0, 0, 0, 0, 0, 0],
        ];
        for item in pass {
            assert_eq!(check(item), Ok(()), "{item:02x?}");
            assert_eq!(check(&item[..item.len() - 1]), Err(Malformed));
            assert_eq!(check(&[item, &[0]].concat()), Err(Malformed));
        }
        let fail: [&[u8]; 7] = [
            &[0x9f, 0xff],
            &[0xbf, 0xff],
            &[0x5f, 0xff],
            &[0xff],
            &[0x1c],
            &[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        ];
        for item in fail {
            assert_eq!(check(item), Err(Malformed), "{item:02x?}");
        }
    }

    #[test]
    fn nesting_takes_no_stack() {
        let mut nested = std::vec![0x81; 1_000_000];
        nested.push(0);
        assert_eq!(check(&nested), Ok(()));
    }
}
