//! Runs code that may panic, and turns the panic into its message.
//!
//! sled panics on some damaged files; an operator should read a sentence and not a backtrace.

use std::{
    any::Any,
    cell::Cell,
    panic::{self, AssertUnwindSafe},
    sync::Once,
};

thread_local! {
    /// Whether panics of this thread are caught by [`caught`] and told by its caller.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// The hook is chained only once; it asks [`QUIET`] each time.
static HOOK: Once = Once::new();

/// Calls `run` and returns its value, or the message of its panic, which is not printed.
///
/// Whatever `run` was working on must not be used again after a panic: the callers drop or poison it.
pub(super) fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    HOOK.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                previous(panic);
            }
        }));
    });
    let outer = QUIET.replace(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(run));
    QUIET.set(outer);
    outcome.map_err(|payload| message(&*payload))
}

fn message(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "it panicked without a message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::caught;

    #[test]
    fn a_panic_becomes_its_message_and_a_value_stays_itself() {
        let number = 3;

        assert_eq!(caught(|| number), Ok(3));
        assert_eq!(
            caught(|| -> u8 { panic!("broken page {number}") }),
            Err("broken page 3".to_owned())
        );
        assert_eq!(caught(|| -> u8 { panic!("broken page") }), Err("broken page".to_owned()));
    }
}
