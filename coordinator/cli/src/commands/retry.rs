//! Trying again after a lost connection: for calls that may be repeated, a few times.

use std::{future::Future, time::Duration};

use cutover_common::Backoff;
use cutover_runtime::dice;

use crate::{
    failure::{Failure, Kind},
    render::console::Console,
};

/// What is said, once, when the coordinator goes away.
pub(super) const LOST: &str = "lost the coordinator, trying again…";

/// How long to wait before the next try. A coordinator that is restarted is back within
/// seconds; after the fifth failure about ten have passed, and somebody waits for an answer.
pub(super) const BACKOFF: Backoff =
    Backoff { first: Duration::from_millis(500), longest: Duration::from_secs(5) };

/// After how many failures in a row a call is given up.
pub(super) const FAILURES_MAX: u32 = 5;

/// Makes a call that may be repeated until the coordinator answers it, whatever the answer is.
///
/// # Errors
///
/// What the coordinator answered, or that it did not after [`FAILURES_MAX`] tries.
pub(super) async fn until_answered<T, F>(
    console: Console,
    mut call: impl FnMut() -> F,
) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    let mut failures = 0;
    loop {
        match call().await {
            Err(failure) if failure.kind() == Kind::NotReachable => {
                failures += 1;
                if failures == FAILURES_MAX {
                    return Err(failure);
                }
                if failures == 1 {
                    console.progress(LOST);
                }
                tokio::time::sleep(BACKOFF.after(failures, dice::jitter())).await;
            }
            answer => return answer,
        }
    }
}
