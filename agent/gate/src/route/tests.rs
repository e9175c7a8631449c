//! Tests of the choice: shares, what sticks, what is never reached.

use serde_json::{Value, json};

use super::*;

fn upstream(name: &str, weight: u16) -> Value {
    json!({ "name": name, "address": "127.0.0.1:9001", "weight": weight, "is_healthy": true })
}

fn table(upstreams: Value) -> Table {
    let route = json!({ "flow": "open", "upstreams": upstreams,
                        "allow": { "header": "X-New", "upstream": "green" } });
    Table::new(&serde_json::from_value(route).unwrap())
}

fn share_of(table: &Table, position: usize, turns: std::ops::Range<u64>) -> usize {
    let choice =
        |turn| table.choose(Wish { point: point_of_turn(turn), ..Wish::default() }).unwrap();
    turns.filter(|turn| choice(*turn) == position).count()
}

#[test]
fn weights_are_kept_in_every_short_stretch() {
    let table = table(json!([upstream("blue", 900), upstream("green", 100)]));

    for begin in [0, 1_000, 123_456, u64::MAX - 5_000] {
        let green = share_of(&table, 1, begin..begin + 1_000);
        assert!((98..=102).contains(&green), "{green} of 1000 from {begin}");
    }
}

#[test]
fn one_without_weight_or_health_or_that_drains_gets_nothing() {
    let mut ill = upstream("blue", 1_000);
    ill["is_healthy"] = json!(false);
    let mut drains = upstream("red", 1_000);
    drains["drain"] = json!({ "requests_ms": 1, "long_lived_ms": 1 });
    let table = table(json!([ill, drains, upstream("green", 0)]));

    assert_eq!(table.choose(Wish::default()), None);
    assert_eq!([0, 1, 2].map(|position| table.gives_to(position)), [false, false, true]);
}

#[test]
fn the_header_reaches_its_upstream_without_weight_but_not_without_health() {
    let wish = Wish { is_allowed: true, ..Wish::default() };
    let mut green = upstream("green", 0);
    let blue = upstream("blue", 1_000);

    assert_eq!(table(json!([blue, green])).choose(wish), Some(1));
    green["is_healthy"] = json!(false);
    assert_eq!(table(json!([blue, green])).choose(wish), Some(0));
}

#[test]
fn a_request_of_another_gate_stays_on_this_host() {
    let mut peer = upstream("web-2", 1_000);
    peer["kind"] = json!("gate");
    let wish = Wish { came_from_gate: true, ..Wish::default() };

    let with_slot = table(json!([peer, upstream("green", 1)]));
    assert_eq!(with_slot.choose(wish), Some(1));
    assert_eq!(with_slot.choose(Wish { without: Some(1), ..wish }), None);
}

#[test]
fn who_sticks_moves_only_as_far_as_the_weights_do() {
    let at = |green: u16| table(json!([upstream("green", green), upstream("blue", 1_000 - green)]));
    let of = |table: &Table, client: u32| {
        let point = point_of_client(format!("client-{client}").as_bytes());
        table.choose(Wish { point, ..Wish::default() }).unwrap()
    };
    let (before, after) = (at(100), at(200));
    let moved = (0..2_000).filter(|it| of(&before, *it) != of(&after, *it)).count();

    // A tenth of all weight moved, and about a tenth of all clients, all in one direction.
    assert!((150..=250).contains(&moved), "{moved}");
    assert!((0..2_000).all(|it| of(&before, it) == 1
        || of(&after, it) == 1
        || of(&before, it) == of(&after, it)));
}

#[test]
fn the_order_in_a_program_means_nothing() {
    let one = table(json!([upstream("blue", 500), upstream("green", 500)]));
    let other = table(json!([upstream("green", 500), upstream("blue", 500)]));
    for turn in 0..100 {
        let wish = Wish { point: point_of_turn(turn), ..Wish::default() };
        assert_eq!(one.choose(wish).map(|at| 1 - at), other.choose(wish));
    }
}
