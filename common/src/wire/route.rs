//! Route <-> pb.

use std::time::Duration;

use cutover_proto::v1 as pb;

use super::millis;
use crate::{
    Allow, HoldLimits, Route, RouteMode, Slot,
    allow::{AllowWords, CookieWords, InvalidAllow},
    route::InvalidPermille,
};

/// Why a message is no [`Route`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidRouteMessage {
    #[error("field `to` names no slot")]
    To,
    #[error("field `share` is invalid")]
    Share(#[source] InvalidPermille),
    #[error("field `allow` is invalid")]
    Allow(#[source] InvalidAllow),
    #[error("field `mode` has a value that this version does not know")]
    UnknownMode,
    #[error("field `hold` is missing")]
    NoHold,
    #[error("field `hold` is set, and the route is open")]
    NotHeld,
    #[error("field `{0}` is out of range")]
    OutOfRange(&'static str),
}

impl TryFrom<pb::Route> for Route {
    type Error = InvalidRouteMessage;

    fn try_from(message: pb::Route) -> Result<Self, InvalidRouteMessage> {
        let mode = message.mode();
        let pb::Route { to, share, allow, mode: _, hold } = message;
        let hold = hold.map(HoldLimits::try_from).transpose()?;
        let mode = match (mode, hold) {
            (pb::route::Mode::Unspecified, _) => return Err(InvalidRouteMessage::UnknownMode),
            (pb::route::Mode::Open, None) => RouteMode::Open,
            (pb::route::Mode::Open, Some(_)) => return Err(InvalidRouteMessage::NotHeld),
            (pb::route::Mode::Hold, Some(limits)) => RouteMode::Hold(limits),
            (pb::route::Mode::Armed, Some(limits)) => RouteMode::Armed(limits),
            (pb::route::Mode::Hold | pb::route::Mode::Armed, None) => {
                return Err(InvalidRouteMessage::NoHold);
            }
        };
        Ok(Self {
            to: Slot::from_name(&to).ok_or(InvalidRouteMessage::To)?,
            share: share.try_into().map_err(InvalidRouteMessage::Share)?,
            allow: allow.map(TryInto::try_into).transpose()?,
            mode,
        })
    }
}

impl From<Route> for pb::Route {
    fn from(route: Route) -> Self {
        let Route { to, share, allow, mode } = route;
        let hold = mode.limits().map(Into::into);
        let mode = match mode {
            RouteMode::Open => pb::route::Mode::Open,
            RouteMode::Hold(_) => pb::route::Mode::Hold,
            RouteMode::Armed(_) => pb::route::Mode::Armed,
        };
        Self {
            to: to.to_string(),
            share: share.into(),
            allow: allow.map(Into::into),
            mode: mode.into(),
            hold,
        }
    }
}

impl TryFrom<pb::RouteAllow> for Allow {
    type Error = InvalidRouteMessage;

    fn try_from(message: pb::RouteAllow) -> Result<Self, InvalidRouteMessage> {
        let pb::RouteAllow { header, value, cookie } = message;
        let said = |text: String| (!text.is_empty()).then_some(text);
        let cookie = cookie.map(|pb::RouteCookie { name, value }| CookieWords { name, value });
        let words = AllowWords { header: said(header), value: said(value), cookie };
        words.try_into().map_err(InvalidRouteMessage::Allow)
    }
}

impl From<Allow> for pb::RouteAllow {
    fn from(allow: Allow) -> Self {
        let AllowWords { header, value, cookie } = allow.into();
        Self {
            header: header.unwrap_or_default(),
            value: value.unwrap_or_default(),
            cookie: cookie.map(|CookieWords { name, value }| pb::RouteCookie { name, value }),
        }
    }
}

impl TryFrom<pb::HoldLimits> for HoldLimits {
    type Error = InvalidRouteMessage;

    fn try_from(message: pb::HoldLimits) -> Result<Self, InvalidRouteMessage> {
        let pb::HoldLimits { within_ms, requests, bytes } = message;
        let limits = Self { within: Duration::from_millis(within_ms), requests, bytes };
        match limits.out_of_range() {
            Some(field) => Err(InvalidRouteMessage::OutOfRange(field)),
            None => Ok(limits),
        }
    }
}

impl From<HoldLimits> for pb::HoldLimits {
    fn from(limits: HoldLimits) -> Self {
        let HoldLimits { within, requests, bytes } = limits;
        Self { within_ms: millis(within), requests, bytes }
    }
}
