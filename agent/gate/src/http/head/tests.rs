//! Tests of heads: what is taken off, what is written down, what is refused.

use super::*;

fn client(is_trusted: bool) -> Client {
    Client::new(SocketAddr::from(([192, 0, 2, 7], 1234)), is_trusted, false)
}

fn request(uri: &str, headers: &[(&str, &str)]) -> Request<()> {
    let mut builder = Request::builder().uri(uri);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(()).unwrap()
}

fn prepared(uri: &str, headers: &[(&str, &str)]) -> HeaderMap {
    let mut request = request(uri, headers);
    prepare(&mut request, &client(false)).unwrap();
    request.headers().clone()
}

#[test]
fn what_belongs_to_one_connection_is_taken_off() {
    let headers = prepared(
        "/",
        &[
            ("host", "a.example"),
            ("connection", "keep-alive, X-Secret"),
            ("x-secret", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "gzip, trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("expect", "100-continue"),
            ("x-kept", "1"),
        ],
    );

    let left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
    assert_eq!(
        left,
        [
            "host",
            "x-kept",
            "te",
            "x-forwarded-for",
            "forwarded",
            "x-forwarded-proto",
            "x-forwarded-host"
        ]
    );
    assert_eq!(headers["te"], "trailers");
}

#[test]
fn nobody_takes_off_the_host_by_naming_it() {
    let headers = prepared("/", &[("host", "a.example"), ("connection", "host, content-type")]);

    assert_eq!(headers["host"], "a.example");
}

#[test]
fn an_upgrade_is_kept_when_it_is_asked_for_properly() {
    let wanted = [("host", "a"), ("connection", "Upgrade"), ("upgrade", "websocket")];

    assert_eq!(prepared("/", &wanted)["upgrade"], "websocket");
    assert!(!prepared("/", &wanted[..2]).contains_key("connection"));
}

#[test]
fn a_client_cannot_invent_its_address_and_a_trusted_peer_can_tell_it() {
    let invented = [("host", "a"), ("x-forwarded-for", "10.0.0.1"), ("forwarded", "for=10.0.0.1")];
    let headers = prepared("/", &invented);
    assert_eq!(headers["x-forwarded-for"], "192.0.2.7");
    assert_eq!(headers["forwarded"], "for=192.0.2.7;proto=http");

    let mut request = request("/", &invented);
    prepare(&mut request, &client(true)).unwrap();
    assert_eq!(request.headers()["x-forwarded-for"], "10.0.0.1, 192.0.2.7");
}

#[test]
fn no_other_spelling_of_who_asks_passes() {
    let invented = [
        "X_Forwarded_For",
        "X-Forwarded_Host",
        "X_Real_IP",
        "X-Real-Ip",
        "X-Forwarded-Port",
        "x-forwarded-prefix",
        "X-Forwarded-Anything",
    ];
    let kept = ["x-forwarder", "x-real-ips", "forwarded-for", "x-forward"];
    let given = invented.iter().chain(&kept).map(|name| (*name, "10.0.0.1"));
    let given: Vec<(&str, &str)> = given.chain([("host", "a")]).collect();

    let headers = prepared("/", &given);
    for name in invented {
        assert!(!headers.get_all(name).iter().any(|it| it == "10.0.0.1"), "{name}");
    }
    for name in kept {
        assert!(headers.contains_key(name), "{name}");
    }

    let mut request = request("/", &given);
    prepare(&mut request, &client(true)).unwrap();
    assert_eq!(request.headers()["x-real-ip"], "10.0.0.1", "of a trusted peer");
}

#[test]
fn cookies_that_come_one_by_one_are_one_header_for_an_instance() {
    let given = [("host", "a"), ("cookie", "a=1"), ("x-other", "1"), ("cookie", "b=2; c=3")];
    let cookies = |version| {
        let mut request = request("/", &given);
        *request.version_mut() = version;
        prepare(&mut request, &client(false)).unwrap();
        let cookies = request.headers().get_all("cookie").iter().map(|it| it.to_str().unwrap());
        cookies.map(str::to_owned).collect::<Vec<_>>()
    };

    assert_eq!(cookies(Version::HTTP_2), ["a=1; b=2; c=3"]);
    assert_eq!(cookies(Version::HTTP_11), ["a=1", "b=2; c=3"], "as its client sends them");
}

#[test]
fn the_host_comes_from_the_address_where_that_names_one() {
    let mut request = request("http://real.example/a?b", &[("host", "other.example")]);
    prepare(&mut request, &client(false)).unwrap();

    assert_eq!(request.headers()["host"], "real.example");
    assert_eq!(request.uri(), "/a?b");
}

#[test]
fn what_nobody_can_send_on_is_refused() {
    let refused =
        |headers: &[(&str, &str)]| prepare(&mut request("/", headers), &client(false)).err();

    assert_eq!(refused(&[]), Some(Refusal::Malformed));
    assert_eq!(refused(&[("host", "a"), ("host", "b")]), Some(Refusal::Malformed));
    let mut connect = request("a.example:443", &[("host", "a.example:443")]);
    *connect.method_mut() = Method::CONNECT;
    assert_eq!(prepare(&mut connect, &client(false)), Err(Refusal::Connect));
}

#[test]
fn a_cookie_is_found_by_its_whole_name() {
    let headers = prepared("/", &[("host", "a"), ("cookie", "xstay=1; stay=2; stays=3")]);

    assert_eq!(cookie(&headers, "stay"), Some(&b"2"[..]));
    assert_eq!(cookie(&headers, "sta"), None);
}

#[test]
fn a_cookie_is_found_whatever_others_stand_beside_it() {
    let beside = HeaderValue::from_bytes(b"name=J\xc3\xb6rg;stay=2").unwrap();
    let headers = [(COOKIE, beside)].into_iter().collect();

    assert_eq!(cookie(&headers, "stay"), Some(&b"2"[..]));
}

#[test]
fn a_cookie_or_a_header_lets_a_request_through() {
    let by_cookie = Allow::Cookie("canary=1".parse().unwrap());
    for (cookies, lets_through) in [
        (&["canary=1"][..], true),
        (&["stay=2; canary=1"], true),
        (&["canary=1; stay=2"], true),
        (&["stay=2;canary=1;other=3"], true),
        (&["canary=\"1\"; stay=2"], true),
        (&["stay=2", "canary=1"], true),
        (&["canary=1", "canary=2"], true),
        (&["canary=2; canary=1"], false),
        (&["xcanary=1"], false),
        (&["canaryx=1"], false),
        (&["x-canary=1; canary-=1"], false),
        (&["Canary=1"], false),
        (&["canary=10"], false),
        (&["canary=01"], false),
        (&["canary=\"1"], false),
        (&["canary="], false),
        (&["canary"], false),
        (&["stay=canary=1"], false),
        (&["stay=2, canary=1"], false),
        (&[], false),
    ] {
        let given = [("host", "a"), ("x-canary", "1")].into_iter();
        let given: Vec<_> = given.chain(cookies.iter().map(|it| ("cookie", *it))).collect();
        for version in [Version::HTTP_11, Version::HTTP_2] {
            let mut request = request("/", &given);
            *request.version_mut() = version;
            prepare(&mut request, &client(false)).unwrap();
            assert_eq!(carries(request.headers(), &by_cookie), lets_through, "{cookies:?}");
        }
    }

    let either = Allow::Either("X-Canary=1".parse().unwrap(), "canary=1".parse().unwrap());
    let by_header = Allow::Header("X-Canary=1".parse().unwrap());
    for (given, reach) in [
        (&[("x-canary", "1")][..], [true, true]),
        (&[("cookie", "canary=1")], [true, false]),
        (&[("x-canary", "2"), ("cookie", "canary=1")], [true, false]),
        (&[("x-canary", "1"), ("cookie", "canary=2")], [true, true]),
        (&[("x-canary", "2"), ("cookie", "canary=2")], [false, false]),
        (&[], [false, false]),
    ] {
        let headers = prepared("/", &[&[("host", "a")], given].concat());
        assert_eq!([&either, &by_header].map(|it| carries(&headers, it)), reach, "{given:?}");
    }
}

#[test]
fn http_2_is_not_asked_of_an_instance() {
    for (wanted, is_passed) in
        [("websocket", true), ("h2c", false), ("websocket, H2C", false), ("h2", false)]
    {
        let headers = prepared(
            "/",
            &[("host", "a"), ("connection", "upgrade, http2-settings"), ("upgrade", wanted)],
        );
        assert_eq!(headers.contains_key("upgrade"), is_passed, "{wanted}");
        assert_eq!(headers.contains_key("connection"), is_passed, "{wanted}");
    }
}
