//! The log of a firmware: a stream of defmt frames on a pipe, made readable with the table in the image.
//!
//! A line reads `12.345678 INFO  joined as 100.64.0.2`; the time is in seconds of the board's own clock since its start.

use std::{io::Read, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use defmt_decoder::{DecodeError, StreamDecoder, Table};

/// What an image needs to be understood.
#[derive(Debug)]
pub(crate) struct Dictionary(Table);

impl Dictionary {
    /// That of the image in `file`, an ELF file.
    pub(crate) fn of_image(file: &Path) -> Result<Self> {
        let elf = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let table = Table::parse(&elf).with_context(|| format!("{} has a damaged defmt table", file.display()))?;
        let table = table.with_context(|| format!("{} has no defmt table: it logs nothing", file.display()))?;
        ensure!(table.encoding().can_recover(), "{} logs in an encoding that a cut stream ruins", file.display());
        Ok(Self(table))
    }

    /// Reads a stream to its end and hands on each line.
    pub(crate) fn decode(&self, mut stream: impl Read, push: &mut dyn FnMut(String)) {
        let mut decoder = self.0.new_stream_decoder();
        let mut bytes = [0; 1_024];
        while let Ok(len @ 1..) = stream.read(&mut bytes) {
            decoder.received(bytes.get(..len).unwrap_or_default());
            lines(&mut *decoder, push);
        }
    }
}

/// Hands on every whole frame that the decoder has.
fn lines(decoder: &mut dyn StreamDecoder, push: &mut dyn FnMut(String)) {
    loop {
        match decoder.decode() {
            Ok(frame) => {
                let time = frame.display_timestamp().map(|time| time.to_string()).unwrap_or_default();
                let level = frame.level().map_or("PRINT", |level| level.as_str()).to_uppercase();
                push(format!("{time} {level:<5} {}", frame.display_message()));
            }
            Err(DecodeError::Malformed) => push("(bytes that are no defmt frame)".into()),
            Err(DecodeError::UnexpectedEof) => return,
        }
    }
}

/// When a line was logged, by the board's clock.
pub(crate) fn time(line: &str) -> Option<Duration> {
    let seconds = line.split_whitespace().next()?.parse::<f64>().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_begins_with_its_time() {
        assert_eq!(time("12.500000 INFO  joined"), Some(Duration::from_millis(12_500)));
        assert_eq!(time("(bytes that are no defmt frame)"), None);
        assert_eq!(time(""), None);
    }
}
