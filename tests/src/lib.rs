//! The harness of the live tests and of the benchmarks: real programs, real TLS, a real store.

pub mod bench;
pub mod live;
pub mod syscalls;
