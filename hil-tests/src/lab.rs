//! A lab: hosts in subnets of their own, with a router between them, over IPv4 and IPv6.
//!
//! ```text
//!   host 1            router               host 2
//!   eth0  ----------- net1    net2 ------- eth0
//!   192.168.1.2/24    .1      .1           192.168.2.2/24
//!   fd57:0:0:1::2/64  ::1     ::1          fd57:0:0:2::2/64
//! ```

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::Deref,
    sync::Arc,
};

use anyhow::{Context, Result};

use crate::netns::Netns;

/// The router's number in every subnet.
const ROUTER: u8 = 1;
/// A host's number in its subnet.
const HOST: u8 = 2;

/// Hosts with a router between them.
#[derive(Debug)]
pub struct Lab {
    router: Netns,
    subnets: u8,
}

/// A host of a [`Lab`]: a namespace with one uplink, `eth0`.
#[derive(Debug)]
pub struct Host {
    netns: Arc<Netns>,
    subnet: u8,
}

/// A subnet of a [`Lab`] whose frames are read and written in this process.
pub struct Segment {
    subnet: u8,
    tap: Option<tun::Device>,
}

impl Lab {
    /// A router without hosts.
    pub fn new() -> Result<Self> {
        let router = Netns::new("router")?;
        router.sysctl("net/ipv4/ip_forward", "1")?;
        router.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        Ok(Self { router, subnets: 0 })
    }

    /// The router's namespace; its interface to subnet `n` is `net<n>`.
    pub fn router(&self) -> &Netns {
        &self.router
    }

    /// Adds a host in a subnet of its own, with default routes through the router.
    pub fn host(&mut self, name: &str) -> Result<Host> {
        let mut host = Host { netns: Arc::new(Netns::new(name)?), subnet: 0 };
        self.plug(&mut host)?;
        Ok(host)
    }

    /// Moves a host to a new subnet, as a laptop that changes networks: other addresses, the old ones gone.
    pub fn move_host(&mut self, host: &mut Host) -> Result<()> {
        host.ip("link del eth0")?;
        self.plug(host)
    }

    /// Adds a subnet without hosts, for an Ethernet [`Switch`](crate::ethernet::Switch) with whatever is behind it.
    pub fn segment(&mut self) -> Result<Segment> {
        self.subnets += 1;
        let subnet = self.subnets;
        let port = format!("net{subnet}");
        let mut settings = tun::Configuration::default();
        settings.tun_name(&port).layer(tun::Layer::L2);
        // Addresses and the like are given below, as to any other port.
        settings.platform_config(|platform| {
            platform.ensure_root_privileges(false);
        });
        let tap = self.router.enter(move || tun::create(&settings))?.context("cannot make a TAP device")?;
        set_up(&self.router, &port, subnet, ROUTER)?;
        Ok(Segment { subnet, tap: Some(tap) })
    }

    fn plug(&mut self, host: &mut Host) -> Result<()> {
        self.subnets += 1;
        let subnet = self.subnets;
        let port = format!("net{subnet}");
        self.router.ip(&format!("link add {port} type veth peer name eth0 netns {}", host.name()))?;
        set_up(&self.router, &port, subnet, ROUTER)?;
        set_up(&host.netns, "eth0", subnet, HOST)?;
        host.ip(&format!("route add default via {}", ipv4(subnet, ROUTER)))?;
        host.ip(&format!("-6 route add default via {}", ipv6(subnet, ROUTER)))?;
        host.subnet = subnet;
        Ok(())
    }
}

impl Host {
    /// Its namespace, for what lives in it and goes along when it moves.
    pub fn namespace(&self) -> Arc<Netns> {
        self.netns.clone()
    }

    /// Its IPv4 address on the lab's network.
    pub fn ipv4(&self) -> Ipv4Addr {
        ipv4(self.subnet, HOST)
    }

    /// Its IPv6 address on the lab's network.
    pub fn ipv6(&self) -> Ipv6Addr {
        ipv6(self.subnet, HOST)
    }

    /// Its address of one family.
    pub fn address(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.ipv4().into(),
            Family::V6 => self.ipv6().into(),
        }
    }

    /// The router's interface to this host.
    pub fn router_port(&self) -> String {
        format!("net{}", self.subnet)
    }
}

impl Segment {
    /// The router's address in this subnet.
    pub fn router_ipv4(&self) -> Ipv4Addr {
        ipv4(self.subnet, ROUTER)
    }

    /// The address of the station `number`, which is at least 2.
    pub fn ipv4(&self, number: u8) -> Ipv4Addr {
        ipv4(self.subnet, number)
    }

    /// The router's interface to this subnet.
    pub fn router_port(&self) -> String {
        format!("net{}", self.subnet)
    }

    /// The device that carries the subnet's frames, for whoever is its switch; there is one.
    pub(crate) fn take_tap(&mut self) -> Result<tun::Device> {
        self.tap.take().context("this subnet has a switch already")
    }
}

impl std::fmt::Debug for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Segment").field("port", &self.router_port()).finish_non_exhaustive()
    }
}

impl Deref for Host {
    type Target = Netns;

    fn deref(&self) -> &Netns {
        &self.netns
    }
}

/// An address family of the lab's network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Gives a device its addresses in a subnet and takes it up.
fn set_up(netns: &Netns, device: &str, subnet: u8, number: u8) -> Result<()> {
    // Without `nodad` an IPv6 address is not usable for its first second.
    netns.ip(&format!("addr add {}/24 dev {device}", ipv4(subnet, number)))?;
    netns.ip(&format!("addr add {}/64 dev {device} nodad", ipv6(subnet, number)))?;
    // One packet at a time, as on a wire: otherwise the kernel passes bundles of packets through.
    netns.ip(&format!("link set {device} gso_max_segs 1"))?;
    netns.ip(&format!("link set {device} up"))?;
    Ok(())
}

fn ipv4(subnet: u8, end: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, subnet, end)
}

fn ipv6(subnet: u8, end: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd57, 0, 0, subnet.into(), 0, 0, 0, end.into())
}
