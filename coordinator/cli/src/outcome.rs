//! How a command ended that was carried out; `failure` is for those that were not.

/// How a command ended that did what it could.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    Done,
    /// The rollout that was waited for ended otherwise than its operator wanted.
    RolloutFailed,
    /// The rollout that was waited for could not begin when its turn came.
    Refused,
    /// Ctrl-C ended the waiting; the rollout goes on.
    Interrupted,
}
