//! An Ethernet switch in this process: it carries frames between emulated boards and a [`Segment`] of a lab.
//!
//! ```text
//!   QEMU (netdev dgram) --- wire ---\
//!   QEMU (netdev dgram) --- wire --- switch --- TAP net3 in the router's namespace
//!   rp2040js (UDP)      --- wire ---/
//! ```
//!
//! A station is whoever is plugged in. It sends and receives one frame a datagram, without the check sequence. Each has a
//! cable of its own, whose faults are set by [`Cable::set_faults`]. The switch learns addresses, as any switch does.

use std::{
    collections::{HashMap, VecDeque},
    fs::File,
    io::{self, ErrorKind, Write},
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result};

use crate::{
    binaries, evidence,
    lab::Segment,
    pcap,
    wire::{Counts, Faults, Wire},
};

/// The longest frame, without its check sequence, with room for a VLAN tag.
const MAX_FRAME: usize = 1_518;
/// How long a reader waits for a frame before it looks whether it should stop.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// How long a station may keep its receive queue full before a frame for it is dropped.
const PATIENCE: Duration = Duration::from_millis(200);
/// The last frames that are kept for a test that fails.
const RECORDED: usize = 4_000;

/// A switch, gone with its wires when dropped.
#[derive(Debug)]
pub struct Switch {
    fabric: Arc<Fabric>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// The cable between a station and the switch, both directions of it.
#[derive(Clone, Debug)]
pub struct Cable {
    /// From the station to the switch, and from the switch to the station.
    lanes: [Arc<Wire>; 2],
}

/// What the threads of a switch share.
#[derive(Debug)]
struct Fabric {
    name: String,
    state: Mutex<State>,
    stopping: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    cables: Vec<Cable>,
    /// Behind which cable an address is.
    learned: HashMap<[u8; 6], usize>,
    recorded: VecDeque<(SystemTime, Vec<u8>)>,
}

/// Something that frames come from and go to.
trait Station: Send + Sync + 'static {
    /// Waits a while for a frame.
    fn receive(&self, frame: &mut [u8]) -> io::Result<usize>;
    /// Hands it a frame. An error is a frame lost.
    fn send(&self, frame: &[u8]) -> io::Result<usize>;
}

impl Switch {
    /// A switch with nothing plugged in. Its last frames are kept as a capture where the test on this thread fails.
    pub fn new(name: &str) -> Self {
        let fabric = Arc::new(Fabric { name: name.into(), state: Mutex::default(), stopping: AtomicBool::default() });
        let shown = fabric.clone();
        evidence::register(move || shown.save().unwrap_or_else(|error| format!("--- {error:#}\n")));
        Self { fabric, threads: Mutex::default() }
    }

    /// Plugs in a subnet of a lab, so that stations reach its router. The switch takes the segment's TAP device.
    pub fn plug_segment(&self, segment: &mut Segment) -> Result<Cable> {
        Ok(self.plug(segment.take_tap()?))
    }

    /// Plugs in a station that exchanges Unix datagrams, as QEMU with `-netdev dgram`: it sends to `switch_end` and
    /// receives at `station_end`. The station may end and be started again.
    pub fn plug_unix(&self, switch_end: &Path, station_end: &Path) -> Result<Cable> {
        let socket =
            UnixDatagram::bind(switch_end).with_context(|| format!("cannot listen at {}", switch_end.display()))?;
        socket.set_read_timeout(Some(LOOK_INTERVAL))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(self.plug(UnixStation { socket, peer: station_end.into() }))
    }

    /// Plugs in a station that exchanges UDP datagrams with the address that is returned, on loopback of this process's
    /// namespace. Frames go to wherever the last one came from.
    pub fn plug_udp(&self) -> Result<(SocketAddr, Cable)> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen on loopback")?;
        socket.set_read_timeout(Some(LOOK_INTERVAL))?;
        let address = socket.local_addr()?;
        Ok((address, self.plug(UdpStation { socket, peer: Mutex::default() })))
    }

    fn plug(&self, station: impl Station) -> Cable {
        let station = Arc::new(station);
        let mut state = self.fabric.state();
        let port = state.cables.len();
        // The two directions of a cable, and any two cables, have different faults.
        let seed = 2 * port as u64;
        let cable = Cable { lanes: [Arc::new(Wire::new(seed)), Arc::new(Wire::new(seed + 1))] };
        state.cables.push(cable.clone());
        drop(state);

        let [inward, outward] = cable.lanes.clone();
        let (fabric, reading, into) = (self.fabric.clone(), station.clone(), inward.clone());
        let reader = std::thread::spawn(move || read(&fabric, &*reading, &into));
        let fabric = self.fabric.clone();
        let forwarder = std::thread::spawn(move || {
            while let Some(frame) = inward.receive() {
                fabric.forward(port, frame);
            }
        });
        let writer = std::thread::spawn(move || {
            while let Some(frame) = outward.receive() {
                // A station that is gone, or whose queue stays full, loses the frame.
                let _ = station.send(&frame);
            }
        });
        self.threads().extend([reader, forwarder, writer]);
        cable
    }

    fn threads(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.fabric.stopping.store(true, Ordering::Release);
        self.fabric.state().cables.iter().flat_map(|cable| &cable.lanes).for_each(|wire| wire.close());
        for thread in self.threads().drain(..) {
            let _ = thread.join();
        }
    }
}

impl Cable {
    /// Changes what happens to frames in both directions from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.lanes.iter().for_each(|wire| wire.set_faults(faults));
    }

    /// Unplugs the cable, or plugs it in again.
    pub fn set_link(&self, up: bool) {
        self.lanes.iter().for_each(|wire| wire.set_link(up));
    }

    /// What it carried from the station, and to the station.
    pub fn counts(&self) -> [Counts; 2] {
        self.lanes.each_ref().map(|wire| wire.counts())
    }
}

impl Fabric {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes a frame from one cable to where its destination is, or to all others where that is not known.
    fn forward(&self, from: usize, frame: Vec<u8>) {
        let (Some(&destination), Some(&source)) =
            (frame.first_chunk::<6>(), frame.get(6..).and_then(<[u8]>::first_chunk))
        else {
            return;
        };
        let mut state = self.state();
        if !is_group(&source) {
            state.learned.insert(source, from);
        }
        let to = (!is_group(&destination)).then(|| state.learned.get(&destination).copied()).flatten();
        let ports = state.cables.iter().enumerate();
        for (_, cable) in ports.filter(|(port, _)| *port != from && to.is_none_or(|to| to == *port)) {
            let [_, outward] = &cable.lanes;
            outward.send(&frame);
        }
        if state.recorded.len() == RECORDED {
            state.recorded.pop_front();
        }
        state.recorded.push_back((SystemTime::now(), frame));
    }

    /// Writes the last frames into a file and says which.
    fn save(&self) -> Result<String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let folder = captures()?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!("{}-{}-{number}.pcap", self.name, std::process::id()));
        let mut bytes = pcap::file_header(pcap::LINKTYPE_ETHERNET).to_vec();
        let state = self.state();
        for (time, frame) in &state.recorded {
            bytes.extend_from_slice(&pcap::record_header(*time, frame.len()));
            bytes.extend_from_slice(frame);
        }
        File::create(&path)
            .and_then(|mut file| file.write_all(&bytes))
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(format!("--- the last {} frames at the switch {}: {}\n", state.recorded.len(), self.name, path.display()))
    }
}

/// Where captures go: a folder that outlives the sandbox of `cargo xtask test`.
fn captures() -> Result<PathBuf> {
    let folder = binaries::directory()?.join("captures");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

fn is_group(address: &[u8; 6]) -> bool {
    address.first().is_some_and(|byte| byte & 1 == 1)
}

fn read(fabric: &Fabric, station: &dyn Station, into: &Wire) {
    let mut frame = [0; MAX_FRAME];
    while !fabric.stopping.load(Ordering::Acquire) {
        match station.receive(&mut frame) {
            Ok(len) => into.send(frame.get(..len).unwrap_or_default()),
            Err(error) if is_transient(error.kind()) => {}
            // A device that is gone: nothing will come any more.
            Err(_) => return,
        }
    }
}

fn is_transient(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted | ErrorKind::ConnectionRefused)
}

struct UnixStation {
    socket: UnixDatagram,
    peer: PathBuf,
}

impl Station for UnixStation {
    fn receive(&self, frame: &mut [u8]) -> io::Result<usize> {
        self.socket.recv(frame)
    }

    fn send(&self, frame: &[u8]) -> io::Result<usize> {
        self.socket.send_to(frame, &self.peer)
    }
}

struct UdpStation {
    socket: UdpSocket,
    peer: Mutex<Option<SocketAddr>>,
}

impl UdpStation {
    fn peer(&self) -> MutexGuard<'_, Option<SocketAddr>> {
        self.peer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Station for UdpStation {
    fn receive(&self, frame: &mut [u8]) -> io::Result<usize> {
        let (len, peer) = self.socket.recv_from(frame)?;
        *self.peer() = Some(peer);
        Ok(len)
    }

    fn send(&self, frame: &[u8]) -> io::Result<usize> {
        let peer = self.peer().ok_or(ErrorKind::NotConnected)?;
        self.socket.send_to(frame, peer)
    }
}

impl Station for tun::Device {
    fn receive(&self, frame: &mut [u8]) -> io::Result<usize> {
        self.recv_timeout(frame, LOOK_INTERVAL)
    }

    fn send(&self, frame: &[u8]) -> io::Result<usize> {
        tun::Device::send(self, frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    /// A station with the address `02:00:00:00:00:<number>`.
    struct Host {
        number: u8,
        socket: UdpSocket,
    }

    impl Host {
        fn new(switch: &Switch, number: u8) -> (Self, Cable) {
            let (address, cable) = switch.plug_udp().unwrap();
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            socket.connect(address).unwrap();
            socket.set_read_timeout(Some(LIMIT)).unwrap();
            let host = Self { number, socket };
            // Until it has spoken the switch does not know where it is.
            host.send(0xff, b"hello");
            let learned = || switch.fabric.state().learned.contains_key(&[2, 0, 0, 0, 0, number]);
            crate::wait::until("the switch to learn of the station", LIMIT, learned).unwrap();
            (host, cable)
        }

        fn send(&self, to: u8, text: &[u8]) {
            let address = |number| if number == 0xff { [0xff; 6] } else { [2, 0, 0, 0, 0, number] };
            let frame = [&address(to)[..], &address(self.number), &[0x88, 0xb5], text].concat();
            self.socket.send(&frame).unwrap();
        }

        /// The text of the next frame that is no greeting.
        fn text(&self) -> Vec<u8> {
            let mut frame = [0; MAX_FRAME];
            loop {
                let len = self.socket.recv(&mut frame).unwrap();
                if &frame[14..len] != b"hello" {
                    return frame[14..len].to_vec();
                }
            }
        }
    }

    #[test]
    fn a_frame_goes_to_its_destination_only() {
        let switch = Switch::new("test");
        let [(a, _), (b, _), (c, _)] = [1, 2, 3].map(|number| Host::new(&switch, number));
        b.send(1, b"here I am");
        assert_eq!(a.text(), b"here I am");
        a.send(2, b"for b");
        assert_eq!(b.text(), b"for b");
        // Had the switch flooded the earlier frames, they would have come first.
        a.send(0xff, b"for all");
        assert_eq!((b.text(), c.text()), (b"for all".to_vec(), b"for all".to_vec()));
    }

    #[test]
    fn an_unplugged_station_hears_nothing_until_it_is_plugged_in() {
        let switch = Switch::new("test");
        let [(a, _), (b, cable)] = [1, 2].map(|number| Host::new(&switch, number));
        b.send(1, b"here I am");
        assert_eq!(a.text(), b"here I am");
        cable.set_link(false);
        let [_, before] = cable.counts();
        a.send(2, b"lost");
        crate::wait::until("the frame to be lost", LIMIT, || cable.counts()[1].lost > before.lost).unwrap();
        cable.set_link(true);
        a.send(2, b"heard");
        assert_eq!(b.text(), b"heard");
    }
}
