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
    body::{Answer, Download, Progress, Stall, Upload},
    exchange::{NoAnswer, exchange, is_idempotent},
    head::{self, HOP, HOP_OF_EDGE, HOP_OF_GATE},
    refuse::{HeardBy, Refusal},
    serve::Connection,
};
use crate::{
    live::{Link, Live, NoPlace, Place, UnderWay},
    program::{Limits, Sticky, UpstreamKind},
    route::{CameFrom, Wish, point_of_client, point_of_turn},
    shard::Shard,
    tcp::{tunnel, tunnel_websocket},
};

/// Gives a request to an instance, and its answer back.
pub(super) async fn pass(
    connection: &Arc<Connection>,
    request: Request<Incoming>,
) -> Response<Answer> {
    let is_of_gate = request.headers().contains_key(HOP);
    match try_pass(connection, request).await {
        Ok(response) => response,
        Err(refusal) if is_of_gate => refusal.response_to_gate(),
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
    head::announce_body(&mut request);
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
    let came_from = match request.headers_mut().remove(HOP) {
        None => CameFrom::Client,
        Some(hop) if hop == HOP_OF_EDGE => CameFrom::Edge,
        Some(_) => CameFrom::Gate,
    };
    let routing = live.now();
    let headers = request.headers();
    let is_allowed =
        routing.table.allow.as_ref().is_some_and(|allow| head::carries(headers, &allow.by));
    let by_turn = || point_of_turn(shard.turn());
    let (point, cookie) = match &routing.table.sticky {
        None => (by_turn(), None),
        Some(Sticky::Header { name }) => {
            let value = headers.get(name.as_str());
            (value.map_or_else(by_turn, |value| point_of_client(value.as_bytes())), None)
        }
        Some(Sticky::Cookie { name }) => match head::cookie(headers, name) {
            Some(value) => (point_of_client(value), None),
            // It is given one by the edge, which its host must not replace.
            None if came_from != CameFrom::Client => (by_turn(), None),
            None => {
                let value = uuid::Uuid::new_v4().simple().to_string();
                let cookie = format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax");
                let point = point_of_client(value.as_bytes());
                (point, HeaderValue::from_str(&cookie).ok())
            }
        },
    };
    (Wish { point, is_allowed, came_from }, cookie)
}

/// What follows where no instance answered.
struct Missed {
    /// The same once more, if that is as good.
    again: Option<Request<Upload>>,
    /// No instance has seen anything of it.
    is_unsent: bool,
    otherwise: Otherwise,
}

enum Otherwise {
    Refuse(Refusal),
    /// The other gate's own answer.
    PassOn(Box<Answered>),
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
    let mut chosen = live.choose(sending.wish, &[], size).await?;
    let first = Arc::clone(chosen.under_way.place());
    let mut tries = first.kind.tries();
    let upload = Upload::new(Some(body), sending.limits.body_bytes_max, stall, first);
    let progress = upload.progress();
    let kept = Kept::new(&parts, &upload, stall);
    let mut request = Request::from_parts(parts, upload);
    let mut tried: Vec<Arc<Place>> = Vec::new();
    loop {
        tries -= 1;
        let place = Arc::clone(chosen.under_way.place());
        mark_hop(&mut request, place.kind, tried.is_empty());
        place.counters.began();
        let times = (chosen.connect_within, answer_within);
        let Missed { again, is_unsent, otherwise } =
            match exchange((live, &place), shard.index(), request, &progress, times).await {
                Ok((response, link)) => {
                    let (under_way, progress) = (chosen.under_way, Arc::clone(&progress));
                    let done = Answered { response, link, under_way, progress };
                    let Some(heard) = heard_by(&place, &done.response) else {
                        let status = done.response.status();
                        place.counters.answered(status, sending.began.elapsed());
                        return Ok(answer(connection, sending, done));
                    };
                    kept.refused(heard, &place, done)
                }
                Err(failed) => {
                    // Nothing is under way there while it may be held: that may wait for this.
                    drop(chosen.under_way);
                    kept.failed(failed, &place, &progress)?
                }
            };
        if is_unsent && place.kind != UpstreamKind::Slot {
            place.rest();
        }
        tried.push(Arc::clone(&place));
        let next = match again.filter(|_| tries > 0) {
            Some(again) => match live.choose(sending.wish, &tried, size).await {
                Ok(elsewhere) => Some((again, elsewhere)),
                // Nobody else: what broke may have been only its connection.
                Err(NoPlace::NobodyServes)
                    if matches!(otherwise, Otherwise::Refuse(Refusal::Broken)) =>
                {
                    Some((again, live.choose(sending.wish, &[], size).await?))
                }
                Err(_) => None,
            },
            None => None,
        };
        let Some((again, elsewhere)) = next else {
            return match otherwise {
                Otherwise::Refuse(refusal) => Err(refusal),
                Otherwise::PassOn(done) => Ok(answer(connection, sending, *done)),
            };
        };
        place.counters.was_retried();
        let to = Arc::clone(elsewhere.under_way.place());
        chosen = elsewhere;
        request = again.map(|body| body.sent_to(to));
    }
}

/// What is kept of a request to send it once more: its head, if it has no body. Of a body some may
/// be on its way already.
struct Kept {
    parts: Option<Parts>,
    can_be_done_twice: bool,
    stall: Duration,
}

impl Kept {
    fn new(parts: &Parts, upload: &Upload, stall: Duration) -> Self {
        let can_be_done_twice = is_idempotent(&parts.method);
        Self { parts: upload.is_end_stream().then(|| parts.clone()), can_be_done_twice, stall }
    }

    fn again(&self, place: &Arc<Place>, is_unsent: bool) -> Option<Request<Upload>> {
        let parts = self.parts.clone().filter(|_| is_unsent || self.can_be_done_twice)?;
        Some(anew(parts, self.stall, place))
    }

    /// Another gate has given it up.
    fn refused(&self, heard: HeardBy, place: &Arc<Place>, done: Answered) -> Missed {
        let is_unsent = heard == HeardBy::Nobody;
        let again = self.again(place, is_unsent);
        Missed { again, is_unsent, otherwise: Otherwise::PassOn(Box::new(done)) }
    }

    fn failed(
        &self,
        failed: NoAnswer,
        place: &Arc<Place>,
        progress: &Progress,
    ) -> Result<Missed, Refusal> {
        match failed {
            NoAnswer::TooSlow => Err(Refusal::TooSlow),
            NoAnswer::Broken if progress.is_too_long() => Err(Refusal::TooLong),
            NoAnswer::NotSent(request) => {
                // Where the body was begun, some of it may be on its way to nowhere.
                let again = Some(*request).filter(|_| progress.is_untouched());
                let otherwise = Otherwise::Refuse(Refusal::Unreachable);
                Ok(Missed { again, is_unsent: true, otherwise })
            }
            NoAnswer::Broken => {
                let again = self.again(place, false);
                let otherwise = Otherwise::Refuse(Refusal::Broken);
                Ok(Missed { again, is_unsent: false, otherwise })
            }
        }
    }
}

/// Returns what another gate says by its answer. None: it is an instance's.
fn heard_by(place: &Place, response: &Response<Incoming>) -> Option<HeardBy> {
    match place.kind {
        UpstreamKind::Slot => None,
        UpstreamKind::Gate | UpstreamKind::Host => HeardBy::said(response.headers()),
    }
}

fn anew(parts: Parts, stall: Duration, place: &Arc<Place>) -> Request<Upload> {
    Request::from_parts(parts, Upload::new(None, None, stall, Arc::clone(place)))
}

fn mark_hop(request: &mut Request<Upload>, kind: UpstreamKind, is_first: bool) {
    match kind {
        // It was taken off already.
        UpstreamKind::Slot if is_first => {}
        UpstreamKind::Slot => drop(request.headers_mut().remove(HOP)),
        UpstreamKind::Gate => drop(request.headers_mut().insert(HOP, HOP_OF_GATE)),
        UpstreamKind::Host => drop(request.headers_mut().insert(HOP, HOP_OF_EDGE)),
    }
}

struct Answered {
    response: Response<Incoming>,
    link: Link,
    under_way: UnderWay,
    progress: Arc<Progress>,
}

fn answer(connection: &Arc<Connection>, sending: Sending, answered: Answered) -> Response<Answer> {
    let Answered { mut response, link, mut under_way, progress } = answered;
    let mut stall = Stall::new(Duration::from_millis(sending.limits.stall_ms.into()));
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return switched(connection, sending, response, under_way);
    }
    head::take_off(response.headers_mut());
    if is_stream_of_events(&response) {
        // It is silent for as long as nothing happens, and serves no other request after.
        under_way.lasts();
        link.known.lasts();
        stall = Stall::never();
    }
    if let Some(cookie) = sending.cookie {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    let shard = connection.shard.index();
    response.map(|incoming| {
        let (link, upload) = (Some(link), progress);
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
