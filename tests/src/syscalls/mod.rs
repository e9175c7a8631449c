//! Every file-system and network call of one deployment, and a `kill -9` after each of them.
//!
//! A fleet of real programs goes from release to release. In each deployment one daemon is killed after
//! its n-th call and started again, as a service manager would; then the promises are checked that
//! an operator and the application's users see. `cutover-syscalls` walks all n, a test some.

mod answers;
mod deployment;
mod promises;
mod table;
mod tracer;
mod walk;

pub use deployment::{Outcome, Point, Window};
pub use promises::{Broken, Promise};
pub use table::Table;
pub use tracer::can_trace;
pub use walk::{Walk, sample};
