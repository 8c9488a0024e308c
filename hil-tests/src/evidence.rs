//! What a failing test prints beside its reason: the logs and captures of what it started.
//!
//! Whoever has something to show registers it when it is made. It is asked only where the test on the same thread fails,
//! after everything that the test held is gone.

use std::cell::RefCell;

/// What is asked for its text when a test fails.
type Witness = Box<dyn Fn() -> String>;

thread_local! {
    static WITNESSES: RefCell<Vec<Witness>> = const { RefCell::new(Vec::new()) };
}

/// Registers what the test on this thread shows when it fails.
pub(crate) fn register(witness: impl Fn() -> String + 'static) {
    WITNESSES.with_borrow_mut(|witnesses| witnesses.push(Box::new(witness)));
}

/// Forgets what an earlier test on this thread registered.
pub(crate) fn forget() {
    WITNESSES.with_borrow_mut(Vec::clear);
}

/// Everything that the test on this thread has to show.
pub(crate) fn text() -> String {
    WITNESSES.with_borrow(|witnesses| witnesses.iter().map(|witness| witness()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_forgotten_is_not_shown() {
        register(|| "old ".into());
        forget();
        register(|| "one ".into());
        register(|| "two ".into());
        assert_eq!(text(), "one two ");
    }
}
