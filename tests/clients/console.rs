//! A developer's first day, in the console and with docker.

use serde_json::json;

use crate::desk::Desk;
use crate::docker::dockerd;
use crate::stage;

#[test]
fn invited_in_the_browser_pushed_with_docker_seen_compared_and_deleted() {
    let desk = Desk::new();
    let _daemon = dockerd(&desk);
    desk.server.api().create_project("main", "web", false);
    stage::play(&desk.server, "story.mjs", &json!({"docker": true}), |program, args| {
        let mut command = desk.command(program, args);
        command.env("NODE_EXTRA_CA_CERTS", desk.server.ca_path());
        command
    });
}
