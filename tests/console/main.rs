//! The console in a real Chromium: every screen of every role by a crawler, every door, the work of a developer from the
//! invitation to an image that is compared and deleted, and what must not be possible.
//!
//! `make console` runs these after `make tools`: they need the packages of Node.js under `target/tools` and Chromium. A missing
//! program fails its scene; nothing is skipped. Pictures of the screens are left in `target/console`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod attached;
mod stage;
#[path = "../support/mod.rs"]
mod support;
mod world;

use std::process::Command;

use support::Setup;

/// Plays a scene before a server of its own with something to see.
#[track_caller]
fn play(scene: &str) {
    let server = Setup::plain().start();
    let seeds = world::fill(&server);
    stage::play(&server, scene, &seeds, |program, args| {
        let mut command = Command::new(program);
        command.args(args);
        command
    });
}

/// Every page that a role finds by following links: without a violation by axe in light and dark, without anything that the
/// policy forbids, no wider than a phone, light on the wire; and which pages each role finds.
#[test]
fn every_screen_of_every_role_is_sound() {
    play("screens.mjs");
}

/// Forms and files: a form is the session's own, a file is kept for ever and packed, a page never.
#[test]
fn what_must_not_be_possible_is_not() {
    play("safety.mjs");
}

/// Two tabs, the way back, reloading, no script, the keyboard alone.
#[test]
fn pages_are_used_as_people_do() {
    play("ways.mjs");
}

/// A developer's first day, from the invitation to an image that is compared and deleted; with docker, it is played by
/// `tests/clients`.
#[test]
fn from_the_invitation_to_an_image_that_is_compared_and_deleted() {
    play("story.mjs");
}

/// Every way in: log-in, lock, invitation, second factors, passkeys, lost passwords, command lines.
#[test]
fn every_door_opens_as_it_should() {
    play("doors.mjs");
}
