//! What the gate counts, as Prometheus reads it. The names are documented in docs/gate.md.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use cutover_common::latency::LATENCY_DOUBLINGS;
use http::{HeaderValue, Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::TcpListener,
    sync::{Mutex, Semaphore},
    time::timeout,
};

use crate::{
    duty::Duty,
    state::{Counts, ServiceState, State},
    tcp::ACCEPT_REST,
};

/// How many may ask at once: a Prometheus or two, and a person who looks.
const CONNECTIONS_MAX: usize = 8;

/// How long one question may take, with its answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// What is said of one upstream. Those of one name are one: a slot that is being replaced.
#[derive(Default)]
struct Upstream {
    counts: Counts,
    requests_in_flight: u64,
    long_lived: u64,
}

/// Answers those who ask. Never ends.
pub(crate) async fn serve(listener: TcpListener, duty: Arc<Mutex<Duty>>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_REST).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let duty = Arc::clone(&duty);
        tokio::spawn(async move {
            let answer = service_fn(|request| answer(Arc::clone(&duty), request));
            let mut builder = http1::Builder::new();
            // One question for each connection, so that none is in the way of another process.
            builder.timer(TokioTimer::new()).keep_alive(false);
            let served = builder.serve_connection(TokioIo::new(stream), answer);
            // Whoever asks and goes away is none of the gate's business.
            drop(timeout(ANSWER_WITHIN, served).await);
            drop(place);
        });
    }
}

async fn answer(
    duty: Arc<Mutex<Duty>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.method() != Method::GET || request.uri().path() != "/metrics" {
        let mut response = Response::new(Full::from("cutover-gate: GET /metrics\n"));
        *response.status_mut() = StatusCode::NOT_FOUND;
        return Ok(response);
    }
    let state = duty.lock().await.state().await;
    let mut response = Response::new(Full::from(render(&state)));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(response)
}

/// Names of applications and upstreams need no escape: they are checked.
fn render(state: &State) -> String {
    let mut page = Page::default();
    page.family("info", "gauge", "Which gate this is.");
    page.line("info", &format!("gate=\"{}\"", state.gate), 1);
    page.family("program_revision", "gauge", "The program that is followed.");
    if let Some(revision) = state.revision {
        page.line("program_revision", "", revision);
    }
    let about = "Processes that were taken over from and still have something under way.";
    page.family("leaving_processes", "gauge", about);
    page.line("leaving_processes", "", state.leaving);

    type OfService = fn(&ServiceState) -> u64;
    let services: [(&str, &str, OfService); 3] = [
        ("connections", "Clients that are connected.", |it| it.connections),
        ("held_requests", "Requests that wait for a change of version.", |it| it.held),
        ("service_is_served", "1, or 0 where it is not served as it should be.", |it| {
            it.is_served.into()
        }),
    ];
    for (name, about, value) in services {
        page.family(name, "gauge", about);
        for service in &state.services {
            page.line(name, &format!("application=\"{}\"", service.application), value(service));
        }
    }
    of_upstreams(&mut page, &upstreams(state));
    page.0
}

/// By their labels.
fn upstreams(state: &State) -> BTreeMap<String, Upstream> {
    let mut upstreams = BTreeMap::<String, Upstream>::new();
    for service in &state.services {
        for it in &service.upstreams {
            let labels =
                format!("application=\"{}\",upstream=\"{}\"", service.application, it.name);
            let upstream = upstreams.entry(labels).or_default();
            upstream.counts.add(&it.counts);
            upstream.requests_in_flight += it.requests_in_flight;
            upstream.long_lived += it.long_lived;
        }
    }
    upstreams
}

fn of_upstreams(page: &mut Page, upstreams: &BTreeMap<String, Upstream>) {
    type OfUpstream = fn(&Upstream) -> u64;
    let families: [(&str, &str, &str, OfUpstream); 8] = [
        ("requests_in_flight", "gauge", "Requests under way.", |it| it.requests_in_flight),
        (
            "long_lived_connections",
            "gauge",
            "WebSockets and other upgrades, event streams, plain TCP.",
            |it| it.long_lived,
        ),
        ("requests_total", "counter", "Requests and connections sent there.", |it| {
            it.counts.requests
        }),
        ("connect_errors_total", "counter", "Connections that could not be made.", |it| {
            it.counts.connect_errors
        }),
        ("resets_total", "counter", "Connections that broke before the end of an answer.", |it| {
            it.counts.resets
        }),
        ("retries_total", "counter", "Requests that went on elsewhere or anew.", |it| {
            it.counts.retries
        }),
        ("received_bytes_total", "counter", "Bytes of bodies received from there.", |it| {
            it.counts.bytes_in
        }),
        ("sent_bytes_total", "counter", "Bytes of bodies sent there.", |it| it.counts.bytes_out),
    ];
    for (name, kind, about, value) in families {
        page.family(name, kind, about);
        for (labels, upstream) in upstreams {
            page.line(name, labels, value(upstream));
        }
    }
    page.family("responses_total", "counter", "Answers by their class.");
    for (labels, upstream) in upstreams {
        for (class, count) in (1..).zip(upstream.counts.statuses) {
            page.line("responses_total", &format!("{labels},class=\"{class}xx\""), count);
        }
    }
    page.family("response_seconds", "histogram", "Time until the head of an answer came.");
    for (labels, upstream) in upstreams {
        page.histogram("response_seconds", labels, &upstream.counts);
    }
}

/// A page in the text format, version 0.0.4.
#[derive(Default)]
struct Page(String);

const PREFIX: &str = "cutover_gate_";

impl Page {
    fn family(&mut self, name: &str, kind: &str, about: &str) {
        self.0 += &format!("# HELP {PREFIX}{name} {about}\n# TYPE {PREFIX}{name} {kind}\n");
    }

    fn line(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        self.0 += &format!("{PREFIX}{name}{labels} {value}\n");
    }

    fn histogram(&mut self, name: &str, labels: &str, counts: &Counts) {
        let mut bucket = |end: &str, answers: u64| {
            self.line(&format!("{name}_bucket"), &format!("{labels},le=\"{end}\""), answers);
        };
        // One for each doubling: with all that are counted they would be most of the page.
        for doublings in 0..=LATENCY_DOUBLINGS {
            let end = 1 << doublings;
            bucket(&seconds(end).to_string(), counts.latency.below_us(end));
        }
        let all = counts.latency.answers();
        bucket("+Inf", all);
        self.line(&format!("{name}_sum"), labels, seconds(counts.latency_us_sum));
        self.line(&format!("{name}_count"), labels, all);
    }
}

fn seconds(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64()
}
