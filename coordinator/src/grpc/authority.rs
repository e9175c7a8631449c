//! Who may call what: one check in front of every operator's call, on the parsed method. What is
//! not in the table is denied (S1).

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use cutover_coordinator_core::enrolment::Role;
use futures::future::{Either, Ready, ready};
use tonic::{Status, body::Body, codegen::http, server::NamedService};
use tower::Service;

use crate::{
    identity::token::{TokenKind, hash_of},
    outlets::Operators,
};

/// Every method of the service `Operator`, and the least role that may call it.
pub const TABLE: [(&str, Role); 26] = [
    ("WhoAmI", Role::Viewer),
    ("ListAgents", Role::Viewer),
    ("ListEnvironments", Role::Viewer),
    ("ListReleases", Role::Viewer),
    ("GetRollout", Role::Viewer),
    ("WatchRollout", Role::Viewer),
    ("ListRollouts", Role::Viewer),
    ("Status", Role::Viewer),
    ("Plan", Role::Viewer),
    ("Simulate", Role::Viewer),
    ("GetConfig", Role::Viewer),
    ("BeginPush", Role::Deployer),
    ("Push", Role::Deployer),
    ("Deploy", Role::Deployer),
    ("Control", Role::Deployer),
    ("Exclude", Role::Deployer),
    // It comes with a deploy, and to nobody before.
    ("ConfigureEnvironment", Role::Deployer),
    // What applications say may hold more than a viewer should know.
    ("Logs", Role::Deployer),
    ("CreateJoinToken", Role::Admin),
    ("LabelAgent", Role::Admin),
    ("RemoveAgent", Role::Admin),
    ("DrainAgent", Role::Admin),
    ("UndrainAgent", Role::Admin),
    ("CreateEnvironment", Role::Admin),
    ("FreezeEnvironment", Role::Admin),
    ("ThawEnvironment", Role::Admin),
];

/// Who calls, as the token says. A call finds it in its extensions.
#[derive(Clone, Debug)]
pub struct Caller {
    pub name: String,
    pub role: Role,
}

/// Lets through what the caller's role allows.
#[derive(Clone)]
pub struct Guarded<S> {
    inner: S,
    operators: Operators,
}

impl<S> Guarded<S> {
    /// Guards `inner`.
    pub const fn new(inner: S, operators: Operators) -> Self {
        Self { inner, operators }
    }

    fn admit<B>(&self, request: &http::Request<B>) -> Result<Caller, Status> {
        let mut headers = request.headers().get_all(http::header::AUTHORIZATION).iter();
        let (only, none) = (headers.next(), headers.next());
        // One text for a missing, a wrong and a doubled token.
        let unknown = || {
            super::status::with_hint(
                tonic::Code::Unauthenticated,
                "the token is not valid",
                "log in again: cutover login",
            )
        };
        let token = match (only.and_then(|value| value.to_str().ok()), none) {
            (Some(value), None) => value.strip_prefix("Bearer ").ok_or_else(unknown)?,
            (_, _) => return Err(unknown()),
        };
        let hash = hash_of(token, TokenKind::Operator).ok_or_else(unknown)?;
        let operators = self.operators.load();
        let operator = operators.get(&hash).ok_or_else(unknown)?;
        let caller = Caller { name: operator.name.clone(), role: operator.role };
        let least = least_role(request.uri().path());
        match least {
            Some(least) if caller.role >= least => Ok(caller),
            Some(least) => Err(super::status::with_hint(
                tonic::Code::PermissionDenied,
                &format!(
                    "{} is {}, and this needs {}",
                    caller.name,
                    caller.role.word(),
                    least.word()
                ),
                "ask an administrator",
            )),
            None => Err(Status::permission_denied("there is no such method")),
        }
    }
}

/// Returns the least role that may call `path`; none for a path that is not in the table.
fn least_role(path: &str) -> Option<Role> {
    let method = path.strip_prefix("/cutover.v1.Operator/")?;
    TABLE.iter().find(|(name, _)| *name == method).map(|(_, role)| *role)
}

impl<S, B> Service<http::Request<B>> for Guarded<S>
where
    S: Service<http::Request<B>, Response = http::Response<Body>, Error = Infallible>,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Either<Ready<Result<Self::Response, Infallible>>, S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<B>) -> Self::Future {
        match self.admit(&request) {
            Ok(caller) => {
                request.extensions_mut().insert(caller);
                Either::Right(self.inner.call(request))
            }
            Err(status) => Either::Left(ready(Ok(status.into_http()))),
        }
    }
}

impl<S: NamedService> NamedService for Guarded<S> {
    const NAME: &'static str = S::NAME;
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use arc_swap::ArcSwap;
    use cutover_coordinator_core::enrolment::Operator;

    use super::*;
    use crate::identity::token::NewToken;

    const ROLES: [Role; 4] = [Role::Viewer, Role::Deployer, Role::Approver, Role::Admin];

    fn guarded() -> (Guarded<()>, BTreeMap<Role, NewToken>) {
        let tokens: BTreeMap<Role, NewToken> =
            ROLES.into_iter().map(|role| (role, NewToken::new(TokenKind::Operator))).collect();
        let operators = tokens
            .iter()
            .map(|(role, token)| {
                (token.hash(), Operator { name: role.word().to_owned(), role: *role })
            })
            .collect();
        (Guarded::new((), Arc::new(ArcSwap::from_pointee(operators))), tokens)
    }

    fn call(path: &str, authorization: &[&str]) -> http::Request<()> {
        let mut request = http::Request::builder().uri(path);
        for value in authorization {
            request = request.header("authorization", *value);
        }
        request.body(()).unwrap()
    }

    #[test]
    fn every_method_of_the_service_is_in_the_table_and_no_other() {
        let proto = include_str!("../../../proto/cutover/v1/operator.proto");
        let mut declared: Vec<&str> = proto
            .lines()
            .filter_map(|line| line.trim().strip_prefix("rpc ")?.split('(').next())
            .collect();
        let mut listed: Vec<&str> = TABLE.iter().map(|(name, _)| *name).collect();
        declared.sort_unstable();
        listed.sort_unstable();

        assert_eq!(listed, declared);
    }

    #[test]
    fn each_role_may_call_exactly_what_its_row_allows() {
        let (guarded, tokens) = guarded();
        for (method, least) in TABLE {
            for (role, token) in &tokens {
                let path = format!("/cutover.v1.Operator/{method}");
                let bearer = format!("Bearer {}", token.reveal());
                let admitted = guarded.admit(&call(&path, &[&bearer])).is_ok();
                assert_eq!(admitted, *role >= least, "{method} by {role:?}");
            }
        }
    }

    #[test]
    fn without_exactly_one_valid_token_nothing_may_be_called() {
        let (guarded, tokens) = guarded();
        let good = format!("Bearer {}", tokens[&Role::Admin].reveal());
        let path = "/cutover.v1.Operator/WhoAmI";
        for wrong in [
            &[][..],
            &["Bearer "],
            &["Bearer cto_00"],
            &[good.strip_prefix("Bearer ").unwrap()],
            &[good.as_str(), good.as_str()],
        ] {
            let status = guarded.admit(&call(path, wrong)).unwrap_err();
            assert_eq!(status.code(), tonic::Code::Unauthenticated, "{wrong:?}");
            assert_eq!(status.message(), "the token is not valid");
        }
    }

    #[test]
    fn a_path_that_is_not_in_the_table_is_denied_even_to_an_admin() {
        let (guarded, tokens) = guarded();
        let good = format!("Bearer {}", tokens[&Role::Admin].reveal());
        for path in [
            "/cutover.v1.Operator/whoami",
            "/cutover.v1.Operator/WhoAmI/",
            "/cutover.v1.Operator//WhoAmI",
            "/cutover.v1.AgentLink/Session",
            "/",
        ] {
            let status = guarded.admit(&call(path, &[&good])).unwrap_err();
            assert_eq!(status.code(), tonic::Code::PermissionDenied, "{path}");
        }
    }
}
