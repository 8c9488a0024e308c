//! The board's arguments: `key=value` words of the semihosting command line.
//!
//! They stand for what a real board has in hardware (its flash, its unique id) or that a person configures (an
//! address), and for the power cut of the tests. The join key is not among them; it comes as on a real board.

use core::{fmt::Write as _, str::FromStr};

use heapless::String;

/// Longest path of the flash file, in bytes.
const PATH_LEN: usize = 256;
/// Longest command line, in bytes.
const LINE_LEN: usize = 1024;

/// What the host asked for. QEMU passes it as `-semihosting-config …,arg=weft,arg=flash=PATH,arg=id=HEX`.
#[derive(Debug, Clone, Default)]
pub struct Arguments {
    /// `flash=PATH`: the file that holds the flash region. Without it, `weft.flash` in QEMU's working directory.
    pub flash: String<PATH_LEN>,
    /// `id=HEX`: the chip's unique id, 16 bytes. Zeros without it.
    pub id: [u8; 16],
    /// `cut=N`: the power fails in the middle of the N-th flash operation from now, counted from 1.
    pub cut: Option<u32>,
    /// `entropy=N`: bits of entropy that the board vouches for in each sample of noise. 0 without it.
    pub entropy: u32,
    /// `address=A.B.C.D/LEN`: the address on the outer network. DHCP without it.
    pub address: Option<([u8; 4], u8)>,
    /// `gateway=A.B.C.D`: where the outer network ends.
    pub gateway: Option<[u8; 4]>,
    /// `dns=A.B.C.D`: the outer network's name server.
    pub dns: Option<[u8; 4]>,
}

/// A word of the command line that could not be used.
#[derive(Debug, Clone, defmt::Format)]
pub enum BadArgument {
    /// The host gave no command line, or one longer than a kilobyte.
    Unreadable,
    /// No such key.
    Unknown(Word),
    /// The value does not fit the key.
    Value(Word),
}

/// The beginning of a word of the command line.
#[derive(Debug, Clone)]
pub struct Word(String<32>);

impl defmt::Format for Word {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "{=str}", &self.0);
    }
}

impl Word {
    fn new(text: &str) -> Self {
        let mut word = String::new();
        for c in text.chars() {
            if word.push(c).is_err() {
                break;
            }
        }
        Self(word)
    }
}

impl Arguments {
    /// Reads the command line. The first word is the program's name and is skipped.
    ///
    /// # Errors
    /// [`BadArgument`] names the first word that makes no sense.
    pub fn read() -> Result<Self, BadArgument> {
        let mut arguments = Self::default();
        let line = semihosting::experimental::env::args::<LINE_LEN>().map_err(|_| BadArgument::Unreadable)?;
        for word in (&line).into_iter().skip(1) {
            let word = word.map_err(|_| BadArgument::Unreadable)?;
            let Some((key, value)) = word.split_once('=') else { return Err(BadArgument::Unknown(Word::new(word))) };
            arguments.set(key, value).map_err(|known| match known {
                true => BadArgument::Value(Word::new(word)),
                false => BadArgument::Unknown(Word::new(word)),
            })?;
        }
        if arguments.flash.is_empty() {
            let _ = arguments.flash.write_str("weft.flash");
        }
        Ok(arguments)
    }

    /// Fails with whether the key is known.
    fn set(&mut self, key: &str, value: &str) -> Result<(), bool> {
        match key {
            "flash" => self.flash = String::from_str(value).map_err(|_| true)?,
            "id" => self.id = hex(value).ok_or(true)?,
            "cut" => self.cut = Some(value.parse().map_err(|_| true)?),
            "entropy" => self.entropy = value.parse().map_err(|_| true)?,
            "address" => {
                let (address, length) = value.split_once('/').ok_or(true)?;
                let length = length.parse().ok().filter(|length| *length <= 32).ok_or(true)?;
                self.address = Some((dotted(address).ok_or(true)?, length));
            }
            "gateway" => self.gateway = Some(dotted(value).ok_or(true)?),
            "dns" => self.dns = Some(dotted(value).ok_or(true)?),
            _ => return Err(false),
        }
        Ok(())
    }
}

fn dotted(text: &str) -> Option<[u8; 4]> {
    core::net::Ipv4Addr::from_str(text).ok().map(|address| address.octets())
}

fn hex(text: &str) -> Option<[u8; 16]> {
    let mut bytes = [0; 16];
    if text.len() != 2 * bytes.len() || !text.is_ascii() {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(bytes)
}
