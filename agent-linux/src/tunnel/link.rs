//! What becomes of the network device: up, down, deleted, moved to another network namespace.

use std::{io, time::Duration};

use futures_util::StreamExt as _;
use rtnetlink::{
    MulticastGroup,
    packet_core::{NetlinkMessage, NetlinkPayload},
    packet_route::RouteNetlinkMessage,
};
use tokio::{sync::mpsc, task::JoinHandle};

/// How often a device is looked at that lives in another namespace, where no event of it is heard.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Tells when the state of one device may have changed; the state itself is asked of the device.
#[derive(Debug)]
pub(super) struct LinkMonitor {
    events: mpsc::Receiver<Event>,
    elsewhere: bool,
    task: JoinHandle<()>,
}

#[derive(Debug)]
enum Event {
    Changed,
    /// Deleted, or moved to another namespace, which looks the same.
    Left,
}

impl LinkMonitor {
    /// Watches the device with interface number `index` in this network namespace. Call it inside a tokio runtime.
    pub(super) fn new(index: u32) -> io::Result<Self> {
        let (connection, _handle, mut messages) = rtnetlink::new_multicast_connection(&[MulticastGroup::Link])?;
        // Where one event waits to be looked at, another says nothing new.
        let (sender, events) = mpsc::channel(1);
        let connection = tokio::spawn(connection);
        let task = tokio::spawn(async move {
            while let Some((message, _)) = messages.next().await {
                match event(&message, index) {
                    Some(Event::Left) if sender.send(Event::Left).await.is_err() => break,
                    Some(Event::Changed) => drop(sender.try_send(Event::Changed)),
                    _ => {}
                }
            }
            connection.abort();
        });
        Ok(Self { events, elsewhere: false, task })
    }

    /// Waits until the device may have changed. Loses nothing where it is dropped.
    pub(super) async fn changed(&mut self) {
        if self.elsewhere {
            tokio::time::sleep(LOOK_INTERVAL).await;
            return;
        }
        match self.events.recv().await {
            Some(Event::Changed) => {}
            // Without events, looking is what is left.
            Some(Event::Left) | None => self.elsewhere = true,
        }
    }
}

impl Drop for LinkMonitor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn event(message: &NetlinkMessage<RouteNetlinkMessage>, index: u32) -> Option<Event> {
    match &message.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) if link.header.index == index => {
            Some(Event::Changed)
        }
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link)) if link.header.index == index => {
            Some(Event::Left)
        }
        // The kernel dropped events: one of them may have been ours.
        NetlinkPayload::Overrun(_) => Some(Event::Changed),
        _ => None,
    }
}
