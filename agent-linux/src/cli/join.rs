//! Where a join key comes from: the command line, a file or standard input.

use std::io::Read as _;

use anyhow::{Context as _, bail};
use zeroize::Zeroize as _;

use crate::local_api::Secret;

/// More than any join key, less than a file that somebody named by mistake.
const MAX_TEXT: u64 = 4_096;

/// The join key that `argument` means: `file:PATH`, `-` for standard input, or the key itself.
pub(super) fn read(argument: String) -> anyhow::Result<Secret> {
    let mut text = String::new();
    if let Some(path) = argument.strip_prefix("file:") {
        let file = std::fs::File::open(path).with_context(|| format!("cannot read the join key from {path}"))?;
        file.take(MAX_TEXT).read_to_string(&mut text).with_context(|| format!("{path} holds no join key"))?;
    } else if argument == "-" {
        let input = std::io::stdin().lock();
        input.take(MAX_TEXT).read_to_string(&mut text).context("cannot read the join key from standard input")?;
    } else {
        text = argument;
    }
    let key = text.trim().to_owned();
    text.zeroize();
    if key.is_empty() {
        bail!("the join key is empty; `weft-control key create` prints one");
    }
    Ok(Secret::new(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_from_a_file_without_its_line_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        std::fs::write(&path, "weft1abc\n").unwrap();
        assert_eq!(read(format!("file:{}", path.display())).unwrap().reveal(), "weft1abc");
        assert_eq!(read(" weft1abc ".into()).unwrap().reveal(), "weft1abc");
        std::fs::write(&path, "\n").unwrap();
        assert!(read(format!("file:{}", path.display())).unwrap_err().to_string().contains("empty"));
        let missing = format!("file:{}", directory.path().join("nothing").display());
        assert!(read(missing).unwrap_err().to_string().starts_with("cannot read the join key from"));
    }
}
