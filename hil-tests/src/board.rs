//! A board with firmware in an emulator: its flash, its cable to a switch, and its log.
//!
//! ```text
//!   router --- net3 --- switch --- board 1 (192.168.3.11)
//!                          \------ board 2 (192.168.3.12)
//! ```

use std::{
    marker::PhantomData,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use weft_embassy::provision::{self, Field};

use crate::{
    defmt_log::{self, Dictionary},
    dhcp::DhcpServer,
    ethernet::{Cable, Switch},
    lab::{Lab, Segment},
    machine::{self, Machine, Pace},
    netns::Netns,
    process::Daemon,
    wait,
};

/// Bytes of the flash region that is the node's.
pub const FLASH_LEN: usize = 64 << 10;
/// Bytes of a flash page; the first one is the provisioning page.
pub const PAGE_LEN: usize = 4 << 10;
/// The port on which the node `laptop` gets the readings of a provisioned board.
pub const READINGS_PORT: u16 = 9_000;
/// The firmware's own setting that says where readings go.
const PUSH_TO: u8 = 0;
/// The number of the first board in its subnet.
const FIRST_NUMBER: u8 = 11;
/// The exit code of a board whose power was cut by its argument `cut=`.
const POWER_CUT: i32 = 77;

/// A subnet of a lab with boards in it. Drop the boards before the bench, and the bench before its lab.
#[derive(Debug)]
pub struct Bench {
    /// Where the boards' frames meet.
    pub switch: Switch,
    segment: Segment,
    folder: PathBuf,
    boards: u8,
}

/// A board. It is off until it is started, and dies when it is dropped.
#[derive(Debug)]
pub struct Board<M> {
    /// Its cable to the switch.
    pub cable: Cable,
    name: String,
    number: u8,
    ends: [PathBuf; 2],
    flash: PathBuf,
    network: Network,
    pace: Pace,
    further: Vec<String>,
    emulator: Option<Daemon>,
    machine: PhantomData<M>,
}

/// How a board gets its address.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Network {
    Static { address: Ipv4Addr, gateway: Ipv4Addr },
    Dhcp,
}

impl Bench {
    /// A subnet of `lab`; files go into `folder`, whose path is short.
    pub fn new(lab: &mut Lab, folder: &Path) -> Result<Self> {
        let mut segment = lab.segment()?;
        let port = segment.router_port();
        let switch = Switch::new(&port);
        switch.plug_segment(&mut segment)?;
        let folder = folder.join(port);
        std::fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self { switch, segment, folder, boards: 0 })
    }

    /// The address of the next board in this subnet.
    pub fn ipv4(&self) -> Ipv4Addr {
        self.segment.ipv4(FIRST_NUMBER + self.boards)
    }

    /// Serves DHCP in this subnet.
    pub fn serve_dhcp(&self, router: &Netns) -> Result<DhcpServer> {
        DhcpServer::start(router, &self.segment)
    }

    /// Adds a board whose flash is erased. It has a fixed address.
    pub fn board<M: Machine>(&mut self, name: &str) -> Result<Board<M>> {
        let number = FIRST_NUMBER + self.boards;
        self.boards += 1;
        let file = |extension: &str| self.folder.join(format!("{name}.{extension}"));
        let ends = [file("board"), file("switch")];
        let cable = self.switch.plug_unix(&ends[1], &ends[0])?;
        let network = Network::Static { address: self.segment.ipv4(number), gateway: self.segment.router_ipv4() };
        let board = Board {
            cable,
            name: name.into(),
            number,
            ends,
            flash: file("flash"),
            network,
            pace: Pace::default(),
            further: Vec::new(),
            emulator: None,
            machine: PhantomData,
        };
        board.write_flash(&[0xff; FLASH_LEN])?;
        Ok(board)
    }

    /// Adds a board with a join key, a name and a seed of its own in its provisioning page. Its readings go to
    /// [`READINGS_PORT`] of `laptop`.
    pub fn provisioned<M: Machine>(&mut self, name: &str, join_key: &str) -> Result<Board<M>> {
        let board = self.board(name)?;
        let seed = random_seed()?;
        let push_to = format!("laptop:{READINGS_PORT}");
        let push_to = Field::App(PUSH_TO, push_to.as_bytes());
        board.provision(&[Field::JoinKey(join_key), Field::Seed(&seed), Field::Hostname(name), push_to])?;
        Ok(board)
    }
}

impl<M: Machine> Board<M> {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address that it was given on its own network; by DHCP it has another.
    pub fn ipv4(&self) -> Option<Ipv4Addr> {
        match self.network {
            Network::Static { address, .. } => Some(address),
            Network::Dhcp => None,
        }
    }

    /// Lets it ask for an address, from its next start on.
    pub fn use_dhcp(&mut self) {
        self.network = Network::Dhcp;
    }

    /// How fast it computes, from its next start on.
    pub fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
    }

    /// Further arguments from its next start on, for instance `cut=7`.
    pub fn set_arguments(&mut self, arguments: &[String]) {
        self.further = arguments.to_vec();
    }

    /// Writes the provisioning page, as a host does that is attached to a board.
    pub fn provision(&self, fields: &[Field<'_>]) -> Result<()> {
        let mut flash = self.read_flash()?;
        let page = flash.get_mut(..PAGE_LEN).context("the flash is shorter than a page")?;
        provision::encode(fields, page).map_err(|error| anyhow!("{error}"))?;
        self.write_flash(&flash)
    }

    /// All of its flash.
    pub fn read_flash(&self) -> Result<Vec<u8>> {
        std::fs::read(&self.flash).with_context(|| format!("cannot read {}", self.flash.display()))
    }

    /// Replaces its flash; it must be off.
    pub fn write_flash(&self, content: &[u8]) -> Result<()> {
        ensure!(self.emulator.is_none(), "{} is on", self.name);
        std::fs::write(&self.flash, content).with_context(|| format!("cannot write {}", self.flash.display()))
    }

    /// Switches it on.
    pub fn start(&mut self) -> Result<()> {
        ensure!(self.emulator.is_none(), "{} is on", self.name);
        let image = M::image()?;
        let dictionary = Dictionary::of_image(&image)?;
        let mut command = M::qemu(&format!("52:54:00:77:00:{:02x}", self.number));
        let [board_end, switch_end] = self.ends.each_ref().map(PathBuf::as_path);
        machine::complete(&mut command, &image, &self.arguments(), self.pace, [board_end, switch_end]);
        let name = format!("{} on {}", self.name, M::BOARD);
        let emulator = Daemon::spawn_decoded(&name, &mut command, move |log, push| dictionary.decode(log, push))?;
        self.emulator = Some(emulator);
        Ok(())
    }

    fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![format!("flash={}", self.flash.display()), format!("id={:032x}", self.number)];
        if let Network::Static { address, gateway } = self.network {
            arguments.extend([format!("address={address}/24"), format!("gateway={gateway}")]);
        }
        arguments.extend_from_slice(&self.further);
        arguments
    }

    /// Takes its power away at this very instant, whatever it is at.
    pub fn cut_power(&mut self) -> Result<()> {
        self.emulator()?.kill()?;
        self.emulator = None;
        Ok(())
    }

    /// Takes its power away and gives it back.
    pub fn reset(&mut self) -> Result<()> {
        self.cut_power()?;
        self.start()
    }

    /// Waits until the power fails where its argument `cut=` said.
    pub fn wait_for_cut(&mut self, limit: Duration) -> Result<()> {
        let status = self.emulator()?.wait(limit)?;
        self.emulator = None;
        ensure!(status.code() == Some(POWER_CUT), "{} ended ({status}) before its power was cut", self.name);
        Ok(())
    }

    /// Its emulator and, with it, its log since the last start.
    pub fn emulator(&mut self) -> Result<&mut Daemon> {
        self.emulator.as_mut().with_context(|| format!("{} is off", self.name))
    }

    /// Waits for a line of its log since the last start that holds `text`.
    pub fn wait_for(&mut self, text: &str, limit: Duration) -> Result<Line> {
        self.emulator()?.wait_for_line(text, limit).and_then(Line::new)
    }

    /// Waits until `count` lines of its log since the last start hold `text`, and returns the last of them.
    pub fn wait_for_times(&mut self, count: usize, text: &str, limit: Duration) -> Result<Line> {
        let emulator = self.emulator()?;
        let nth =
            || emulator.log().lines().skip(1).filter(|line| line.contains(text)).nth(count - 1).map(str::to_owned);
        wait::for_some(&format!("{count} lines with {text:?}"), limit, nth).and_then(Line::new)
    }

    /// Every line of its log since the last start that holds `text`.
    pub fn lines(&mut self, text: &str) -> Result<Vec<Line>> {
        let log = self.emulator()?.log();
        log.lines().skip(1).filter(|line| line.contains(text)).map(|line| Line::new(line.into())).collect()
    }
}

/// A line of a board's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When, by the board's clock since its start.
    pub time: Duration,
    /// The whole line.
    pub text: String,
}

impl Line {
    pub(crate) fn new(text: String) -> Result<Self> {
        let time = defmt_log::time(&text).with_context(|| format!("no time before {text:?}"))?;
        Ok(Self { time, text })
    }

    /// The address at the end of a line, for instance of `joined as 100.64.0.2`.
    pub fn address(&self) -> Result<Ipv4Addr> {
        let mut words = self.text.split(|c: char| !c.is_ascii_digit() && c != '.').filter(|word| word.contains('.'));
        words
            .rfind(|word| word.parse::<Ipv4Addr>().is_ok())
            .and_then(|word| word.parse().ok())
            .with_context(|| format!("no address in {:?}", self.text))
    }
}

/// A seed as a person who provisions a board would draw it.
pub fn random_seed() -> Result<[u8; 32]> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).context("the system has no random numbers")?;
    Ok(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_a_line_is_found() {
        let line = Line::new("1.500000 INFO  joined as 100.64.0.2, stack 4096 bytes deep".into()).unwrap();
        assert_eq!(line.time, Duration::from_millis(1_500));
        assert_eq!(line.address().unwrap(), Ipv4Addr::new(100, 64, 0, 2));
        assert!(Line::new("1.5 INFO link up".into()).unwrap().address().is_err());
    }
}
