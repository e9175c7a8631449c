//! Tests of programs: what is refused, and how one is written down.

use cutover_common::ErrorChain;
use serde_json::{Value, json};

use super::*;

fn service(number: u16) -> Value {
    json!({
        "application": format!("app-{number}"),
        "listen": format!("127.0.0.1:{}", 20_000 + number),
        "protocol": "http",
        "route": {
            "flow": "open",
            "upstreams": [
                { "name": "blue", "address": "127.0.0.1:9001", "weight": 1000, "is_healthy": true },
                { "name": "green", "address": "127.0.0.1:9002", "weight": 0, "is_healthy": false },
            ],
        },
    })
}

fn program(services: Vec<Value>) -> Program {
    serde_json::from_value(json!({ "revision": 7, "services": services })).unwrap()
}

/// A program of one service in which one field, named by a JSON pointer, is different.
fn with(pointer: &str, value: Value) -> Program {
    let mut service = service(1);
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    match service.pointer_mut(parent).unwrap() {
        Value::Object(map) => drop(map.insert(field.to_owned(), value)),
        Value::Array(list) => list[field.parse::<usize>().unwrap()] = value,
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
            panic!("{other} has no field")
        }
    }
    program(vec![service])
}

fn refusal(program: &Program) -> String {
    ErrorChain(&program.check().unwrap_err()).to_string()
}

#[test]
fn a_program_survives_being_written_and_read() {
    let before = with(
        "/route/flow",
        json!({ "hold": { "for_ms": 5000, "requests_max": 10, "bytes_max": 1000 } }),
    );
    before.check().unwrap();

    let text = serde_json::to_string(&before).unwrap();

    assert_eq!(serde_json::from_str::<Program>(&text).unwrap(), before);
}

#[test]
fn an_unknown_field_is_refused_and_never_passed_over() {
    let mut service = service(1);
    service["route"]["wieghts"] = json!(1);
    let text = json!({ "revision": 1, "services": [service] });

    assert!(serde_json::from_value::<Program>(text).is_err());
}

#[test]
fn a_program_is_bounded() {
    let services: Vec<Value> = (0..=256).map(service).collect();
    program(services[..256].to_vec()).check().unwrap();
    assert!(refusal(&program(services)).contains("257 services"));

    let upstream = |n: u16| {
        json!({ "name": format!("n{n}"), "address": format!("127.0.0.1:{}", 1000 + n),
                "weight": 1, "is_healthy": true })
    };
    let upstreams: Vec<Value> = (0..=512).map(upstream).collect();
    with("/route/upstreams", json!(upstreams[..512])).check().unwrap();
    assert!(refusal(&with("/route/upstreams", json!(upstreams))).contains("513 upstreams"));
}

#[test]
fn what_must_be_unique_is() {
    let twice = program(vec![service(1), service(1)]);
    assert!(refusal(&twice).contains("stands in the program twice"));
    let mut second = service(2);
    second["listen"] = service(1)["listen"].clone();
    assert!(refusal(&program(vec![service(1), second])).contains("two services listen on"));
    let same_name = with("/route/upstreams/1/name", json!("blue"));
    assert!(refusal(&same_name).contains("upstream blue stands in it twice"));
    let same_address = with("/route/upstreams/1/address", json!("127.0.0.1:9001"));
    assert!(refusal(&same_address).contains("two upstreams have the address"));
}

#[test]
fn what_lets_requests_through_is_judged_when_it_is_read() {
    let both = json!({ "header": "x-new", "value": "1",
                       "cookie": { "name": "new", "value": "1" }, "upstream": "blue" });
    let header = json!({ "header": "x-new", "value": "1", "upstream": "blue" });
    let cookie = json!({ "cookie": { "name": "new", "value": "1" }, "upstream": "blue" });
    for text in [both, header, cookie] {
        let read: Allow = serde_json::from_value(text.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), text);
    }

    let cases = [
        (json!({ "upstream": "blue" }), "neither a header nor a cookie"),
        (json!({ "header": "x-new", "upstream": "blue" }), "1 to 128 visible characters"),
        (json!({ "header": "Host", "value": "1", "upstream": "blue" }), "cannot look at it"),
        (json!({ "cookie": { "name": "a;b", "value": "1" }, "upstream": "blue" }), "no cookie's"),
        (json!({ "cookie": { "name": "new", "value": "1;" }, "upstream": "blue" }), "no text"),
        (json!({ "cookies": { "name": "new", "value": "1" }, "upstream": "blue" }), "unknown"),
    ];
    for (text, reason) in cases {
        let error = serde_json::from_value::<Allow>(text.clone()).unwrap_err().to_string();
        assert!(error.contains(reason), "{text}: {error}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_its_reason() {
    let cases = [
        ("/listen", json!("127.0.0.1:0"), "port 0"),
        ("/route/upstreams/0/weight", json!(1001), "weight 1001"),
        ("/route/upstreams/0/address", json!("0.0.0.0:80"), "nothing can connect"),
        ("/route/upstreams/0/address", json!("127.0.0.1:20001"), "in a circle"),
        (
            "/route/allow",
            json!({ "header": "x-new", "value": "1", "upstream": "red" }),
            "reached on purpose and is not among",
        ),
        (
            "/route/flow",
            json!({ "hold": { "for_ms": 0, "requests_max": 1, "bytes_max": 1 } }),
            "for_ms",
        ),
        ("/route/sticky", json!({ "cookie": { "name": "a;b" } }), "is no name"),
        ("/limits", json!({ "head_bytes_max": 100 }), "head_bytes_max is 100"),
        ("/limits", json!({ "idle_ms": 0 }), "idle_ms is 0"),
        ("/accepts_proxy_protocol", json!(true), "trusts nobody"),
        ("/tls", json!({ "certificate": "a.pem", "key": "/b.pem" }), "not absolute"),
    ];
    for (pointer, value, reason) in cases {
        let text = refusal(&with(pointer, value));
        assert!(text.contains(reason), "{pointer}: {text}");
    }
    let mut tcp = service(1);
    tcp["protocol"] = json!("tcp");
    program(vec![tcp.clone()]).check().unwrap();
    tcp["route"]["sticky"] = json!({ "header": { "name": "x-user" } });
    assert!(refusal(&program(vec![tcp])).contains("only for HTTP"));
}

#[test]
fn a_name_of_an_upstream_is_plain_text() {
    for good in ["blue", "web-1", "web-1.green", "9"] {
        assert!(good.parse::<UpstreamName>().is_ok(), "{good}");
    }
    for bad in ["", "-a", "a.", "A", "a b", "a\n", "a\"", &"a".repeat(129)] {
        assert!(bad.parse::<UpstreamName>().is_err(), "{bad:?}");
    }
}
