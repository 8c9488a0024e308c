//! Tasks on one thread and a virtual clock.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Wake, Waker},
    time::Duration,
};

use embassy_time::MockDriver;

/// Time goes on in steps of this.
const STEP: Duration = Duration::from_millis(1);
/// A task that is woken more often without time passing never rests.
const MOST_POLLS: usize = 20_000;

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Task {
    group: &'static str,
    flag: Arc<Flag>,
    waker: Waker,
    future: Pin<Box<dyn Future<Output = ()>>>,
}

/// The tasks, in groups that can be ended.
#[derive(Clone, Default)]
pub(crate) struct Executor {
    tasks: Rc<RefCell<Vec<Task>>>,
    polls: Rc<RefCell<BTreeMap<&'static str, usize>>>,
}

impl Executor {
    pub(crate) fn spawn(&self, group: &'static str, future: impl Future<Output = ()> + 'static) {
        let flag = Arc::new(Flag(AtomicBool::new(true)));
        let waker = Waker::from(flag.clone());
        self.tasks.borrow_mut().push(Task { group, flag, waker, future: Box::pin(future) });
    }

    /// Ends the tasks of a group where they stand, as a power failure does.
    pub(crate) fn end(&self, group: &str) {
        self.tasks.borrow_mut().retain(|task| task.group != group);
    }

    /// How often the tasks of a group were polled.
    pub(crate) fn polls(&self, group: &str) -> usize {
        self.polls.borrow().get(group).copied().unwrap_or_default()
    }

    fn settle(&self) {
        let mut tasks = self.tasks.borrow_mut();
        for round in 0.. {
            assert!(round < MOST_POLLS, "some task never rests");
            let mut woken = false;
            let mut index = 0;
            while let Some(task) = tasks.get_mut(index) {
                index += 1;
                if task.flag.0.swap(false, Ordering::Relaxed) {
                    woken = true;
                    *self.polls.borrow_mut().entry(task.group).or_default() += 1;
                    let done = task.future.as_mut().poll(&mut Context::from_waker(&task.waker)).is_ready();
                    if done {
                        index -= 1;
                        drop(tasks.swap_remove(index));
                    }
                }
            }
            if !woken {
                return;
            }
        }
    }

    /// Lets time pass.
    pub(crate) fn run(&self, time: Duration) {
        self.run_until(time, || false);
    }

    /// Lets time pass until something is so, at most so long. How long it took; `None` where it never was.
    pub(crate) fn run_until(&self, most: Duration, so: impl Fn() -> bool) -> Option<Duration> {
        let mut passed = Duration::ZERO;
        loop {
            self.settle();
            if so() {
                return Some(passed);
            }
            if passed >= most {
                return None;
            }
            MockDriver::get().advance(embassy_time::Duration::from_micros(STEP.as_micros() as u64));
            passed += STEP;
        }
    }
}
