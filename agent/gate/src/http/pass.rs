//! One request, from its head to the head of its answer.

use std::{sync::Arc, time::Duration};

use http::{
    HeaderValue, Request, Response, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE, SET_COOKIE},
    request::Parts,
};
use hyper::{
    body::{Body as _, Incoming},
    upgrade::OnUpgrade,
};
use tokio::time::Instant;

use super::{
    body::{Answer, Download, Stall, Upload},
    exchange::{NoAnswer, exchange, is_idempotent},
    head::{self, HOP},
    refuse::Refusal,
    serve::Connection,
};
use crate::{
    live::{Link, Live, NoPlace, UnderWay},
    program::{Limits, Sticky, UpstreamKind},
    route::{Wish, point_of_client, point_of_turn},
    shard::Shard,
    tcp::{tunnel, tunnel_websocket},
};

/// How often a request is tried at places: once, and once more.
const TRIES: usize = 2;

/// Gives a request to an instance, and its answer back.
pub(super) async fn pass(
    connection: &Arc<Connection>,
    request: Request<Incoming>,
) -> Response<Answer> {
    match try_pass(connection, request).await {
        Ok(response) => response,
        Err(refusal) => refusal.response(),
    }
}

/// What is known of a request before it goes anywhere.
struct Sending {
    wish: Wish,
    /// A cookie that keeps the client where this goes.
    cookie: Option<HeaderValue>,
    limits: Limits,
    client_upgrade: Option<OnUpgrade>,
    began: Instant,
}

async fn try_pass(
    connection: &Arc<Connection>,
    mut request: Request<Incoming>,
) -> Result<Response<Answer>, Refusal> {
    let (shard, live) = (&*connection.shard, &connection.live);
    let limits = live.limits();
    head::prepare(&mut request, &connection.client)?;
    let most = limits.body_bytes_max;
    let announced = request.body().size_hint().lower();
    if most.is_some_and(|most| announced > most) {
        return Err(Refusal::TooLong);
    }
    let (wish, cookie) = wish_of(shard, live, &mut request);
    let upgrades = head::wanted_upgrade(request.headers()).is_some();
    let client_upgrade = upgrades.then(|| hyper::upgrade::on(&mut request));
    let size = head::size_of(&request);
    let sending = Sending { wish, cookie, limits, client_upgrade, began: Instant::now() };
    send(connection, sending, request, size).await
}

fn wish_of(
    shard: &Shard,
    live: &Live,
    request: &mut Request<Incoming>,
) -> (Wish, Option<HeaderValue>) {
    let came_from_gate = request.headers_mut().remove(HOP).is_some();
    let routing = live.now();
    let headers = request.headers();
    let is_allowed =
        routing.table.allow.as_ref().is_some_and(|(name, _)| {
            headers.get(name.as_str()).is_some_and(|value| !value.is_empty())
        });
    let by_turn = || point_of_turn(shard.turn());
    let (point, cookie) = match &routing.table.sticky {
        None => (by_turn(), None),
        Some(Sticky::Header { name }) => {
            let value = headers.get(name.as_str());
            (value.map_or_else(by_turn, |value| point_of_client(value.as_bytes())), None)
        }
        Some(Sticky::Cookie { name }) => match head::cookie(headers, name) {
            Some(value) => (point_of_client(value.as_bytes()), None),
            None => {
                let value = uuid::Uuid::new_v4().simple().to_string();
                let cookie = format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax");
                let point = point_of_client(value.as_bytes());
                (point, HeaderValue::from_str(&cookie).ok())
            }
        },
    };
    (Wish { point, is_allowed, came_from_gate, without: None }, cookie)
}

async fn send(
    connection: &Arc<Connection>,
    sending: Sending,
    request: Request<Incoming>,
    size: u64,
) -> Result<Response<Answer>, Refusal> {
    let (shard, live) = (&*connection.shard, &connection.live);
    let stall = Duration::from_millis(sending.limits.stall_ms.into());
    let answer_within = Duration::from_millis(sending.limits.answer_ms.into());
    let (parts, body) = request.into_parts();
    let mut chosen = live.choose(sending.wish, size).await?;
    let first = Arc::clone(chosen.under_way.place());
    let upload = Upload::new(Some(body), sending.limits.body_bytes_max, stall, first);
    let progress = upload.progress();
    // Only what can be done twice is kept, and only without its body.
    let again = (is_idempotent(&parts.method) && upload.is_end_stream()).then(|| parts.clone());
    let mut request = Request::from_parts(parts, upload);
    for tries_left in (0..TRIES).rev() {
        let place = Arc::clone(chosen.under_way.place());
        mark_hop(&mut request, place.kind, tries_left + 1 == TRIES);
        place.counters.began();
        let times = (chosen.connect_within, answer_within);
        let failed = match exchange(&place, shard.index(), request, times).await {
            Ok((response, link)) => {
                place.counters.answered(response.status(), sending.began.elapsed());
                let done = Answered { response, link, under_way: chosen.under_way, progress };
                return Ok(answer(connection, sending, done));
            }
            Err(failed) => failed,
        };
        let (next, refusal) = match failed {
            NoAnswer::TooSlow => return Err(Refusal::TooSlow),
            NoAnswer::Broken if progress.is_too_long() => return Err(Refusal::TooLong),
            NoAnswer::NotSent(request) => {
                // Where the body was begun, some of it may be on its way to nowhere.
                let is_whole = progress.is_untouched();
                (Some(*request).filter(|_| is_whole), Refusal::Unreachable)
            }
            NoAnswer::Broken => (again.clone().map(|it| anew(it, stall, &place)), Refusal::Broken),
        };
        let Some(next) = next.filter(|_| tries_left > 0) else { return Err(refusal) };
        let without = live.routing().position(&place);
        let elsewhere = live.choose(Wish { without, ..sending.wish }, size).await;
        chosen = match elsewhere {
            Ok(chosen) => chosen,
            // Nobody else: what broke may have been only its connection.
            Err(_) if refusal == Refusal::Broken => live.choose(sending.wish, size).await?,
            Err(_) => return Err(refusal),
        };
        place.counters.was_retried();
        let to = Arc::clone(chosen.under_way.place());
        request = next.map(|body| body.sent_to(to));
    }
    Err(Refusal::Unreachable)
}

fn anew(parts: Parts, stall: Duration, place: &Arc<crate::live::Place>) -> Request<Upload> {
    Request::from_parts(parts, Upload::new(None, None, stall, Arc::clone(place)))
}

fn mark_hop(request: &mut Request<Upload>, kind: UpstreamKind, is_first: bool) {
    match kind {
        // It was taken off already.
        UpstreamKind::Slot if is_first => {}
        UpstreamKind::Slot => drop(request.headers_mut().remove(HOP)),
        UpstreamKind::Gate => {
            request.headers_mut().insert(HOP, HeaderValue::from_static("1"));
        }
    }
}

struct Answered {
    response: Response<Incoming>,
    link: Link,
    under_way: UnderWay,
    progress: Arc<super::body::Progress>,
}

fn answer(connection: &Arc<Connection>, sending: Sending, answered: Answered) -> Response<Answer> {
    let Answered { mut response, link, mut under_way, progress } = answered;
    let mut stall = Stall::new(Duration::from_millis(sending.limits.stall_ms.into()));
    let mut link = Some(link);
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return switched(connection, sending, response, under_way);
    }
    head::take_off(response.headers_mut());
    if is_stream_of_events(&response) {
        // It is silent for as long as nothing happens, and serves no other request after.
        under_way.lasts();
        if let Some(link) = link.take() {
            link.known.lasts();
        }
        stall = Stall::never();
    }
    if let Some(cookie) = sending.cookie {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    let shard = connection.shard.index();
    response.map(|incoming| {
        let upload = progress;
        let download = Download { incoming, stall, shard, link, upload, under_way, is_over: false };
        Answer::Passed(Box::new(download))
    })
}

fn is_stream_of_events(response: &Response<Incoming>) -> bool {
    let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| kind.trim_start().to_ascii_lowercase().starts_with("text/event-stream"))
}

/// An instance agrees to speak something else: from here on bytes go both ways.
fn switched(
    connection: &Arc<Connection>,
    sending: Sending,
    mut response: Response<Incoming>,
    mut under_way: UnderWay,
) -> Response<Answer> {
    let Some(client) = sending.client_upgrade else { return Refusal::Broken.response() };
    under_way.lasts();
    let instance = hyper::upgrade::on(&mut response);
    connection.pace.is_upgraded();
    // The connection counts, and is busy, until they end.
    let kept = (Arc::clone(connection), connection.pace.begin());
    let upgrade = response.headers().get(http::header::UPGRADE).cloned();
    if upgrade.as_ref().is_some_and(|it| it.as_bytes().eq_ignore_ascii_case(b"websocket")) {
        tunnel_websocket(client, instance, under_way, kept);
    } else {
        tunnel(client, instance, under_way, kept);
    }
    head::take_off(response.headers_mut());
    let headers = response.headers_mut();
    headers.remove(CONTENT_LENGTH);
    headers.insert(http::header::CONNECTION, HeaderValue::from_static("upgrade"));
    if let Some(upgrade) = upgrade {
        headers.insert(http::header::UPGRADE, upgrade);
    }
    response.map(|_| Answer::Own(http_body_util::Full::default()))
}

impl From<NoPlace> for Refusal {
    fn from(none: NoPlace) -> Self {
        match none {
            NoPlace::NobodyServes => Self::NobodyServes,
            NoPlace::HeldTooLong => Self::HeldTooLong,
            NoPlace::TooManyHeld => Self::TooManyHeld,
        }
    }
}
