//! The text of WireGuard's cross-platform configuration protocol, as `wg(8)` speaks it on a socket: lines of
//! `key=value`, ended by an empty line (<https://www.wireguard.com/xplatform/>).
//!
//! Parsing and formatting only. It knows neither sockets nor the device; what a request does is
//! `configure`'s. A request is parsed as a whole before any of it is carried out, so that one
//! with a mistake changes nothing.

use std::{
    fmt::{self, Write as _},
    io,
    net::{SocketAddr, SocketAddrV6},
    str::FromStr,
};

use weft_core::{
    ip::IpPrefix,
    keys::{KEY_LEN, NodeKey, NodeSecret, PresharedKey},
    time::UnixTime,
};
use zeroize::{Zeroize, Zeroizing};

/// The longest line that a request may have, in bytes. The longest that means something is a key's, of under 100.
pub const MAX_LINE: usize = 512;

/// What the other end of the socket wants.
#[derive(Debug)]
pub enum Request {
    /// Tell the configuration and state.
    Get,
    /// Change the configuration.
    Set(DeviceChange),
}

/// The changes of one `set=1`. What is `None` or false stays as it is.
#[derive(Debug, Default)]
pub struct DeviceChange {
    /// The new private key; all zero takes it away.
    pub private_key: Option<NodeSecret>,
    /// The UDP port to listen on; 0 picks one.
    pub listen_port: Option<u16>,
    /// The mark of outgoing datagrams; 0 for none.
    pub fwmark: Option<u32>,
    /// Whether the peers that are not named are removed, and those that are named begin anew.
    pub replace_peers: bool,
    /// The changes of peers, in their order.
    pub peers: Vec<PeerChange>,
}

/// The changes of one peer. What is `None` or false stays as it is.
#[derive(Debug)]
pub struct PeerChange {
    /// Which peer.
    pub public_key: NodeKey,
    /// Whether the peer is removed.
    pub remove: bool,
    /// Whether an unknown peer is left alone instead of added.
    pub update_only: bool,
    /// The new preshared key; all zero takes it away.
    pub preshared_key: Option<PresharedKey>,
    /// Where the peer is.
    pub endpoint: Option<SocketAddr>,
    /// The interval of persistent keepalives in seconds; 0 for none.
    pub persistent_keepalive: Option<u16>,
    /// Whether the peer's allowed addresses are removed before those of the list are added.
    pub replace_allowed_ips: bool,
    /// Allowed addresses to add or remove, in their order.
    pub allowed_ips: Vec<AllowedIpChange>,
}

impl PeerChange {
    fn new(public_key: NodeKey) -> Self {
        Self {
            public_key,
            remove: false,
            update_only: false,
            preshared_key: None,
            endpoint: None,
            persistent_keepalive: None,
            replace_allowed_ips: false,
            allowed_ips: Vec::new(),
        }
    }
}

/// One allowed prefix to add or remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllowedIpChange {
    /// Route this prefix to the peer, and take it from the peer that had it.
    Add(IpPrefix),
    /// Written with a minus sign: no longer route this prefix to the peer, if it is the peer's.
    Remove(IpPrefix),
}

/// What the answer to [`Request::Get`] says of the device.
#[derive(Debug)]
pub struct DeviceReport<'a> {
    /// The private key, if there is one.
    pub private_key: Option<&'a NodeSecret>,
    /// The port; 0 where no socket was ever bound.
    pub listen_port: u16,
    /// The mark; 0 for none.
    pub fwmark: u32,
}

/// What the answer to [`Request::Get`] says of one peer.
#[derive(Debug)]
pub struct PeerReport<'a> {
    /// Which peer.
    pub public_key: NodeKey,
    /// The preshared key; all zero for none.
    pub preshared_key: &'a PresharedKey,
    /// Where the peer is, if that is known.
    pub endpoint: Option<SocketAddr>,
    /// When the last handshake was completed, if ever.
    pub last_handshake: Option<UnixTime>,
    /// Bytes of datagrams sent to the peer.
    pub tx_bytes: u64,
    /// Bytes of authenticated datagrams received from the peer.
    pub rx_bytes: u64,
    /// The interval of persistent keepalives in seconds; 0 for none.
    pub persistent_keepalive: u16,
}

/// Why a request is refused. The other end sees the number of [`errno`](Self::errno) alone.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UapiError {
    /// The line is not `key=value`, or too long, or stands where it may not.
    #[error("not a line of the configuration protocol")]
    Malformed,
    /// The key is not one of the protocol's, or not one of this section's.
    #[error("unknown key `{0}`")]
    UnknownKey(Box<str>),
    /// The value is not one that the key may have. The value itself is not told: it may be a secret.
    #[error("bad value of `{0}`")]
    BadValue(&'static str),
    /// The system refused, for instance because the port is in use.
    #[error(transparent)]
    System(#[from] io::Error),
}

impl UapiError {
    /// The error number as the protocol carries it: negative, as `wg(8)` expects it.
    pub fn errno(&self) -> i32 {
        match self {
            Self::Malformed => -libc::EPROTO,
            Self::UnknownKey(_) | Self::BadValue(_) => -libc::EINVAL,
            Self::System(error) => -error.raw_os_error().unwrap_or(libc::EIO),
        }
    }
}

/// Reads requests line by line.
#[derive(Debug, Default)]
pub struct RequestParser {
    state: State,
}

#[derive(Debug, Default)]
enum State {
    /// The next line says which request begins.
    #[default]
    Start,
    Get,
    Set {
        change: DeviceChange,
        /// The first mistake; the lines behind it are skipped up to the end of the request.
        error: Option<UapiError>,
    },
}

impl RequestParser {
    /// Takes the next line, without its line feed, and returns the request that it completes.
    ///
    /// `scope` gives the number of an interface by its name, for link-local endpoints such as `[fe80::1%eth0]:51820`.
    ///
    /// # Errors
    /// Where the request that this line completes has a mistake; the next line begins a new one. An error of
    /// [`UapiError::Malformed`] on the first line of a request cannot be answered: close the connection.
    pub fn line(&mut self, line: &str, scope: &dyn Fn(&str) -> Option<u32>) -> Result<Option<Request>, UapiError> {
        match &mut self.state {
            State::Start => {
                self.state = match line {
                    "get=1" => State::Get,
                    "set=1" => State::Set { change: DeviceChange::default(), error: None },
                    _ => return Err(UapiError::Malformed),
                };
                Ok(None)
            }
            State::Get => {
                self.state = State::Start;
                if line.is_empty() { Ok(Some(Request::Get)) } else { Err(UapiError::Malformed) }
            }
            State::Set { change, error } => {
                if !line.is_empty() {
                    if error.is_none() {
                        *error = change.line(line, scope).err();
                    }
                    return Ok(None);
                }
                let (change, error) = (std::mem::take(change), error.take());
                self.state = State::Start;
                error.map_or(Ok(Some(Request::Set(change))), Err)
            }
        }
    }

    /// Whether the lines so far are the beginning of a request, so that an end of the stream cuts it.
    pub const fn is_inside_request(&self) -> bool {
        !matches!(self.state, State::Start)
    }
}

impl DeviceChange {
    fn line(&mut self, line: &str, scope: &dyn Fn(&str) -> Option<u32>) -> Result<(), UapiError> {
        let (key, value) = line.split_once('=').ok_or(UapiError::Malformed)?;
        if key == "public_key" {
            let key = key_bytes(value).ok_or(UapiError::BadValue("public_key"))?;
            self.peers.push(PeerChange::new(NodeKey::from_bytes(*key)));
            return Ok(());
        }
        match self.peers.last_mut() {
            None => self.device_line(key, value),
            Some(peer) => peer.line(key, value, scope),
        }
    }

    fn device_line(&mut self, key: &str, value: &str) -> Result<(), UapiError> {
        match key {
            "private_key" => {
                let key = key_bytes(value).ok_or(UapiError::BadValue("private_key"))?;
                self.private_key = Some(NodeSecret::from_bytes(*key));
            }
            "listen_port" => self.listen_port = Some(number(value, "listen_port")?),
            // An empty value takes the mark away, as in wireguard-go.
            "fwmark" if value.is_empty() => self.fwmark = Some(0),
            "fwmark" => self.fwmark = Some(number(value, "fwmark")?),
            "replace_peers" => self.replace_peers = yes(value, "replace_peers")?,
            _ => return Err(UapiError::UnknownKey(key.into())),
        }
        Ok(())
    }
}

impl PeerChange {
    fn line(&mut self, key: &str, value: &str, scope: &dyn Fn(&str) -> Option<u32>) -> Result<(), UapiError> {
        match key {
            "remove" => self.remove = yes(value, "remove")?,
            "update_only" => self.update_only = yes(value, "update_only")?,
            "preshared_key" => {
                let key = key_bytes(value).ok_or(UapiError::BadValue("preshared_key"))?;
                self.preshared_key = Some(PresharedKey::from_bytes(*key));
            }
            "endpoint" => self.endpoint = Some(endpoint(value, scope).ok_or(UapiError::BadValue("endpoint"))?),
            "persistent_keepalive_interval" => {
                self.persistent_keepalive = Some(number(value, "persistent_keepalive_interval")?);
            }
            "replace_allowed_ips" => {
                self.replace_allowed_ips = yes(value, "replace_allowed_ips")?;
                // Those before this line would be removed again.
                self.allowed_ips.clear();
            }
            "allowed_ip" => {
                let (removed, prefix) = value.strip_prefix('-').map_or((false, value), |prefix| (true, prefix));
                let prefix = prefix.parse().map_err(|_| UapiError::BadValue("allowed_ip"))?;
                let change = if removed { AllowedIpChange::Remove(prefix) } else { AllowedIpChange::Add(prefix) };
                self.allowed_ips.push(change);
            }
            "protocol_version" if value == "1" => {}
            "protocol_version" => return Err(UapiError::BadValue("protocol_version")),
            _ => return Err(UapiError::UnknownKey(key.into())),
        }
        Ok(())
    }
}

fn yes(value: &str, key: &'static str) -> Result<bool, UapiError> {
    if value == "true" { Ok(true) } else { Err(UapiError::BadValue(key)) }
}

fn number<T: FromStr>(value: &str, key: &'static str) -> Result<T, UapiError> {
    // `parse` would take a plus sign.
    if !value.starts_with(|first: char| first.is_ascii_digit()) {
        return Err(UapiError::BadValue(key));
    }
    value.parse().map_err(|_| UapiError::BadValue(key))
}

fn key_bytes(hex: &str) -> Option<Zeroizing<[u8; KEY_LEN]>> {
    let digits = hex.as_bytes();
    if digits.len() != KEY_LEN * 2 {
        return None;
    }
    let mut key = Zeroizing::new([0; KEY_LEN]);
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        for &digit in pair {
            *byte = *byte << 4 | u8::try_from(char::from(digit).to_digit(16)?).ok()?;
        }
    }
    Some(key)
}

/// `192.0.2.1:51820`, `[2001:db8::1]:51820` or `[fe80::1%eth0]:51820`.
fn endpoint(value: &str, scope: &dyn Fn(&str) -> Option<u32>) -> Option<SocketAddr> {
    if let Ok(address) = value.parse() {
        return Some(address);
    }
    let (address, port) = value.strip_prefix('[')?.split_once("]:")?;
    let (address, interface) = address.split_once('%')?;
    Some(SocketAddrV6::new(address.parse().ok()?, port.parse().ok()?, 0, scope(interface)?).into())
}

/// Writes the answer to a request: the report's lines come before, the number of the error last.
pub fn write_status(out: &mut String, result: Result<(), &UapiError>) {
    let errno = result.err().map_or(0, UapiError::errno);
    line(out, format_args!("errno={errno}\n"));
}

impl DeviceReport<'_> {
    /// Writes the lines of the device, which come before those of its peers.
    pub fn write(&self, out: &mut String) {
        if let Some(key) = self.private_key {
            key_line(out, "private_key", key.as_bytes());
        }
        if self.listen_port != 0 {
            line(out, format_args!("listen_port={}", self.listen_port));
        }
        if self.fwmark != 0 {
            line(out, format_args!("fwmark={}", self.fwmark));
        }
    }
}

impl PeerReport<'_> {
    /// Writes the lines of the peer; those of its allowed addresses come behind.
    pub fn write(&self, out: &mut String) {
        key_line(out, "public_key", self.public_key.as_bytes());
        key_line(out, "preshared_key", self.preshared_key.as_bytes());
        line(out, format_args!("protocol_version=1"));
        if let Some(endpoint) = self.endpoint {
            line(out, format_args!("endpoint={endpoint}"));
        }
        let (secs, nanos) = self.last_handshake.map_or((0, 0), |time| (time.secs(), time.subsec_nanos()));
        line(out, format_args!("last_handshake_time_sec={secs}"));
        line(out, format_args!("last_handshake_time_nsec={nanos}"));
        line(out, format_args!("tx_bytes={}", self.tx_bytes));
        line(out, format_args!("rx_bytes={}", self.rx_bytes));
        line(out, format_args!("persistent_keepalive_interval={}", self.persistent_keepalive));
    }
}

/// Writes the line of one allowed prefix of the peer that was written last.
pub fn write_allowed_ip(out: &mut String, prefix: IpPrefix) {
    line(out, format_args!("allowed_ip={prefix}"));
}

fn key_line(out: &mut String, name: &str, key: &[u8; KEY_LEN]) {
    reserve(out, name.len() + 2 * KEY_LEN + 2);
    out.push_str(name);
    out.push('=');
    for byte in key {
        for nibble in [byte >> 4, byte & 0xf] {
            out.push(char::from_digit(nibble.into(), 16).unwrap_or_default());
        }
    }
    out.push('\n');
}

fn line(out: &mut String, line: fmt::Arguments<'_>) {
    reserve(out, 128);
    // Writing to a string never fails.
    let _ = writeln!(out, "{line}");
}

/// Makes room without leaving a copy of the keys that were written before in freed memory.
fn reserve(out: &mut String, additional: usize) {
    if out.capacity() - out.len() < additional {
        let mut larger = String::with_capacity((out.capacity() * 2).max(4_096) + additional);
        larger.push_str(out);
        std::mem::swap(out, &mut larger);
        larger.zeroize();
    }
}

#[cfg(test)]
mod tests;
