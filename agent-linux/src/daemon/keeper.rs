//! Writes the node's files while the node goes on: off the data path, one at a time, the newest content only, and
//! again where the disk was full.

use std::{rc::Rc, sync::Arc, time::Duration};

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
    /// `Some(Ok)` is all written, `Some(Err)` the sentence of the last failure, `None` under way.
    progress: watch::Receiver<Option<Result<(), String>>>,
    writer: tokio::task::JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    pending: std::cell::RefCell<Pending>,
    wake: Notify,
    /// An attempt has ended.
    told: Notify,
}

impl Keeper {
    /// Starts to write into `directory`. Has to run inside a `LocalSet`.
    pub(super) fn start(directory: Arc<StateDirectory>) -> Self {
        let shared = Rc::new(Shared::default());
        let (tell, progress) = watch::channel(Some(Ok(())));
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
        self.shared.wake.notify_one();
    }

    /// The sentence of the last failure; none where everything is written or under way for the first time.
    pub(super) fn failure(&self) -> Option<String> {
        self.progress.borrow().as_ref().and_then(|result| result.as_ref().err().cloned())
    }

    /// Whether everything is on the disk.
    pub(super) fn is_idle(&self) -> bool {
        self.shared.pending.borrow().is_empty() && matches!(*self.progress.borrow(), Some(Ok(())))
    }

    /// Waits until an attempt to write has ended, well or badly, since the last time. Loses nothing where it is dropped.
    pub(super) async fn changed(&self) {
        self.shared.told.notified().await;
    }

    /// Waits until everything is on the disk, or the first attempt has failed.
    ///
    /// # Errors
    /// The sentence of the failure. The attempts go on.
    pub(super) async fn flush(&self) -> Result<(), String> {
        let mut progress = self.progress.clone();
        loop {
            // Whatever was asked for before this call is either pending or told by `progress`.
            let idle = self.shared.pending.borrow().is_empty();
            match &*progress.borrow_and_update() {
                Some(Ok(())) if idle => return Ok(()),
                Some(Err(sentence)) => return Err(sentence.clone()),
                Some(Ok(())) | None => {}
            }
            if progress.changed().await.is_err() {
                return Err("the state cannot be saved any more".into());
            }
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.writer.abort();
    }
}

async fn write_all(
    shared: Rc<Shared>,
    directory: Arc<StateDirectory>,
    tell: watch::Sender<Option<Result<(), String>>>,
) {
    let mut failing = false;
    loop {
        let pending = shared.pending.take();
        if pending.is_empty() {
            shared.wake.notified().await;
            continue;
        }
        if !failing {
            tell.send_replace(None);
        }
        let directory = Arc::clone(&directory);
        let written = tokio::task::spawn_blocking(move || write(&directory, pending)).await;
        let Ok((left, result)) = written else { return };
        let newer = shared.pending.take();
        *shared.pending.borrow_mut() = newer.or_older(left);
        failing = result.is_err();
        tell.send_replace(Some(result.map_err(|error| {
            tracing::warn!("{error}");
            format!("{error}; weft tries again every {} seconds", RETRY.as_secs())
        })));
        shared.told.notify_one();
        if failing {
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
            keeper.save(File::Identity, vec![2]);
            fs::remove_dir(&obstacle).unwrap();
            let mut progress = keeper.progress.clone();
            progress.wait_for(|progress| matches!(progress, Some(Ok(())))).await.unwrap();
            assert_eq!(directory.load(File::Identity).unwrap().unwrap().as_slice(), [2]);
            assert_eq!(keeper.failure(), None);
        });
    }
}
