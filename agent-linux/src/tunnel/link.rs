//! What becomes of the network device: up, down, another MTU, deleted, moved to another network namespace.

use std::{io, time::Duration};

use futures_util::StreamExt as _;
use rtnetlink::{
    MulticastGroup,
    packet_core::{NetlinkMessage, NetlinkPayload},
    packet_route::{RouteNetlinkMessage, link::LinkAttribute},
};
use tokio::{sync::watch, task::JoinHandle};

/// How often a device is looked at that lives in another namespace, where no event of it is heard.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Tells when the state of one device may have changed. Whether it is up is asked of the device itself.
#[derive(Debug)]
pub(super) struct LinkMonitor {
    state: watch::Receiver<State>,
    task: JoinHandle<()>,
}

/// What the last event said.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    mtu: Option<u32>,
    /// Deleted, or moved to another namespace, which looks the same.
    left: bool,
}

impl LinkMonitor {
    /// Watches the device with interface number `index` in this network namespace. Call it inside a tokio runtime.
    pub(super) fn new(index: u32) -> io::Result<Self> {
        let (connection, _handle, mut messages) = rtnetlink::new_multicast_connection(&[MulticastGroup::Link])?;
        let (sender, state) = watch::channel(State::default());
        let connection = tokio::spawn(connection);
        let task = tokio::spawn(async move {
            while let Some((message, _)) = messages.next().await {
                sender.send_if_modified(|state| follow(state, &message, index));
            }
            connection.abort();
        });
        Ok(Self { state, task })
    }

    /// Waits until the device may have changed. Loses nothing where it is dropped.
    pub(super) async fn changed(&mut self) {
        let left = self.state.borrow().left;
        // Without events, looking is what is left.
        if left || self.state.changed().await.is_err() {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// The MTU in bytes, as the last event told it.
    pub(super) fn mtu(&self) -> Option<u32> {
        self.state.borrow().mtu
    }
}

impl Drop for LinkMonitor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Takes an event in; false where it is none of this device.
fn follow(state: &mut State, message: &NetlinkMessage<RouteNetlinkMessage>, index: u32) -> bool {
    match &message.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) if link.header.index == index => {
            let mtu = link.attributes.iter().find_map(|attribute| match attribute {
                LinkAttribute::Mtu(mtu) => Some(*mtu),
                _ => None,
            });
            state.mtu = mtu.or(state.mtu);
            true
        }
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link)) if link.header.index == index => {
            state.left = true;
            true
        }
        // The kernel dropped events: one of them may have been of this device.
        NetlinkPayload::Overrun(_) => true,
        _ => false,
    }
}
