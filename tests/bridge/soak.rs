//! Five minutes of eight streams with churn and faults, beside other tests; `tests/long soak` makes an hour of it.

use std::time::Duration;

#[test]
fn five_minutes_of_churn_and_faults_leave_the_one_who_stays_alone() {
    let minutes = std::env::var("SOAK_MINUTES").map_or(5.0, |text| text.parse().expect("a number of minutes"));
    crate::common::soak::run(Duration::from_secs_f64(minutes * 60.0));
}
