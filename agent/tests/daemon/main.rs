//! The real program against a coordinator's side made of the same parts as the real one: over
//! mutual TLS, with processes of its own, killed wherever it hurts.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test, which clippy sees only inside of test functions"
)]

mod command_line;
mod coordinator;
mod crashes;
mod deploys;
mod hooks;
mod host;
mod routes;
