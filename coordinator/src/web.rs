//! The web listener: `/livez`, `/readyz` and `/metrics`, and nothing else. Answers without a
//! login, so it says no more than "up" and numbers, and listens on loopback unless told.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use cutover_runtime::shutdown::Shutdown;
use tokio::net::TcpListener;

use crate::{engine::EngineHandle, metrics, store::StoreHandle};

/// How long a look may take before the coordinator counts as not ready: a disk that hangs for
/// longer holds up every rollout.
const LOOK_WITHIN: Duration = Duration::from_secs(5);

/// What the pages look at.
#[derive(Clone)]
pub struct Watched {
    pub engine: EngineHandle,
    pub store: StoreHandle,
    pub counts: Arc<metrics::Counts>,
}

/// Serves until shutdown.
///
/// # Errors
///
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    watched: Watched,
    shutdown: &Shutdown,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics_page))
        .with_state(watched);
    axum::serve(listener, router).with_graceful_shutdown(shutdown.requested()).await
}

/// Ready: the store takes events, and the loop answers.
async fn ready(State(watched): State<Watched>) -> (StatusCode, &'static str) {
    if watched.store.failure().is_some() {
        return (StatusCode::SERVICE_UNAVAILABLE, "the event store has failed\n");
    }
    match tokio::time::timeout(LOOK_WITHIN, watched.engine.look(|_, _| ())).await {
        Ok(Ok(())) => (StatusCode::OK, "ok\n"),
        Ok(Err(_)) => (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n"),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the event loop does not answer\n"),
    }
}

async fn metrics_page(State(watched): State<Watched>) -> impl IntoResponse {
    let last = watched.store.last();
    let counts = Arc::clone(&watched.counts);
    let text = watched.engine.look(move |core, _| metrics::render(core, last, &counts)).await;
    match text {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            (StatusCode::OK, [(header::CONTENT_TYPE, kind)], text)
        }
        Err(_) => {
            let kind = "text/plain; charset=utf-8";
            let text = "shutting down\n".to_owned();
            (StatusCode::SERVICE_UNAVAILABLE, [(header::CONTENT_TYPE, kind)], text)
        }
    }
}
