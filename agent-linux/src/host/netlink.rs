//! The kernel's side of the host: takes the picture, sets addresses and routes of the node's device, tells of changes.
//!
//! Touches nothing but the node's own device and routes through it. The kernel drops these with the device, also
//! after `kill -9`.

use std::{
    collections::BTreeSet,
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    sync::Arc,
};

use futures_util::{StreamExt as _, TryStreamExt as _};
use rtnetlink::{
    Handle, IpVersion, LinkUnspec, MulticastGroup, RouteMessageBuilder,
    packet_route::{
        address::{AddressAttribute, AddressFlags, AddressMessage},
        link::{LinkAttribute, LinkFlags, LinkMessage},
        route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType},
        rule::{RuleAttribute, RuleMessage},
    },
};
use tokio::sync::Notify;
use weft_core::ip::IpPrefix;

use super::{HostView, Interface, InterfaceAddress, Route, name_servers, prefix, routes::Plan, tailscale};

/// Marks the routes that are ours in `ip route`. A number of nobody else's in iproute2's `rt_protos`.
const PROTOCOL: RouteProtocol = RouteProtocol::Other(87);

/// The table of this machine's own addresses, which the kernel keeps.
const LOCAL_TABLE: u32 = 255;

/// The lists of name servers. With systemd-resolved the first one names its stub, 127.0.0.53, and only the second one
/// the servers of the uplink.
const RESOLV_CONF: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/// A connection to the kernel's routing tables.
#[derive(Debug)]
pub struct Netlink {
    handle: Handle,
    changed: Arc<Notify>,
}

impl Netlink {
    /// Opens it and listens for changes of links, addresses and routes. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// Where the process may open no netlink socket.
    pub fn open() -> io::Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
            MulticastGroup::Ipv4Rule,
        ];
        let (monitor, _, mut events) = rtnetlink::new_multicast_connection(&groups)?;
        tokio::spawn(monitor);
        let changed = Arc::new(Notify::new());
        let notify = Arc::clone(&changed);
        // What changed does not matter: the picture is taken anew. So events never pile up.
        tokio::spawn(async move {
            while events.next().await.is_some() {
                notify.notify_one();
            }
        });
        Ok(Self { handle, changed })
    }

    /// Waits until something of links, addresses or routes has changed since the last time, this process's own
    /// changes included.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Takes the picture.
    ///
    /// # Errors
    /// Where the kernel refuses to list something.
    pub async fn view(&self) -> io::Result<HostView> {
        let mut interfaces: Vec<Interface> =
            self.handle.link().get().execute().map_ok(|link| interface(&link)).try_collect().await.map_err(into_io)?;
        let mut addresses = self.handle.address().get().execute();
        while let Some(message) = addresses.try_next().await.map_err(into_io)? {
            let owner = interfaces.iter_mut().find(|interface| interface.index == message.header.index);
            if let (Some(owner), Some(address)) = (owner, address(&message)) {
                owner.addresses.push(address);
            }
        }
        let mut view = HostView { interfaces, ipv6_off: ipv6_is_off(), ..HostView::default() };
        for version in versions() {
            view.routes.extend(self.routes(version.clone()).await?.iter().filter_map(route));
            view.rules.extend(rules(version).await);
        }
        let lists = RESOLV_CONF.iter().filter_map(|path| fs::read_to_string(path).ok());
        view.name_servers = lists.flat_map(|text| name_servers(&text)).collect();
        view.tailscaled_answers = listens(Path::new(tailscale::SOCKET)).await;
        Ok(view)
    }

    /// Sets the device up with an MTU of `mtu` bytes.
    ///
    /// # Errors
    /// Where the device is gone or the process lacks `CAP_NET_ADMIN`.
    pub async fn bring_up(&self, device: u32, mtu: u16) -> io::Result<()> {
        let message = LinkUnspec::new_with_index(device).mtu(u32::from(mtu)).up().build();
        self.handle.link().set(message).execute().await.map_err(into_io)
    }

    /// Makes the addresses and routes of the device those of `plan`, whatever they were.
    ///
    /// # Errors
    /// The first refusal of the kernel; everything that it did not refuse is done.
    pub async fn apply(&self, device: u32, plan: &Plan) -> io::Result<()> {
        let mut result = Ok(());
        let mut note = |done: Result<(), rtnetlink::Error>| {
            if let Err(error) = done.map_err(into_io)
                && !matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound)
                && result.is_ok()
            {
                result = Err(error);
            }
        };
        let mut present = BTreeSet::new();
        let listed = self.handle.address().get().set_link_index_filter(device).execute();
        let listed: Vec<AddressMessage> = listed.try_collect().await.map_err(into_io)?;
        for message in listed {
            let Some(found) = address(&message).map(|found| found.address) else { continue };
            let link_local = matches!(found, IpAddr::V6(v6) if v6.is_unicast_link_local());
            if plan.addresses.contains(&found) {
                present.insert(found);
            } else if !link_local {
                note(self.handle.address().del(message).execute().await);
            }
        }
        for new in plan.addresses.difference(&present) {
            let len = IpPrefix::host(*new).len();
            note(self.handle.address().add(device, *new, len).execute().await);
        }
        for version in versions() {
            let v4 = version == IpVersion::V4;
            let wanted: BTreeSet<IpPrefix> =
                plan.routes.iter().filter(|route| route.address().is_ipv4() == v4).copied().collect();
            let mut present = BTreeSet::new();
            for message in self.routes(version).await? {
                match route(&message).filter(|route| route.interface == Some(device)) {
                    Some(found) if wanted.contains(&found.destination) => _ = present.insert(found.destination),
                    Some(_) if message.header.protocol == PROTOCOL => {
                        note(self.handle.route().del(message).execute().await);
                    }
                    Some(_) | None => {}
                }
            }
            for new in wanted.difference(&present) {
                note(self.handle.route().add(route_message(new, device)).execute().await);
            }
        }
        result
    }

    async fn routes(&self, version: IpVersion) -> io::Result<Vec<RouteMessage>> {
        let filter = match version {
            IpVersion::V4 => RouteMessageBuilder::<Ipv4Addr>::new().build(),
            IpVersion::V6 => RouteMessageBuilder::<Ipv6Addr>::new().build(),
        };
        self.handle.route().get(filter).execute().try_collect().await.map_err(into_io)
    }
}

/// The priorities of the routing rules; none where there are no rules in the kernel, as on some small routers.
///
/// Asked for over a connection of their own: `rtnetlink` gives a connection up after a request that could not be sent,
/// and QEMU's user emulation sends no request for rules.
async fn rules(version: IpVersion) -> Vec<u32> {
    let Ok((connection, handle, _)) = rtnetlink::new_connection() else { return Vec::new() };
    tokio::spawn(connection);
    let listed: Vec<RuleMessage> = handle.rule().get(version).execute().try_collect().await.unwrap_or_default();
    let attributes = listed.into_iter().flat_map(|rule| rule.attributes);
    attributes
        .filter_map(|attribute| match attribute {
            RuleAttribute::Priority(priority) => Some(priority),
            _ => None,
        })
        .collect()
}

/// Whether somebody listens at a Unix socket, also one who has stopped to accept.
async fn listens(path: &Path) -> bool {
    match tokio::net::UnixStream::connect(path).await {
        Ok(_) => true,
        // A blocking connect would wait for as long as the queue is full.
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}

/// The families that the kernel can be asked about.
fn versions() -> impl Iterator<Item = IpVersion> {
    [Some(IpVersion::V4), (!ipv6_is_off()).then_some(IpVersion::V6)].into_iter().flatten()
}

/// Whether a new interface gets no IPv6, or the kernel has none.
fn ipv6_is_off() -> bool {
    let setting = fs::read_to_string("/proc/sys/net/ipv6/conf/default/disable_ipv6");
    setting.map_or(true, |text| text.trim() != "0")
}

fn route_message(destination: &IpPrefix, device: u32) -> RouteMessage {
    match destination.address() {
        IpAddr::V4(v4) => RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(v4, destination.len())
            .output_interface(device)
            .protocol(PROTOCOL)
            .scope(RouteScope::Link)
            .build(),
        IpAddr::V6(v6) => RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(v6, destination.len())
            .output_interface(device)
            .protocol(PROTOCOL)
            .build(),
    }
}

fn interface(message: &LinkMessage) -> Interface {
    let flags = message.header.flags;
    let mut found = Interface {
        index: message.header.index,
        up: flags.contains(LinkFlags::Up) && flags.contains(LinkFlags::LowerUp),
        loopback: flags.contains(LinkFlags::Loopback),
        ..Interface::default()
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => found.name.clone_from(name),
            // The kernel tells the kind of interfaces that software made, and of no network card.
            LinkAttribute::LinkInfo(_) => found.is_virtual = true,
            _ => {}
        }
    }
    found
}

fn address(message: &AddressMessage) -> Option<InterfaceAddress> {
    let mut flags = AddressFlags::from_bits_retain(u32::from(message.header.flags.bits()));
    let (mut local, mut other) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => local = Some(*address),
            AddressAttribute::Address(address) => other = Some(*address),
            AddressAttribute::Flags(all) => flags = *all,
            _ => {}
        }
    }
    // On a point-to-point link `Address` is the other end's.
    let address = local.or(other)?;
    let network = prefix(other.unwrap_or(address), message.header.prefix_len);
    let transient = AddressFlags::Tentative | AddressFlags::Deprecated | AddressFlags::Dadfailed;
    // The same bit means "temporary" for IPv6 and "one more in its subnet" for IPv4.
    let temporary = address.is_ipv6() && flags.contains(AddressFlags::Secondary);
    Some(InterfaceAddress { address, network, lasting: !flags.intersects(transient) && !temporary })
}

fn route(message: &RouteMessage) -> Option<Route> {
    let kinds = [RouteType::Unicast, RouteType::BlackHole, RouteType::Unreachable, RouteType::Prohibit];
    if !kinds.contains(&message.header.kind) {
        return None;
    }
    let unspecified = match message.header.address_family {
        rtnetlink::packet_route::AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        rtnetlink::packet_route::AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let mut found = Route {
        destination: prefix(unspecified, 0),
        table: u32::from(message.header.table),
        interface: None,
        gateway: None,
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(to) => {
                found.destination = IpPrefix::new(ip(to)?, message.header.destination_prefix_length)?;
            }
            RouteAttribute::Table(table) => found.table = *table,
            RouteAttribute::Oif(index) => found.interface = Some(*index),
            RouteAttribute::Gateway(gateway) => found.gateway = ip(gateway),
            _ => {}
        }
    }
    (found.table != LOCAL_TABLE).then_some(found)
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

fn into_io(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        error => io::Error::other(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use socket2::{Domain, SockAddr, Socket, Type};

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn a_daemon_that_hangs_listens_and_holds_nobody_up() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tailscaled.sock");
        assert!(!listens(&path).await);
        let listener = UnixListener::bind(&path).unwrap();
        assert!(listens(&path).await);
        drop(listener);
        assert!(!listens(&path).await, "what a killed daemon left");
        std::fs::remove_file(&path).unwrap();
        let hung = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        let address = SockAddr::unix(&path).unwrap();
        hung.bind(&address).unwrap();
        hung.listen(0).unwrap();
        let mut queue = Vec::new();
        loop {
            let client = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None).unwrap();
            if client.connect(&address).is_err() {
                break;
            }
            queue.push(client);
        }
        assert!(listens(&path).await);
    }
}
