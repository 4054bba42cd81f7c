//! Who does what one should do at a time.

use super::*;

pub async fn a_duty_is_one_callers_until_it_is_given_back(state: &dyn State) {
    let first = state.take_duty("mirror 1 us").await.unwrap().unwrap();
    assert!(first.holds());
    assert!(state.take_duty("mirror 1 us").await.unwrap().is_none());
    let other = state.take_duty("mirror 1 eu").await.unwrap();
    assert!(other.is_some(), "another piece of work");
    drop(first);
    let again = state.take_duty("mirror 1 us").await.unwrap();
    assert!(again.is_some_and(|duty| duty.holds()));
}
