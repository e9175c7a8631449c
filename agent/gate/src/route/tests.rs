//! Tests of the choice: shares, what sticks, what is never reached.

use serde_json::{Value, json};

use super::*;

fn upstream(name: &str, weight: u16) -> Value {
    json!({ "name": name, "address": "127.0.0.1:9001", "weight": weight, "is_healthy": true })
}

fn table(upstreams: Value) -> Table {
    let route = json!({ "flow": "open", "upstreams": upstreams,
                        "allow": { "header": "X-New", "value": "1", "upstream": "green" } });
    Table::new(&serde_json::from_value(route).unwrap())
}

fn choose(table: &Table, wish: Wish) -> Option<usize> {
    table.choose(wish, &[], |_| false)
}

fn share_of(table: &Table, position: usize, turns: std::ops::Range<u64>) -> usize {
    let choice =
        |turn| choose(table, Wish { point: point_of_turn(turn), ..Wish::default() }).unwrap();
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

    assert_eq!(choose(&table, Wish::default()), None);
    assert_eq!([0, 1, 2].map(|position| table.gives_to(position)), [false, false, true]);
}

#[test]
fn what_is_allowed_reaches_its_upstream_without_weight_but_not_without_health() {
    let wish = Wish { is_allowed: true, ..Wish::default() };
    let mut green = upstream("green", 0);
    let blue = upstream("blue", 1_000);

    assert_eq!(choose(&table(json!([blue, green])), wish), Some(1));
    green["is_healthy"] = json!(false);
    assert_eq!(choose(&table(json!([blue, green])), wish), Some(0));
}

#[test]
fn a_request_of_another_gate_stays_on_this_host() {
    let mut peer = upstream("web-2", 1_000);
    peer["kind"] = json!("gate");
    let wish = Wish { came_from: CameFrom::Gate, ..Wish::default() };

    let with_slot = table(json!([peer, upstream("green", 1)]));
    assert_eq!(choose(&with_slot, wish), Some(1));
    assert_eq!(with_slot.choose(wish, &[1], |_| false), None);
}

#[test]
fn from_an_edge_it_goes_one_gate_further_and_never_to_another_edge() {
    let of_kind = |name: &str, kind: &str| {
        let mut upstream = upstream(name, 1_000);
        upstream["kind"] = json!(kind);
        upstream
    };
    let edge = table(json!([of_kind("host-a", "host"), upstream("green", 0)]));
    let out = table(json!([of_kind("peer-0", "gate"), upstream("green", 0)]));
    let goes =
        |table: &Table, came_from| choose(table, Wish { came_from, ..Wish::default() }).is_some();

    let all = [CameFrom::Client, CameFrom::Edge, CameFrom::Gate];
    assert_eq!(all.map(|from| goes(&edge, from)), [true, false, false]);
    assert_eq!(all.map(|from| goes(&out, from)), [true, true, false]);
}

#[test]
fn a_second_try_goes_to_a_host_that_is_known_and_one_that_rests_is_the_last_resort() {
    for kind in ["host", "gate"] {
        assert_a_second_try_goes_to_one_that_is_known(kind);
    }
}

fn assert_a_second_try_goes_to_one_that_is_known(kind: &str) {
    let host = |name: &str, is_in_doubt: bool| {
        let mut upstream = upstream(name, 1_000);
        upstream["kind"] = json!(kind);
        upstream["is_in_doubt"] = json!(is_in_doubt);
        upstream
    };
    let hosts = table(json!([
        host("host-a", true),
        host("host-b", true),
        host("host-c", false),
        upstream("green", 0),
    ]));
    let all = |tried: &[usize], rests: &[usize]| {
        let mut chosen: Vec<usize> = (0..100)
            .filter_map(|turn| {
                let wish = Wish { point: point_of_turn(turn), ..Wish::default() };
                hosts.choose(wish, tried, |at| rests.contains(&at))
            })
            .collect();
        chosen.sort_unstable();
        chosen.dedup();
        chosen
    };

    assert_eq!(all(&[], &[]), [0, 1, 2]);
    assert_eq!(all(&[0], &[]), [2]);
    assert_eq!(all(&[2], &[]), [0, 1]);
    assert_eq!(all(&[], &[0, 2]), [1]);
    assert_eq!(all(&[1], &[0, 2]), [0, 2]);
    assert_eq!(all(&[0, 1, 2], &[]), [0; 0]);
}

#[test]
fn who_sticks_moves_only_as_far_as_the_weights_do() {
    let at = |green: u16| table(json!([upstream("green", green), upstream("blue", 1_000 - green)]));
    let of = |table: &Table, client: u32| {
        let point = point_of_client(format!("client-{client}").as_bytes());
        choose(table, Wish { point, ..Wish::default() }).unwrap()
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
        assert_eq!(choose(&one, wish).map(|at| 1 - at), choose(&other, wish));
    }
}
