//! The provisioning page of a board: join key, seed, name and settings, as a file to be written to its flash.
//!
//! The secrets come from files or standard input, never from the command line, which other users can read. The file holds them
//! in the clear and is the user's alone; it is to be deleted once it is on the board.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, ensure};
use weft_embassy::provision::{self, Field};
use zeroize::Zeroizing;

use super::{
    board::{Board, Hardware},
    uf2,
};

/// The size of the page: one erase unit of the flash of every board.
const PAGE: usize = 4096;
/// The number of the example firmware's setting "push readings to".
const PUSH_TO: u8 = 0;
/// The most that is read of a file with a secret, in bytes.
const LONGEST: u64 = 4096;

/// The options of `cargo xtask firmware --provision`.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Provision {
    /// Write the provisioning page of a board to this file: UF2 for a Pico, raw for the others. Each call draws a new seed: make one
    /// file for each board
    #[arg(long, value_name = "FILE", requires = "board")]
    provision: Option<PathBuf>,
    /// The file that holds the join key, `-` for standard input
    #[arg(long, value_name = "FILE", requires = "provision")]
    join_key: Option<PathBuf>,
    /// The name that the board asks for
    #[arg(long, value_name = "NAME", requires = "provision")]
    hostname: Option<String>,
    /// The name of the Wi-Fi network
    #[arg(long, value_name = "SSID", requires = "provision")]
    wifi: Option<String>,
    /// The file that holds the Wi-Fi password, `-` for standard input
    #[arg(long, value_name = "FILE", requires = "wifi")]
    wifi_password: Option<PathBuf>,
    /// The peer that gets each reading by UDP
    #[arg(long, value_name = "NAME:PORT", requires = "provision")]
    push_to: Option<String>,
}

/// A page and where it goes.
pub(super) struct Page {
    content: Zeroizing<Vec<u8>>,
    file: PathBuf,
}

impl Provision {
    /// The page that the options describe; none where no page is asked for.
    pub(super) fn page(&self) -> Result<Option<Page>> {
        let Some(file) = &self.provision else { return Ok(None) };
        let both = [&self.join_key, &self.wifi_password].iter().all(|path| path.as_deref() == Some(Path::new("-")));
        ensure!(
            !both,
            "only one of --join-key and --wifi-password can come from standard input; name a file for the other"
        );
        let join_key = self.join_key.as_deref().map(|path| secret("join key", path)).transpose()?;
        let password = self.wifi_password.as_deref().map(|path| secret("Wi-Fi password", path)).transpose()?;
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed).context("the system gives no random numbers")?;

        let mut fields = vec![Field::Seed(&seed)];
        fields.extend(join_key.as_deref().map(|key| Field::JoinKey(key)));
        fields.extend(self.hostname.as_deref().map(Field::Hostname));
        fields.extend(self.wifi.as_deref().map(Field::Ssid));
        fields.extend(password.as_deref().map(|password| Field::Password(password)));
        fields.extend(self.push_to.as_deref().map(|peer| Field::App(PUSH_TO, peer.as_bytes())));
        let mut content = Zeroizing::new(vec![0; PAGE]);
        provision::encode(&fields, &mut content).map_err(|error| anyhow!("{error}"))?;
        Ok(Some(Page { content, file: file.clone() }))
    }
}

impl Page {
    /// Writes the page in the format of the board; returns the file.
    pub(super) fn save(self, board: &Board) -> Result<PathBuf> {
        let Self { content, file } = self;
        let content = match board.hardware {
            Hardware::Rp2040 { page } => Zeroizing::new(uf2::encode(page, &content)),
            Hardware::Esp32 { .. } | Hardware::Emulator => content,
        };
        write_private(&file, &content)?;
        println!("wrote {} for {}: {}", file.display(), board.name, how_to_flash(board, &file));
        println!("It holds secrets in the clear and a seed for one board only: delete it once it is flashed.");
        Ok(file)
    }
}

fn how_to_flash(board: &Board, file: &Path) -> String {
    let file = file.display();
    match board.hardware {
        Hardware::Rp2040 { .. } => {
            "flash the firmware first; then hold BOOTSEL while you plug the board in, and copy this file to \
             the disk RPI-RP2"
                .into()
        }
        Hardware::Esp32 { page } => format!("`espflash write-bin {page:#x} {file}` puts it on the board"),
        Hardware::Emulator => "its content is the first page of the emulator's flash file".into(),
    }
}

/// The first line of a file, or of standard input for `-`.
fn secret(what: &str, path: &Path) -> Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    if path == Path::new("-") {
        std::io::stdin().take(LONGEST).read_to_string(&mut text).with_context(|| format!("cannot read the {what}"))?;
    } else {
        let file = fs::File::open(path).with_context(|| format!("cannot open {} for the {what}", path.display()))?;
        file.take(LONGEST).read_to_string(&mut text).with_context(|| format!("cannot read {}", path.display()))?;
    }
    let line = text.lines().next().unwrap_or_default().trim_end();
    ensure!(!line.is_empty(), "there is no {what} in {}: its first line is empty", path.display());
    Ok(Zeroizing::new(line.into()))
}

/// Writes a new file that only its owner can read. One that is there already is replaced, whatever its mode was.
fn write_private(path: &Path, content: &[u8]) -> Result<()> {
    let failed = || format!("cannot write {}", path.display());
    if path.exists() {
        fs::remove_file(path).with_context(failed)?;
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).with_context(failed)?;
    file.write_all(content).and_then(|()| file.sync_all()).with_context(failed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::firmware::board::BOARDS;

    fn options(folder: &Path) -> Provision {
        let password = folder.join("password");
        fs::write(&password, "correct horse\n").unwrap();
        Provision {
            provision: Some(folder.join("page")),
            hostname: Some("sensor".into()),
            wifi: Some("home".into()),
            wifi_password: Some(password),
            push_to: Some("laptop:9000".into()),
            ..Provision::default()
        }
    }

    #[test]
    fn a_page_reads_back_on_the_chip_and_only_its_owner_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let board = BOARDS.iter().find(|board| board.hardware == Hardware::Emulator).unwrap();
        let file = options(folder.path()).page().unwrap().unwrap().save(board).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let page = fs::read(&file).unwrap();
        assert_eq!(page.len(), PAGE);
        let fields: Vec<Field<'_>> = provision::decode(&page).unwrap().unwrap().collect();
        assert!(fields.contains(&Field::Hostname("sensor")));
        assert!(fields.contains(&Field::Ssid("home")));
        assert!(fields.contains(&Field::Password("correct horse")));
        assert!(fields.contains(&Field::App(PUSH_TO, b"laptop:9000")));
        assert!(fields.iter().any(|field| matches!(field, Field::Seed(_))));
    }

    #[test]
    fn every_page_has_a_seed_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let page = || options(folder.path()).page().unwrap().unwrap().content;
        assert_ne!(*page(), *page());
    }

    #[test]
    fn a_join_key_that_is_none_is_refused_and_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key");
        fs::write(&key, "weft-nonsense\n").unwrap();
        let options = Provision { join_key: Some(key), ..options(folder.path()) };
        assert!(options.page().is_err());
        assert!(!folder.path().join("page").exists());
    }
}
