//! What the node has of this machine while it is up: the TUN device, the UDP sockets, addresses and routes. All of it
//! goes when this is dropped.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    rc::Rc,
};

use crate::{
    datapath::DataPath,
    host::{
        HostView,
        endpoints::local_endpoints,
        is_mesh_address,
        netlink::Netlink,
        routes::{Mesh, Plan, plan},
    },
    tun_device::TunDevice,
    udp::UdpSockets,
};

/// Addresses of the network below inside the mesh's ranges that are remembered at most.
const MAX_UNDERLAY: usize = 64;

/// The node's part of this machine.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) path: DataPath,
    mtu: u16,
    plan: Plan,
    set_up_for: Option<Vec<IpAddr>>,
    underlay: Vec<IpAddr>,
}

/// The host's network was looked at, and the device set up for it.
#[derive(Debug)]
pub(super) struct Refreshed {
    pub(super) host: HostView,
    pub(super) plan: Plan,
    own: Vec<IpAddr>,
    pub(super) result: io::Result<()>,
}

impl Wire {
    /// Makes the device `name` and binds `port`, or a free one where that is in use.
    ///
    /// # Errors
    /// The system's word, with what could not be done.
    pub(super) fn open(name: &str, port: u16, mtu: u16) -> Result<Self, (io::Error, String)> {
        let tun = TunDevice::create(name, mtu).map_err(|error| {
            let what = "cannot make the network device";
            (error, format!("{what} {name} (it needs root or CAP_NET_ADMIN, /dev/net/tun, and a name that is free)"))
        })?;
        let sockets = UdpSockets::bind(port, 0)
            .or_else(|error| match error.kind() {
                io::ErrorKind::AddrInUse => {
                    tracing::info!("UDP port {port} is in use; another one is taken");
                    UdpSockets::bind(0, 0)
                }
                _ => Err(error),
            })
            .map_err(|error| (error, format!("cannot use UDP port {port}")))?;
        let mut path = DataPath::new(tun, usize::from(mtu));
        path.set_sockets(Some(sockets));
        Ok(Self { path, mtu, plan: Plan::default(), set_up_for: None, underlay: Vec::new() })
    }

    /// The UDP port.
    pub(super) fn port(&self) -> u16 {
        self.path.sockets().map_or(0, UdpSockets::port)
    }

    /// Whether somebody deleted the device.
    pub(super) fn is_gone(&self, host: &HostView) -> bool {
        let device = self.path.tun().index();
        // Every host has a loopback interface; where there is none, the kernel could not be asked.
        !host.interfaces.is_empty() && host.interfaces.iter().all(|interface| interface.index != device)
    }

    /// Whether addresses of single peers decide about routes.
    pub(super) const fn depends_on_peers(&self) -> bool {
        self.plan.by_peer
    }

    /// Whether the device has been set up for a node with these addresses.
    pub(super) fn is_set_up_for(&self, addresses: impl Iterator<Item = IpAddr>) -> bool {
        self.set_up_for.as_ref().is_some_and(|own| own.iter().copied().eq(addresses))
    }

    /// Whether packets to `address` go into the mesh.
    pub(super) fn routes(&self, address: IpAddr) -> bool {
        self.plan.routes.iter().any(|route| route.contains(address))
    }

    /// Remembers an address that the node sends to and that is inside the mesh's ranges. True where it is new.
    pub(super) fn note_underlay(&mut self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        if !is_mesh_address(address) || self.underlay.contains(&address) {
            return false;
        }
        if self.underlay.len() >= MAX_UNDERLAY {
            self.underlay.remove(0);
        }
        self.underlay.push(address);
        true
    }

    /// Looks at the host and sets the device up for `mesh`.
    pub(super) fn refresh(&self, netlink: &Rc<Netlink>, mut mesh: Mesh) -> Pin<Box<dyn Future<Output = Refreshed>>> {
        let (netlink, device, mtu) = (Rc::clone(netlink), self.path.tun().index(), self.mtu);
        mesh.underlay.clone_from(&self.underlay);
        Box::pin(async move {
            let up = netlink.bring_up(device, mtu).await;
            match netlink.view().await {
                Ok(host) => {
                    let plan = plan(&host, device, &mesh);
                    let applied = netlink.apply(device, &plan).await;
                    Refreshed { host, plan, own: mesh.own, result: up.and(applied) }
                }
                Err(error) => Refreshed {
                    host: HostView::default(),
                    plan: Plan::default(),
                    own: mesh.own,
                    result: up.and(Err(error)),
                },
            }
        })
    }

    /// Takes over what a refresh found; returns this node's own endpoints.
    pub(super) fn take(&mut self, refreshed: Refreshed) -> Vec<SocketAddr> {
        self.plan = refreshed.plan;
        self.set_up_for = Some(refreshed.own);
        local_endpoints(&refreshed.host, self.path.tun().index(), self.port())
    }
}

/// Waits until packets can be moved; for ever where the node is down.
pub(super) async fn ready(wire: Option<&Wire>) -> io::Result<()> {
    match wire {
        Some(wire) => wire.path.ready().await,
        None => std::future::pending().await,
    }
}

/// Waits for a refresh to end; for ever where none runs.
pub(super) async fn refreshed(refresh: Option<&mut Pin<Box<dyn Future<Output = Refreshed>>>>) -> Refreshed {
    match refresh {
        Some(refresh) => refresh.await,
        None => std::future::pending().await,
    }
}
