//! Writes the node's files while the node goes on: off the data path, one at a time, the newest content only, and
//! again where the disk was full.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use tokio::sync::{Notify, watch};
use zeroize::Zeroizing;

use crate::state::{File, Prefs, SaveError, StateDirectory};

/// Between two attempts on a disk that refuses.
const RETRY: Duration = Duration::from_secs(10);

/// What is to become of the files; `None` leaves one as it is.
#[derive(Debug, Default)]
struct Pending {
    files: [Option<Change>; File::ALL.len()],
    prefs: Option<Prefs>,
}

#[derive(Debug)]
enum Change {
    Replace(Zeroizing<Vec<u8>>),
    Remove,
}

impl Pending {
    fn file(file: File, change: Change) -> Self {
        let mut pending = Self::default();
        if let Some((place, _)) = pending.files.iter_mut().zip(File::ALL).find(|(_, each)| *each == file) {
            *place = Some(change);
        }
        pending
    }

    fn has(&self, file: File) -> bool {
        self.files.iter().zip(File::ALL).any(|(change, each)| each == file && change.is_some())
    }

    fn is_empty(&self) -> bool {
        self.files.iter().all(Option::is_none) && self.prefs.is_none()
    }

    /// What came later wins.
    fn or_older(mut self, older: Self) -> Self {
        for (newer, older) in self.files.iter_mut().zip(older.files) {
            *newer = newer.take().or(older);
        }
        Self { files: self.files, prefs: self.prefs.or(older.prefs) }
    }
}

/// The way to the disk.
#[derive(Debug)]
pub(super) struct Keeper {
    shared: Rc<Shared>,
    progress: watch::Receiver<Progress>,
    writer: tokio::task::JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    pending: RefCell<Pending>,
    /// How many changes were asked for.
    asked: Cell<u64>,
    /// The number of the last change of the identity.
    identity_asked: Cell<u64>,
    wake: Notify,
    /// An attempt has ended.
    told: Notify,
}

/// How the last attempt to write ended.
#[derive(Clone, Debug, Default)]
struct Progress {
    /// How many changes had been asked for when it began.
    asked: u64,
    /// Changes of the identity up to this number are on the disk.
    identity: u64,
    /// The sentence of its failure.
    failure: Option<String>,
}

impl Keeper {
    /// Starts to write into `directory`. Has to run inside a `LocalSet`.
    pub(super) fn start(directory: Arc<StateDirectory>) -> Self {
        let shared = Rc::new(Shared::default());
        let (tell, progress) = watch::channel(Progress::default());
        let writer = tokio::task::spawn_local(write_all(Rc::clone(&shared), directory, tell));
        Self { shared, progress, writer }
    }

    pub(super) fn save(&self, file: File, body: impl Into<Zeroizing<Vec<u8>>>) {
        self.change(Pending::file(file, Change::Replace(body.into())));
    }

    pub(super) fn save_prefs(&self, prefs: &Prefs) {
        self.change(Pending { prefs: Some(prefs.clone()), ..Pending::default() });
    }

    /// Forgets everything but the preferences.
    pub(super) fn forget(&self) {
        File::ALL.into_iter().for_each(|file| self.change(Pending::file(file, Change::Remove)));
    }

    fn change(&self, change: Pending) {
        let mut pending = self.shared.pending.borrow_mut();
        *pending = change.or_older(std::mem::take(&mut pending));
        self.shared.asked.set(self.shared.asked.get() + 1);
        if pending.has(File::Identity) {
            self.shared.identity_asked.set(self.shared.asked.get());
        }
        self.shared.wake.notify_one();
    }

    /// The sentence of the last attempt's failure.
    pub(super) fn failure(&self) -> Option<String> {
        self.progress.borrow().failure.clone()
    }

    /// Whether the last identity is on the disk, whatever became of the rest.
    pub(super) fn has_identity(&self) -> bool {
        self.progress.borrow().identity >= self.shared.identity_asked.get()
    }

    /// Waits until an attempt to write has ended, well or badly, since the last time. Loses nothing where it is dropped.
    pub(super) async fn changed(&self) {
        self.shared.told.notified().await;
    }

    /// Waits until everything that was asked for is on the disk, or an attempt at it has failed.
    ///
    /// # Errors
    /// The sentence of the failure. The attempts go on.
    pub(super) async fn flush(&self) -> Result<(), String> {
        let asked = self.shared.asked.get();
        let mut progress = self.progress.clone();
        match progress.wait_for(|progress| progress.asked >= asked).await {
            Ok(progress) => progress.failure.clone().map_or(Ok(()), Err),
            Err(_) => Err("the state cannot be saved any more".into()),
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.writer.abort();
    }
}

async fn write_all(shared: Rc<Shared>, directory: Arc<StateDirectory>, tell: watch::Sender<Progress>) {
    loop {
        let (pending, asked) = (shared.pending.take(), shared.asked.get());
        if pending.is_empty() {
            shared.wake.notified().await;
            continue;
        }
        let directory = Arc::clone(&directory);
        let written = tokio::task::spawn_blocking(move || write(&directory, pending)).await;
        let Ok((left, result)) = written else { return };
        let identity = if left.has(File::Identity) { tell.borrow().identity } else { asked };
        let newer = shared.pending.take();
        *shared.pending.borrow_mut() = newer.or_older(left);
        let failure = result.err().map(|error| {
            tracing::warn!("{error}");
            format!("{error}; weft tries again every {} seconds", RETRY.as_secs())
        });
        let failed = failure.is_some();
        tell.send_replace(Progress { asked, identity, failure });
        shared.told.notify_one();
        if failed {
            // Whoever asks for something new has a reason to believe in the disk.
            let _ = tokio::time::timeout(RETRY, shared.wake.notified()).await;
        }
    }
}

/// Writes what it can; returns what is left, with the first failure.
fn write(directory: &StateDirectory, mut pending: Pending) -> (Pending, Result<(), SaveError>) {
    let mut result = Ok(());
    let mut note = |written: Result<(), SaveError>| match written {
        Ok(()) => true,
        Err(error) => {
            if result.is_ok() {
                result = Err(error);
            }
            false
        }
    };
    for (place, file) in pending.files.iter_mut().zip(File::ALL) {
        let written = match place {
            Some(Change::Replace(body)) => directory.save(file, body),
            Some(Change::Remove) => directory.remove(file),
            None => continue,
        };
        if note(written) {
            *place = None;
        }
    }
    if let Some(prefs) = &pending.prefs
        && note(directory.save_prefs(prefs))
    {
        pending.prefs = None;
    }
    (pending, result)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio::task::LocalSet;

    use super::*;

    fn run<T>(test: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        LocalSet::new().block_on(&runtime, test)
    }

    #[test]
    fn the_newest_content_is_written() {
        run(async {
            let temporary = tempfile::tempdir().unwrap();
            let directory = Arc::new(StateDirectory::open(temporary.path()).unwrap());
            let keeper = Keeper::start(Arc::clone(&directory));
            keeper.flush().await.unwrap();
            for version in 0..10 {
                keeper.save(File::Netmap, vec![version]);
            }
            keeper.save(File::Identity, vec![1]);
            keeper.flush().await.unwrap();
            assert_eq!(directory.load(File::Netmap).unwrap().unwrap().as_slice(), [9]);
            assert_eq!(directory.load(File::Identity).unwrap().unwrap().as_slice(), [1]);
            keeper.forget();
            keeper.flush().await.unwrap();
            assert!(directory.load(File::Identity).unwrap().is_none());
        });
    }

    #[test]
    fn a_disk_that_refuses_is_told_and_tried_again() {
        run(async {
            let temporary = tempfile::tempdir().unwrap();
            let directory = Arc::new(StateDirectory::open(temporary.path()).unwrap());
            let keeper = Keeper::start(Arc::clone(&directory));
            let obstacle = temporary.path().join("identity.new");
            fs::create_dir(&obstacle).unwrap();
            keeper.save(File::Identity, vec![1]);
            assert!(keeper.flush().await.unwrap_err().contains("tries again"));
            assert!(keeper.failure().is_some());
            assert!(!keeper.has_identity());
            fs::remove_dir(&obstacle).unwrap();
            let mut progress = keeper.progress.clone();
            progress.wait_for(|progress| progress.failure.is_none()).await.unwrap();
            assert_eq!(directory.load(File::Identity).unwrap().unwrap().as_slice(), [1]);
            fs::create_dir(&obstacle).unwrap();
            keeper.save(File::Identity, vec![2]);
            assert!(keeper.flush().await.is_err(), "an earlier success is no answer");
            fs::remove_dir(&obstacle).unwrap();
            keeper.save(File::Netmap, vec![]);
            keeper.flush().await.expect("an earlier failure is no answer");
            fs::create_dir(temporary.path().join("netmap.new")).unwrap();
            keeper.save(File::Identity, vec![3]);
            keeper.save(File::Netmap, vec![]);
            assert!(keeper.flush().await.is_err());
            assert!(keeper.has_identity(), "a netmap that cannot be kept does not hold up a new key");
            fs::remove_dir(temporary.path().join("netmap.new")).unwrap();
            keeper.save(File::Identity, vec![2]);
            keeper.flush().await.unwrap();
            assert_eq!(directory.load(File::Identity).unwrap().unwrap().as_slice(), [2]);
            assert_eq!(keeper.failure(), None);
        });
    }
}
