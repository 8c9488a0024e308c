//! UF2, the file format that a Raspberry Pi Pico takes over USB as a disk: blocks of 512 bytes, each with 256 bytes and their
//! address. <https://github.com/microsoft/uf2>

/// The bytes of flash in a block; an RP2040 wants whole pages.
const PAYLOAD: usize = 256;
const MAGIC: [u32; 3] = [0x0a32_4655, 0x9e5d_5157, 0x0ab1_6f30];
/// The block names the chip that it is for.
const FAMILY_PRESENT: u32 = 0x2000;
const RP2040: u32 = 0xe48b_ff56;
const BLOCK: usize = 512;

/// A file that puts `content` to `address`. Both are whole pages of flash.
pub(super) fn encode(address: u32, content: &[u8]) -> Vec<u8> {
    let count = content.len().div_ceil(PAYLOAD) as u32;
    let mut file = Vec::with_capacity(count as usize * BLOCK);
    for (number, payload) in (0..).zip(content.chunks(PAYLOAD)) {
        let target = address + number * PAYLOAD as u32;
        let header = [MAGIC[0], MAGIC[1], FAMILY_PRESENT, target, PAYLOAD as u32, number, count, RP2040];
        let end = file.len() + BLOCK;
        file.extend(header.iter().flat_map(|word| word.to_le_bytes()));
        file.extend_from_slice(payload);
        file.resize(end - MAGIC[2].to_le_bytes().len(), 0);
        file.extend_from_slice(&MAGIC[2].to_le_bytes());
    }
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_block_has_its_page_and_its_address() {
        let content: Vec<u8> = (0..4096).map(|index| (index / 256) as u8).collect();
        let file = encode(0x101f_0000, &content);
        assert_eq!(file.len(), 16 * BLOCK);
        let third = &file[2 * BLOCK..3 * BLOCK];
        let word = |at: usize| u32::from_le_bytes(third[at..at + 4].try_into().unwrap());
        assert_eq!([word(0), word(4), word(508)], MAGIC);
        assert_eq!(
            [word(8), word(12), word(16), word(20), word(24), word(28)],
            [0x2000, 0x101f_0200, 256, 2, 16, RP2040]
        );
        assert_eq!(third[32..288], [2; 256]);
        assert!(third[288..508].iter().all(|byte| *byte == 0));
    }
}
