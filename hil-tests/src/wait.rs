//! Waiting for a condition, with a deadline and a sentence that says what was waited for.
//!
//! Conditions of other processes cannot be subscribed to, so they are looked at every [`INTERVAL`].

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

/// How often a condition is looked at.
pub const INTERVAL: Duration = Duration::from_millis(20);

/// Waits until `condition` holds; fails with `what` when it does not within `limit`.
pub fn until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) -> Result<()> {
    for_some(what, limit, || condition().then_some(()))
}

/// Waits until `probe` has a value; fails with `what` when it has none within `limit`.
pub fn for_some<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Result<T> {
    for_ok(what, limit, || probe().ok_or_else(|| anyhow!("the condition does not hold")))
}

/// Waits until `probe` succeeds; fails with `what` and the last error when it does not within `limit`.
///
/// `probe` is called at least twice: at once, and once more when the time is over.
pub fn for_ok<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Result<T>) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        let last_look = Instant::now() >= end;
        match probe() {
            Ok(value) => return Ok(value),
            Err(error) if last_look => {
                return Err(error).with_context(|| format!("waited {limit:?} in vain for: {what}"));
            }
            Err(_) => std::thread::sleep(INTERVAL),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_never_holds_fails_with_its_sentence() {
        let error = until("the moon to be blue", Duration::from_millis(1), || false).unwrap_err();
        assert!(error.to_string().contains("the moon to be blue"), "{error}");
    }

    #[test]
    fn a_condition_is_looked_at_again() {
        let mut looks = 0;
        let seen = for_some("the third look", Duration::from_secs(60), || {
            looks += 1;
            (looks == 3).then_some(looks)
        });
        assert_eq!(seen.unwrap(), 3);
    }
}
