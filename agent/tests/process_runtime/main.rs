//! The `process` runtime with real shims and real processes.
//!
//! Instances are shell scripts. Whatever a test starts is stopped through the runtime at its end,
//! and by the token of its instance if the test fails.

mod adopt;
mod hook;
mod shim;
mod start;
mod stop;
mod support;
mod vitals;
