//! Shards: one thread for each core, each with a runtime, connections and a share of all clients
//! of its own, so that nothing is handed from core to core.

use std::{
    io,
    net::TcpListener as StdListener,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};

use crate::{
    closing::{self, Closing},
    http,
    live::Live,
    program::Protocol,
    tcp,
};

/// One core's share.
#[derive(Debug)]
pub(crate) struct Shard {
    index: usize,
    turns: AtomicU64,
}

/// A service that a shard is to accept clients of, until they are let go of.
#[derive(Debug)]
pub(crate) struct Accept {
    pub(crate) live: Arc<Live>,
    pub(crate) listener: StdListener,
    pub(crate) protocol: Protocol,
    pub(crate) closing: watch::Receiver<Closing>,
}

/// A shard's thread. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Thread {
    accepts: Option<mpsc::UnboundedSender<Accept>>,
    join: Option<JoinHandle<()>>,
}

impl Shard {
    pub(crate) const fn index(&self) -> usize {
        self.index
    }

    pub(crate) fn turn(&self) -> u64 {
        self.turns.fetch_add(1, Ordering::Relaxed)
    }
}

impl Thread {
    pub(crate) fn start(index: usize) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (accepts, mut accepted) = mpsc::unbounded_channel::<Accept>();
        // Shards begin their sequences apart from each other.
        let turns = AtomicU64::new((index as u64) << 32);
        let shard = Arc::new(Shard { index, turns });
        let run = move || {
            runtime.block_on(async {
                while let Some(accept) = accepted.recv().await {
                    tokio::spawn(accept_clients(Arc::clone(&shard), accept));
                }
            });
        };
        let join = std::thread::Builder::new().name(format!("shard-{index}")).spawn(run)?;
        Ok(Self { accepts: Some(accepts), join: Some(join) })
    }

    pub(crate) fn accept(&self, accept: Accept) {
        if let Some(accepts) = &self.accepts
            && accepts.send(accept).is_err()
        {
            tracing::error!("a shard of the gate has ended");
        }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        drop(self.accepts.take());
        if let Some(join) = self.join.take()
            && join.join().is_err()
        {
            tracing::error!("a shard of the gate panicked");
        }
    }
}

async fn accept_clients(shard: Arc<Shard>, accept: Accept) {
    let Accept { live, listener, protocol, closing: to_end } = accept;
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "a listening socket cannot be waited for");
            return;
        }
    };
    let mut until = to_end.clone();
    loop {
        let accepted = tokio::select! {
            // First: who comes after it was let go of is another's, at the same socket.
            biased;
            _ = closing::after(Closing::No, &mut until) => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "no client can be accepted; trying again");
                tokio::time::sleep(tcp::ACCEPT_REST).await;
                continue;
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, %peer, "a client is gone already");
            continue;
        }
        let (shard, live) = (Arc::clone(&shard), Arc::clone(&live));
        match protocol {
            Protocol::Http => {
                drop(tokio::spawn(http::serve(shard, live, stream, peer, to_end.clone())));
            }
            Protocol::Tcp => drop(tokio::spawn(tcp::serve(shard, live, stream, peer))),
        }
    }
}
