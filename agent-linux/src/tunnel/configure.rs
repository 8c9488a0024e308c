//! Carries requests of the configuration protocol out on a WireGuard device, and reports its state.
//!
//! Ports and marks are not here: they belong to the sockets.

use std::{collections::HashMap, io, time::Duration};

use weft_core::{
    ip::IpPrefix,
    keys::{NodeSecret, PresharedKey},
    time::Instant,
    wireguard::{AddPeerError, Device, PeerId, storage::Storage},
};
use zeroize::Zeroizing;

use super::uapi::{AllowedIpChange, DeviceChange, DeviceReport, PeerChange, PeerReport, UapiError, write_allowed_ip};
use crate::crypto_ring::RingCrypto;

/// Changes keys and peers. Where there is no room for a peer or prefix, what came before it stays changed.
pub(super) fn apply<S: Storage>(device: &mut Device<S>, change: DeviceChange, now: Instant) -> Result<(), UapiError> {
    if let Some(secret) = change.private_key {
        let none = secret == NodeSecret::from_bytes([0; 32]);
        device.set_private_key::<RingCrypto>((!none).then_some(secret), now);
    }
    if change.replace_peers {
        // One by one: a peer that still has prefixes costs a search through those of all.
        let prefixes: Vec<_> = device.all_allowed_ips().collect();
        for (prefix, peer) in prefixes {
            device.remove_allowed_ip(peer, prefix);
        }
        let peers: Vec<PeerId> = device.peers().collect();
        for peer in peers {
            device.remove_peer(peer);
        }
    }
    for peer in change.peers {
        apply_peer(device, peer, now)?;
    }
    Ok(())
}

fn apply_peer<S: Storage>(device: &mut Device<S>, change: PeerChange, now: Instant) -> Result<(), UapiError> {
    let known = device.peer_by_key(&change.public_key);
    if change.remove {
        if let Some(peer) = known {
            device.remove_peer(peer);
        }
        return Ok(());
    }
    let peer = match (known, change.update_only) {
        (Some(peer), _) => peer,
        (None, true) => return Ok(()),
        (None, false) => match device.add_peer(&change.public_key) {
            Ok(peer) => peer,
            // One configuration may be given to every machine: each leaves itself out.
            Err(AddPeerError::OwnKey) => return Ok(()),
            Err(_) => return Err(io::Error::from_raw_os_error(libc::ENOSPC).into()),
        },
    };
    if let Some(key) = change.preshared_key {
        device.set_preshared_key(peer, key);
    }
    if change.endpoint.is_some() {
        device.set_endpoint(peer, change.endpoint, now);
    }
    if change.replace_allowed_ips {
        device.clear_allowed_ips(peer);
    }
    for change in change.allowed_ips {
        match change {
            AllowedIpChange::Add(prefix) => {
                device.add_allowed_ip(peer, prefix).map_err(|_| io::Error::from_raw_os_error(libc::ENOSPC))?;
            }
            AllowedIpChange::Remove(prefix) => {
                device.remove_allowed_ip(peer, prefix);
            }
        }
    }
    // Last, since it may begin a handshake at once.
    if let Some(secs) = change.persistent_keepalive {
        device.set_persistent_keepalive(peer, interval(secs), now);
    }
    Ok(())
}

fn interval(secs: u16) -> Option<Duration> {
    (secs > 0).then(|| Duration::from_secs(secs.into()))
}

/// Begins the persistent keepalives anew, after [`Device::deactivate_all`] or before the first packet.
pub(super) fn restart_keepalives<S: Storage>(device: &mut Device<S>, now: Instant) {
    let peers: Vec<PeerId> = device.peers().collect();
    for peer in peers {
        let interval = device.peer(peer, now).and_then(|view| view.persistent_keepalive);
        if interval.is_some() {
            device.set_persistent_keepalive(peer, None, now);
            device.set_persistent_keepalive(peer, interval, now);
        }
    }
}

/// The lines that answer a get request.
pub(super) fn report<S: Storage>(device: &Device<S>, listen_port: u16, fwmark: u32, now: Instant) -> Zeroizing<String> {
    let mut prefixes: HashMap<PeerId, Vec<IpPrefix>> = HashMap::new();
    for (prefix, peer) in device.all_allowed_ips() {
        prefixes.entry(peer).or_default().push(prefix);
    }
    let mut out = Zeroizing::new(String::new());
    DeviceReport { private_key: device.private_key(), listen_port, fwmark }.write(&mut out);
    for peer in device.peers() {
        let Some(view) = device.peer(peer, now) else { continue };
        PeerReport {
            public_key: view.key,
            preshared_key: device.preshared_key(peer).unwrap_or(&PresharedKey::NONE),
            endpoint: view.endpoint,
            last_handshake: view.last_handshake.map(|last| last.wall),
            tx_bytes: view.sent_bytes,
            rx_bytes: view.received_bytes,
            persistent_keepalive: view
                .persistent_keepalive
                .map_or(0, |interval| u16::try_from(interval.as_secs()).unwrap_or(u16::MAX)),
        }
        .write(&mut out);
        prefixes.remove(&peer).into_iter().flatten().for_each(|prefix| write_allowed_ip(&mut out, prefix));
    }
    out
}

#[cfg(test)]
mod tests {
    use rand_core::UnwrapErr;
    use weft_core::{crypto::dh::X25519, keys::NodeKey};

    use super::*;
    use crate::{
        storage::{HeapStorage, tables},
        tunnel::uapi::{Request, RequestParser},
    };

    const KEY_A: &str = "b85996fecc9c7f1fc6d2572a76eda11d59bcd20be8e543b15ce4bd85a8e75a33";
    const KEY_B: &str = "58402e695ba1772b1cc9309755f043251ea77fdcf10fbe63989ceb7e19321376";
    const SECRET: &str = "e84b5a6d2717c1003a13b431570353dbaca9146cf150c5f8575680feba52027a";
    const NOW: Instant = Instant::from_secs(1_000);

    fn device() -> Device<HeapStorage> {
        Device::new(tables(), &mut UnwrapErr(getrandom::SysRng))
    }

    fn set(device: &mut Device<HeapStorage>, lines: &[&str]) -> Result<(), UapiError> {
        let mut parser = RequestParser::default();
        for line in ["set=1"].iter().chain(lines) {
            assert!(parser.line(line, &|_| None).unwrap().is_none());
        }
        match parser.line("", &|_| None)? {
            Some(Request::Set(change)) => apply(device, change, NOW),
            other => panic!("not a set request: {other:?}"),
        }
    }

    fn lines(device: &Device<HeapStorage>) -> Vec<String> {
        report(device, 0, 0, NOW).lines().map(ToOwned::to_owned).collect()
    }

    fn key(hex: &str) -> String {
        format!("public_key={hex}")
    }

    #[test]
    fn what_was_set_is_reported() {
        let mut device = device();
        set(
            &mut device,
            &[
                &format!("private_key={SECRET}"),
                &key(KEY_A),
                &format!("preshared_key={KEY_B}"),
                "endpoint=192.0.2.1:51820",
                "persistent_keepalive_interval=25",
                "allowed_ip=10.0.0.0/8",
            ],
        )
        .unwrap();
        let none = "0".repeat(64);
        assert_eq!(
            lines(&device),
            [
                &format!("private_key={SECRET}"),
                &key(KEY_A),
                &format!("preshared_key={KEY_B}"),
                "protocol_version=1",
                "endpoint=192.0.2.1:51820",
                "last_handshake_time_sec=0",
                "last_handshake_time_nsec=0",
                "tx_bytes=0",
                "rx_bytes=0",
                "persistent_keepalive_interval=25",
                "allowed_ip=10.0.0.0/8",
            ]
        );
        set(&mut device, &[&format!("private_key={none}"), &key(KEY_A), &format!("preshared_key={none}")]).unwrap();
        let lines = lines(&device);
        assert!(lines[0] == key(KEY_A) && lines[1] == format!("preshared_key={none}"), "{lines:?}");
    }

    #[test]
    fn peers_are_removed_replaced_and_not_added_by_an_update() {
        let mut device = device();
        set(&mut device, &[&key(KEY_A), "allowed_ip=10.1.0.0/16", &key(KEY_B)]).unwrap();
        set(&mut device, &[&key(SECRET), "update_only=true", "allowed_ip=10.9.0.0/16"]).unwrap();
        assert_eq!(device.peers().count(), 2);
        set(&mut device, &[&key(KEY_A), "remove=true", &key(SECRET), "remove=true"]).unwrap();
        assert_eq!(device.peers().count(), 1);
        assert_eq!(device.route("10.1.2.3".parse().unwrap()), None);
        set(&mut device, &["replace_peers=true", &key(KEY_A)]).unwrap();
        let all: Vec<_> = device.peers().filter_map(|peer| device.peer(peer, NOW)).map(|view| view.key).collect();
        assert_eq!(all.len(), 1);
        assert_eq!(format!("nodekey:{KEY_A}").parse(), Ok(all[0]));
    }

    #[test]
    fn allowed_addresses_move_are_replaced_and_taken_away() {
        let mut device = device();
        set(&mut device, &[&key(KEY_A), "allowed_ip=10.1.0.0/16", "allowed_ip=10.2.0.0/16"]).unwrap();
        set(&mut device, &[&key(KEY_B), "allowed_ip=10.1.0.0/16"]).unwrap();
        let owner = |device: &Device<HeapStorage>, address: &str| {
            let peer = device.route(address.parse().unwrap())?;
            device.peer(peer, NOW).map(|view| view.key)
        };
        let [a, b]: [NodeKey; 2] = [KEY_A, KEY_B].map(|key| format!("nodekey:{key}").parse().unwrap());
        assert_eq!((owner(&device, "10.1.0.1"), owner(&device, "10.2.0.1")), (Some(b), Some(a)));
        set(&mut device, &[&key(KEY_A), "replace_allowed_ips=true", "allowed_ip=10.3.0.0/16"]).unwrap();
        assert_eq!((owner(&device, "10.2.0.1"), owner(&device, "10.3.0.1")), (None, Some(a)));
        set(&mut device, &[&key(KEY_A), "allowed_ip=-10.3.0.0/16", "allowed_ip=-10.1.0.0/16"]).unwrap();
        assert_eq!((owner(&device, "10.3.0.1"), owner(&device, "10.1.0.1")), (None, Some(b)));
    }

    #[test]
    fn a_device_leaves_itself_out_of_its_peers() {
        let mut device = device();
        let secret = NodeSecret::from_bytes([0x41; 32]);
        let public = secret.public::<X25519>().to_string().replace("nodekey:", "public_key=");
        set(&mut device, &[&format!("private_key={}", "41".repeat(32)), &public, &key(KEY_A)]).unwrap();
        assert_eq!(device.peers().count(), 1);
    }
}
