//! A server in this process, which answers as it is told; and sources that are refused.

use std::{net::SocketAddr, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::IntoResponse,
    routing::post,
};
use cutover_coordinator_core::input::MetricAnswer;
use tokio::net::TcpListener;

use super::{Asker, SourceFlags};

/// Long for an answer of this machine, short for a test that waits for it in vain.
const WITHIN: Duration = Duration::from_secs(5);

/// What the server answers, and what it was asked.
#[derive(Clone, Default)]
struct Answers {
    status: u16,
    body: String,
    location: Option<String>,
    hangs: bool,
    /// The header and the body that it needs to be asked with, if any.
    token: Option<String>,
}

async fn answer(
    State(answers): State<Answers>,
    headers: HeaderMap,
    body: String,
) -> impl IntoResponse {
    if answers.hangs {
        std::future::pending::<()>().await;
    }
    let shown = headers.get(header::AUTHORIZATION).and_then(|it| it.to_str().ok());
    if answers.token.is_some() && shown != answers.token.as_deref() {
        return (StatusCode::UNAUTHORIZED, HeaderMap::new(), "no".to_owned());
    }
    let mut head = HeaderMap::new();
    if let Some(location) = &answers.location {
        head.insert(header::LOCATION, location.parse().unwrap());
    }
    let status = StatusCode::from_u16(answers.status).unwrap();
    (status, head, answers.body.replace("ASKED", &body))
}

async fn serve(answers: Answers) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/prefix/api/v1/query", post(answer)).with_state(answers);
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

fn flags(url: String) -> SourceFlags {
    SourceFlags { urls: vec![("main".parse().unwrap(), url)], ..SourceFlags::default() }
}

async fn asked(flags: SourceFlags, within: Duration) -> MetricAnswer {
    let asker = Asker::new(flags.open().unwrap());
    asker.ask("main".parse().unwrap(), "up{a=\"b c\"}".to_owned(), within).await
}

async fn answered(status: u16, body: &str) -> MetricAnswer {
    let answers = Answers { status, body: body.to_owned(), ..Answers::default() };
    let address = serve(answers).await;
    asked(flags(format!("http://{address}/prefix/")), WITHIN).await
}

fn vector(values: &[&str]) -> String {
    let series =
        values.iter().map(|value| format!("{{\"metric\":{{}},\"value\":[1.5,{value:?}]}}"));
    let series = series.collect::<Vec<_>>().join(",");
    format!(
        "{{\"status\":\"success\",\"data\":{{\"resultType\":\"vector\",\"result\":[{series}]}}}}"
    )
}

fn failed(words: &str) -> MetricAnswer {
    MetricAnswer::Failed(words.to_owned())
}

#[tokio::test]
async fn one_number_is_an_answer_and_nothing_else_is() {
    let scalar =
        "{\"status\":\"success\",\"data\":{\"resultType\":\"scalar\",\"result\":[1,\"7\"]}}";

    assert_eq!(answered(200, &vector(&["0.25"])).await, MetricAnswer::Number(0.25));
    assert_eq!(answered(200, scalar).await, MetricAnswer::Number(7.0));
    assert_eq!(answered(200, &vector(&["+Inf"])).await, MetricAnswer::Number(f64::INFINITY));
    assert!(
        matches!(answered(200, &vector(&["NaN"])).await, MetricAnswer::Number(it) if it.is_nan())
    );
    assert_eq!(answered(200, &vector(&[])).await, MetricAnswer::Nothing);
    assert_eq!(
        answered(200, &vector(&["1", "2"])).await,
        failed("it gave 2 numbers, and one is compared; sum them up")
    );
    let matrix = "{\"status\":\"success\",\"data\":{\"resultType\":\"matrix\",\"result\":[]}}";
    assert_eq!(answered(200, matrix).await, failed("it gave a range, and no number"));
    assert_eq!(answered(200, "<html>").await, failed("its answer is none of a Prometheus server"));
}

#[tokio::test]
async fn what_goes_wrong_is_told_in_the_servers_words_on_one_line() {
    let error = "{\"status\":\"error\",\"error\":\"parse\\nerror \\u001b[31m\"}";

    assert_eq!(
        answered(400, error).await,
        failed("it answered 400 Bad Request: parse\\nerror \\u{1b}[31m")
    );
    assert_eq!(answered(503, "busy").await, failed("it answered 503 Service Unavailable"));
    let success_that_is_none = vector(&["0"]);
    assert_eq!(
        answered(500, &success_that_is_none).await,
        failed("it answered 500 Internal Server Error")
    );
}

#[tokio::test]
async fn the_query_is_sent_as_it_is() {
    let said = answered(400, "{\"status\":\"error\",\"error\":\"ASKED\"}").await;

    assert_eq!(
        said,
        failed("it answered 400 Bad Request: query=up%7Ba%3D%22b%20c%22%7D&timeout=5000ms")
    );
}

#[tokio::test]
async fn no_redirect_is_followed_and_no_answer_without_an_end_is_read() {
    let there = serve(Answers { status: 200, body: vector(&["1"]), ..Answers::default() }).await;
    let location = Some(format!("http://{there}/prefix/api/v1/query"));
    let away = serve(Answers { status: 307, location, ..Answers::default() }).await;
    let long =
        serve(Answers { status: 200, body: " ".repeat(300_000), ..Answers::default() }).await;

    assert_eq!(
        asked(flags(format!("http://{away}/prefix")), WITHIN).await,
        failed("it answered 307 Temporary Redirect, and redirects are not followed")
    );
    assert_eq!(
        asked(flags(format!("http://{long}/prefix")), WITHIN).await,
        failed("its answer has more than 262144 bytes; sum it up to one number")
    );
}

#[tokio::test]
async fn a_server_that_hangs_or_is_not_there_is_no_number_in_time() {
    let hangs = serve(Answers { hangs: true, ..Answers::default() }).await;
    let short = Duration::from_millis(50);
    assert_eq!(
        asked(flags(format!("http://{hangs}/prefix")), short).await,
        failed("no answer within 50ms")
    );

    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let MetricAnswer::Failed(why) = asked(flags(format!("http://{gone}")), WITHIN).await else {
        panic!("nobody is there")
    };
    assert!(why.starts_with("could not connect to it: "), "{why}");
}

#[tokio::test]
async fn a_server_that_nobody_named_is_not_asked() {
    let asker = Asker::default();

    let answer = asker.ask("other".parse().unwrap(), "up".to_owned(), WITHIN).await;

    assert_eq!(answer, failed("this coordinator was not told of a source of metrics other"));
}

fn token_file(folder: &Path, token: &str, mode: u32) -> std::path::PathBuf {
    let path = folder.join("token");
    std::fs::write(&path, token).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path
}

#[tokio::test]
async fn a_token_is_shown_and_only_where_nobody_listens_in() {
    let folder = tempfile::tempdir().unwrap();
    let path = token_file(folder.path(), "s3cret\n", 0o600);
    let token = Some("Bearer s3cret".to_owned());
    let body = vector(&["1"]);
    let address = serve(Answers { status: 200, body, token, ..Answers::default() }).await;
    let with_token = |url: String| SourceFlags {
        tokens: vec![("main".parse().unwrap(), path.clone())],
        ..flags(url)
    };

    let url = format!("http://{address}/prefix");
    assert_eq!(asked(flags(url.clone()), WITHIN).await, failed("it answered 401 Unauthorized"));
    assert_eq!(asked(with_token(url), WITHIN).await, MetricAnswer::Number(1.0));
    let refused = with_token("http://prometheus:9090".to_owned()).open().err().unwrap();
    assert_eq!(
        refused.to_string(),
        "--metrics-token main: would cross the network in the clear; write https://"
    );
    token_file(folder.path(), "s3cret", 0o644);
    let refused = with_token(format!("http://{address}")).open().err().unwrap().to_string();
    assert!(refused.contains("0644") && !refused.contains("s3cret"), "{refused}");
}

#[test]
fn sources_that_cannot_be_asked_are_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let no_ca = folder.path().join("ca.pem");
    std::fs::write(&no_ca, "nothing").unwrap();
    let refused = |flags: SourceFlags| flags.open().err().unwrap().to_string();
    let url = |url: &str| refused(flags(url.to_owned()));
    let twice = SourceFlags {
        urls: vec![
            ("main".parse().unwrap(), "http://a".to_owned()),
            ("main".parse().unwrap(), "http://b".to_owned()),
        ],
        ..SourceFlags::default()
    };
    let stray = SourceFlags {
        tokens: vec![("mian".parse().unwrap(), no_ca.clone())],
        ..flags("http://a".to_owned())
    };
    let broken = SourceFlags {
        cas: vec![("main".parse().unwrap(), no_ca.clone())],
        ..flags("https://a".to_owned())
    };

    insta::assert_snapshot!(
        [
            url("prometheus:9090"),
            url("ftp://prometheus"),
            url("http://ann:word@prometheus"),
            url("http://prometheus/?x=1"),
            url("https://prometheus"),
            refused(twice),
            refused(stray),
            refused(broken).replace(&no_ca.display().to_string(), "ca.pem"),
        ]
        .join("\n"),
        @"
        --metrics main: begins neither with http:// nor with https://
        --metrics main: begins neither with http:// nor with https://
        --metrics main: has a name or a password in it; put a token into a file: --metrics-token
        --metrics main: has a query; write the address alone
        --metrics main: says nothing of whom to trust; give --metrics-ca main=FILE, such as /etc/ssl/certs/ca-certificates.crt for all authorities of the system
        --metrics main: is given twice
        --metrics-token mian: there is no such source; name it with --metrics mian=URL
        --metrics-ca main: ca.pem: could not set up TLS: the PEM text holds no certificate, or a broken one
        "
    );
}
