//! An hour of eight streams with churn and faults: `tests/long soak`. `LONG_MINUTES` says how long it is instead.

mod common;

use std::time::Duration;

#[test]
#[ignore = "long: tests/long runs it"]
fn an_hour_of_churn_and_faults_leaves_the_one_who_stays_alone() {
    let minutes = std::env::var("LONG_MINUTES").map_or(60.0, |text| text.parse().expect("a number of minutes"));
    common::soak::run(Duration::from_secs_f64(minutes * 60.0));
}
