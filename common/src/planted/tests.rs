//! Tests of planting: what the feature brings, and what is there without it.

#[cfg(not(feature = "planted-bugs"))]
#[test]
fn without_the_feature_the_wrong_expression_is_not_even_compiled() {
    let right = planted!(NoSuchBug: no_such_function(no_such_variable); 7);

    assert_eq!(right, 7);
}

#[cfg(feature = "planted-bugs")]
mod with_the_feature {
    use std::collections::BTreeSet;

    use crate::planted::{Bug, plant, which};

    #[test]
    fn a_bug_is_there_on_the_thread_that_planted_it_until_it_is_taken_out() {
        let floor = || planted!(FloorOffByOne: 6; 7);
        assert_eq!((which(), floor()), (None, 7));

        plant(Some(Bug::FloorOffByOne));
        assert_eq!((which(), floor()), (Some(Bug::FloorOffByOne), 6));
        std::thread::scope(|scope| {
            let elsewhere = scope.spawn(floor).join().expect("it does not panic");
            assert_eq!(elsewhere, 7);
        });

        plant(Some(Bug::SoakShortened));
        assert_eq!(floor(), 7);
        plant(None);
        assert_eq!((which(), floor()), (None, 7));
    }

    #[test]
    fn every_bug_has_the_name_of_its_variant_and_is_found_by_it() {
        for bug in Bug::ALL {
            let mut kebab = String::new();
            for letter in format!("{bug:?}").chars() {
                if letter.is_ascii_uppercase() && !kebab.is_empty() {
                    kebab.push('-');
                }
                kebab.push(letter.to_ascii_lowercase());
            }
            assert_eq!(bug.name(), kebab);
            assert_eq!(kebab.parse(), Ok(*bug));
        }
        let names: BTreeSet<_> = Bug::ALL.iter().map(|bug| bug.name()).collect();
        assert_eq!(names.len(), Bug::ALL.len());
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_nearest() {
        let refused = "flap-forgotten".parse::<Bug>().unwrap_err().to_string();

        assert!(refused.contains("there is no planted bug \"flap-forgotten\""), "{refused}");
        assert!("soak-shortend".parse::<Bug>().unwrap_err().to_string().contains("soak-shortened"));
    }

    #[test]
    fn every_bug_says_which_promise_it_breaks_and_how_that_shows() {
        for bug in Bug::ALL {
            let (kind, number) = bug.promise().split_at(1);
            assert!("FEADGS".contains(kind) && number.parse::<u8>().is_ok(), "{bug}");
            assert!(bug.wrong().ends_with('.') && !bug.wrong().starts_with(' '), "{bug}");
            assert!(!bug.expected().is_empty() && !bug.expected().ends_with('.'), "{bug}");
        }
    }
}
