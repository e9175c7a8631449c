//! Scripts as text.

use cutover_sim::{script::Script, swarm};
use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn every_script_is_read_as_it_was_printed(seed in any::<u64>()) {
        let script = swarm::draw(seed);
        let text = script.print();

        prop_assert_eq!(Script::parse(&text).expect("what is printed can be read"), script);
        prop_assert!(text.lines().count() < 400);
    }
}

#[test]
fn a_text_that_is_no_script_is_refused_with_its_line() {
    let text = swarm::draw(1).print().replace("hosts = ", "hostz = ");

    let error = Script::parse(&text).expect_err("a field is missing");
    let cause = std::error::Error::source(&error).expect("it says why").to_string();
    assert!(cause.contains("hosts"), "{cause}");
}
