//! A comparison keeps its promises on every outcome of small games.

use super::*;

fn pair(pairing: Pairing, bad: [f64; 2], exposure: [f64; 2]) -> HostPair {
    HostPair { host: 0, pairing, bad, exposure, other_exposure: [0.0; 2] }
}

fn chance_of(successes: u32, trials: u32, chance: f64) -> f64 {
    let mut ways = 1.0;
    for step in 0..successes {
        ways *= f64::from(trials - step) / f64::from(step + 1);
    }
    (0..successes).fold(ways, |product, _| product * chance)
        * (successes..trials).fold(1.0, |product, _| product * (1.0 - chance))
}

/// Returns the mean of e^gain of each bet over all outcomes when both sides fail with `chance`.
fn mean_gains(law: Law, trials: [u32; 2], chance: f64) -> [f64; POINTS] {
    let grid = Grid::new(ln(1.5), ln(60.0));
    let table = Table::new(&grid, law);
    let mut means = [0.0; POINTS];
    for control in 0..=trials[0] {
        for canary in 0..=trials[1] {
            let weight =
                chance_of(control, trials[0], chance) * chance_of(canary, trials[1], chance);
            let bad = [f64::from(control), f64::from(canary)];
            let mut gains = [0.0; POINTS];
            table.gain(&pair(Pairing::Paired, bad, trials.map(f64::from)), &mut gains);
            means.iter_mut().zip(gains).for_each(|(mean, gain)| *mean += weight * exp(gain));
        }
    }
    means
}

#[test]
fn no_bet_wins_in_the_mean_when_there_is_no_difference() {
    for trials in [[1, 1], [3, 1], [1, 4], [6, 2], [5, 5]] {
        for chance in [0.001, 0.1, 0.3, 0.5, 0.9] {
            for law in [Law::Rare, Law::Part(0.01), Law::Part(0.4), Law::Part(chance)] {
                let means = mean_gains(law, trials, chance);
                let largest = means.into_iter().fold(0.0, f64::max);
                assert!(largest <= 1.0 + 1e-12, "{trials:?} {chance} {law:?}: {largest}");
            }
        }
    }
}

#[test]
fn a_fair_bet_on_rare_events_wins_nothing_and_loses_nothing() {
    // Given four events, the canary's are binomial with its part of the exposure.
    let grid = Grid::new(ln(1.5), ln(60.0));
    let table = Table::new(&grid, Law::Rare);
    let mut means = [0.0; POINTS];
    for canary in 0..=4 {
        let bad = [f64::from(4 - canary), f64::from(canary)];
        let mut gains = [0.0; POINTS];
        table.gain(&pair(Pairing::Paired, bad, [700.0, 300.0]), &mut gains);
        let weight = chance_of(canary, 4, 0.3);
        means.iter_mut().zip(gains).for_each(|(mean, gain)| *mean += weight * exp(gain));
    }

    assert!(means.iter().all(|mean| (mean - 1.0).abs() < 1e-12), "{means:?}");
}

/// Returns the mean of the e-value over all outcomes of `rounds` rounds of one trial a side, and
/// the chance that it ever reaches `bar`.
fn play(test: &Comparison, rounds: u32, chance: f64, ratio: f64, bar: f64) -> (f64, f64) {
    let e_value = exp(test.finding().log_evidence);
    if rounds == 0 {
        return (e_value, f64::from(u8::from(e_value >= bar)));
    }
    let (mut mean, mut reached) = (0.0, 0.0);
    for control in 0..=1 {
        for canary in 0..=1 {
            let weight = chance_of(control, 1, chance) * chance_of(canary, 1, chance * ratio);
            let mut next = test.clone();
            let bad = [f64::from(control), f64::from(canary)];
            next.observe(&[pair(Pairing::Paired, bad, [1.0, 1.0])], Law::Rare);
            let (later_mean, later_reached) = play(&next, rounds - 1, chance, ratio, bar);
            mean += weight * later_mean;
            reached += weight * if e_value >= bar { 1.0 } else { later_reached };
        }
    }
    (mean, reached)
}

#[test]
fn a_whole_game_of_looks_wins_nothing_without_a_difference() {
    let test = Comparison::new(ln(1.5), 0.1);
    for chance in [0.1, 0.3, 0.5] {
        let (mean, reached) = play(&test, 7, chance, 1.0, 4.0);
        assert!(mean <= 1.0 + 1e-9, "{chance}: {mean}");
        assert!(reached <= 0.25, "{chance}: {reached}");
    }
    // The game can be won: here by a canary that fails nine times as often.
    let (mean, _) = play(&test, 7, 0.1, 9.0, 4.0);
    assert!(mean > 2.0, "{mean}");
}

#[test]
fn beginning_anew_keeps_the_stakes() {
    let mut restarts = Restarts::none();
    assert!(restarts.total(0.0, 0.0) < 0.0);
    let mut set_aside = 0.0;
    for _ in 0..10_000 {
        set_aside += exp(restarts.total(f64::NEG_INFINITY, 0.0));
        restarts.count();
    }
    assert!((set_aside - RECENT_PART).abs() < 1e-4, "{set_aside}");
}

#[test]
fn events_without_anybody_to_compare_with_are_no_evidence() {
    let mut test = Comparison::new(ln(1.5), 0.1);
    for pairing in [Pairing::Paired, Pairing::Pooled] {
        test.observe(&[pair(pairing, [0.0, 50.0], [0.0, 100.0])], Law::Rare);
        test.observe(&[pair(pairing, [50.0, 0.0], [100.0, 0.0])], Law::Rare);
    }

    let nothing = Comparison::new(ln(1.5), 0.1).finding();
    assert_eq!(test.finding().log_evidence, nothing.log_evidence);
    assert_eq!(test.finding().whole, nothing.whole);
}

#[test]
fn a_host_that_is_worse_with_both_versions_says_nothing_against_the_canary() {
    let mut test = Comparison::new(ln(1.5), 0.1);
    for _ in 0..200 {
        let good = HostPair { host: 1, ..pair(Pairing::Paired, [1.0, 0.0], [900.0, 100.0]) };
        // It has a larger part of the canary's requests, so that a sum over hosts would mislead.
        let bad = pair(Pairing::Paired, [20.0, 20.0], [500.0, 500.0]);
        test.observe(&[bad, good], Law::Rare);
    }

    let finding = test.finding();
    assert!(finding.log_evidence < 0.0, "{finding:?}");
    assert!(finding.whole.ratio().is_some_and(|ratio| ratio < 1.05), "{finding:?}");
    assert!(finding.whole.rate(1) > 2.0 * finding.whole.rate(0));
}

#[test]
fn one_burst_is_one_event() {
    let mut test = Comparison::new(ln(1.5), 0.1);
    test.observe(&[pair(Pairing::Paired, [0.0, 1_000.0], [950.0, 1_000.0])], Law::Rare);

    assert!(test.finding().log_evidence < ln(3.0), "{:?}", test.finding());
}
