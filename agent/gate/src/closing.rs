//! When clients are let go of.

use tokio::sync::watch;

/// Whether a service's clients are let go of.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Closing {
    /// They stay.
    #[default]
    No,
    /// Somebody else accepts them. A connection ends with its next answer, which says so: nobody
    /// sends a request into one that is just being closed.
    AtNextChance,
    /// Nobody else is there. A connection ends after what it is at, and at once if that is nothing.
    Now,
}

/// Returns what is next after `now`. It is [`Closing::Now`] when nobody is there to say more.
pub(crate) async fn after(now: Closing, closing: &mut watch::Receiver<Closing>) -> Closing {
    let changed = closing.wait_for(|closing| *closing != now).await;
    changed.map_or(Closing::Now, |closing| *closing)
}
