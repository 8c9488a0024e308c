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

use anyhow::Result;

use crate::netns::Netns;

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

    fn plug(&mut self, host: &mut Host) -> Result<()> {
        self.subnets += 1;
        let subnet = self.subnets;
        let port = format!("net{subnet}");
        self.router.ip(&format!("link add {port} type veth peer name eth0 netns {}", host.name()))?;
        for (netns, device, end) in [(&self.router, port.as_str(), 1), (&*host.netns, "eth0", 2)] {
            // Without `nodad` an IPv6 address is not usable for its first second.
            netns.ip(&format!("addr add {}/24 dev {device}", ipv4(subnet, end)))?;
            netns.ip(&format!("addr add {}/64 dev {device} nodad", ipv6(subnet, end)))?;
            // One packet at a time, as on a wire: otherwise the kernel passes bundles of packets through.
            netns.ip(&format!("link set {device} gso_max_segs 1"))?;
            netns.ip(&format!("link set {device} up"))?;
        }
        host.ip(&format!("route add default via {}", ipv4(subnet, 1)))?;
        host.ip(&format!("-6 route add default via {}", ipv6(subnet, 1)))?;
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
        ipv4(self.subnet, 2)
    }

    /// Its IPv6 address on the lab's network.
    pub fn ipv6(&self) -> Ipv6Addr {
        ipv6(self.subnet, 2)
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

fn ipv4(subnet: u8, end: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, subnet, end)
}

fn ipv6(subnet: u8, end: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd57, 0, 0, subnet.into(), 0, 0, 0, end.into())
}
