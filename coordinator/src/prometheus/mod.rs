//! Asks Prometheus servers for the checks of canaries: those that an administrator has named, and
//! no others.
//!
//! Every question is bounded: its time, the bytes of its answer, and how many are under way. A
//! redirect is not followed, as it may lead to anybody.

mod answer;
mod ask;
mod source;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use cutover_common::SourceName;
use cutover_coordinator_core::input::MetricAnswer;
use tokio::{sync::Semaphore, time::timeout};

pub use self::source::{BadSource, NamedFile, Source, SourceFlags};

/// How many questions are under way at a time. A dashboard asks as many; more would make this
/// coordinator the load that it looks for.
const PARALLEL_MAX: usize = 8;

/// The servers that may be asked.
#[derive(Clone)]
pub struct Asker {
    sources: Arc<BTreeMap<SourceName, Source>>,
    permits: Arc<Semaphore>,
}

impl Default for Asker {
    fn default() -> Self {
        Self::new(BTreeMap::new())
    }
}

impl Asker {
    /// Makes one that asks these.
    pub fn new(sources: BTreeMap<SourceName, Source>) -> Self {
        Self { sources: Arc::new(sources), permits: Arc::new(Semaphore::new(PARALLEL_MAX)) }
    }

    /// Returns their names.
    pub fn names(&self) -> BTreeSet<SourceName> {
        self.sources.keys().cloned().collect()
    }

    /// Asks `source`. What goes wrong is an answer, too.
    pub(crate) async fn ask(
        self,
        source: SourceName,
        query: String,
        within: Duration,
    ) -> MetricAnswer {
        let Some(server) = self.sources.get(&source) else {
            let why = format!("this coordinator was not told of a source of metrics {source}");
            return MetricAnswer::Failed(why);
        };
        // Whoever waits for the others loses his own time.
        let asked = async {
            let _permit = self.permits.acquire().await;
            ask::ask(server, &query, within).await
        };
        let answer = timeout(within, asked).await;
        answer.unwrap_or_else(|_| MetricAnswer::Failed(format!("no answer within {within:?}")))
    }
}
