//! The gate beside nginx and HAProxy: in turns, in front of the same server.

use anyhow::Result;
use tokio::runtime::Runtime;

use crate::bench::{Sizes, figures::Report};

pub(in crate::bench) fn measure(
    _sizes: &Sizes,
    _runtime: &Runtime,
    _report: &mut Report,
    _progress: &mut impl FnMut(&str),
) -> Result<()> {
    Ok(())
}
