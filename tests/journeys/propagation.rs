//! A change is felt at every door within a second. `make propagation` prints how long each took.

use crate::support::{Setup, propagation};

#[test]
fn every_change_is_felt_at_every_door_within_a_second() {
    let server = Setup::plain().start();
    propagation::measure(&server, &server);
}
