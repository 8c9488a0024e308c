//! How many connections there may be that have not proven who they are.
//!
//! There is room for a fixed number. When it is used up, whoever has been there longest without getting anywhere, of the
//! source that has the most, makes room; where even that one is young, newcomers wait in the kernel's queue. So a
//! flood of half-open connections costs a bounded amount of memory and delays others by about
//! [`PATIENCE`], while a burst of honest nodes behind one address is only queued.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

/// How long a connection may take without being asked to make room.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// How many make room at once where the process itself has none left.
const AT_ONCE: usize = 64;

/// The room for connections that have not proven who they are.
#[derive(Debug)]
pub struct Admission {
    capacity: usize,
    waiting: Mutex<Waiting>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    slots: BTreeMap<u64, (Source, Instant, Arc<Notify>)>,
    by_source: HashMap<Source, usize>,
}

/// Who a connection counts for: an IPv4 address or an IPv6 /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Source(u64);

impl Source {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self(v4.to_bits().into()),
            IpAddr::V6(v6) => Self((v6.to_bits() >> 64) as u64),
        }
    }
}

/// The room of one connection, free again when dropped.
#[derive(Debug)]
pub struct Slot {
    admission: Arc<Admission>,
    number: u64,
    evicted: Arc<Notify>,
}

impl Slot {
    /// Waits until this connection has to make room.
    pub async fn evicted(&self) {
        self.evicted.notified().await;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.admission.lock().remove(self.number);
        self.admission.freed.notify_one();
    }
}

impl Admission {
    /// Room for `capacity` connections.
    pub fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self { capacity, waiting: Mutex::default(), freed: Notify::new() })
    }

    /// Waits for room for a connection from `source`.
    pub async fn admit(self: &Arc<Self>, source: IpAddr) -> Slot {
        loop {
            let retry = {
                let mut waiting = self.lock();
                let now = Instant::now();
                if waiting.slots.len() >= self.capacity {
                    waiting.evict(now);
                }
                if waiting.slots.len() < self.capacity {
                    let (number, evicted) = waiting.insert(Source::of(source), now);
                    return Slot { admission: self.clone(), number, evicted };
                }
                now + PATIENCE / 20
            };
            tokio::select! {
                () = self.freed.notified() => {}
                () = tokio::time::sleep_until(retry) => {}
            }
        }
    }

    /// Asks some that have been there longest to make room: a connection could not even be taken, since the process has
    /// no descriptors or no memory left.
    pub fn make_room(&self) {
        let mut waiting = self.lock();
        let now = Instant::now();
        for _ in 0..AT_ONCE {
            waiting.evict(now);
        }
    }

    /// How many connections have room now.
    pub fn count(&self) -> usize {
        self.lock().slots.len()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn insert(&mut self, source: Source, now: Instant) -> (u64, Arc<Notify>) {
        let number = self.next;
        self.next += 1;
        let evicted = Arc::new(Notify::new());
        self.slots.insert(number, (source, now, evicted.clone()));
        *self.by_source.entry(source).or_default() += 1;
        (number, evicted)
    }

    fn remove(&mut self, number: u64) {
        let Some((source, ..)) = self.slots.remove(&number) else { return };
        if let Some(count) = self.by_source.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.by_source.remove(&source);
            }
        }
    }

    /// Asks one connection to make room, and counts its room as free.
    fn evict(&mut self, now: Instant) {
        let heaviest = self.by_source.iter().max_by_key(|(_, count)| **count).map(|(source, _)| *source);
        let oldest = self.slots.iter().find(|(_, (source, ..))| Some(*source) == heaviest);
        if let Some((&number, (_, since, evicted))) = oldest
            && now.saturating_duration_since(*since) >= PATIENCE
        {
            // Whoever waits now, and whoever takes the connection over a moment later.
            evicted.notify_waiters();
            evicted.notify_one();
            self.remove(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ATTACKER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const NODE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    #[tokio::test(start_paused = true)]
    async fn the_oldest_of_the_heaviest_source_makes_room() {
        let admission = Admission::new(4);
        let node = admission.admit(NODE).await;
        let mut flood = Vec::new();
        for _ in 0..3 {
            flood.push(admission.admit(ATTACKER).await);
        }
        let began = Instant::now();
        let newcomer = admission.admit(NODE).await;
        assert!(began.elapsed() >= PATIENCE && began.elapsed() < PATIENCE * 2);
        flood[0].evicted().await;
        assert!(tokio::time::timeout(PATIENCE, node.evicted()).await.is_err(), "the honest node stays");
        drop((newcomer, flood, node));
        assert_eq!(admission.count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn where_the_process_has_no_room_the_oldest_make_some() {
        let admission = Admission::new(1_000);
        let mut flood = Vec::new();
        for _ in 0..AT_ONCE + 1 {
            flood.push(admission.admit(ATTACKER).await);
        }
        admission.make_room();
        assert_eq!(admission.count(), AT_ONCE + 1, "all of them are young");
        tokio::time::sleep(PATIENCE).await;
        admission.make_room();
        assert_eq!(admission.count(), 1);
        flood[AT_ONCE - 1].evicted().await;
        assert!(tokio::time::timeout(PATIENCE, flood[AT_ONCE].evicted()).await.is_err(), "the youngest stays");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_done_makes_room_at_once() {
        let admission = Admission::new(1);
        let first = admission.admit(NODE).await;
        let waiting = tokio::spawn({
            let admission = admission.clone();
            async move { admission.admit(NODE).await }
        });
        tokio::task::yield_now().await;
        let began = Instant::now();
        drop(first);
        waiting.await.unwrap();
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
