//! containerd's own client before a daemon of the journey's own.

use crate::crane::{append, login};
use crate::desk::{Daemon, Desk};
use crate::support::server::{ADMIN, ADMIN_PASSWORD};

fn containerd(desk: &Desk) -> Daemon {
    let at = |name: &str| desk.path("containerd").join(name).display().to_string();
    let config = format!(
        "version = 2\nroot = \"{}\"\nstate = \"{}\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
         [grpc]\naddress = \"{}\"\n[ttrpc]\naddress = \"{}\"\n",
        at("root"),
        at("state"),
        at("c.sock"),
        at("t.sock")
    );
    let config = desk.write("containerd.toml", &config);
    desk.daemon("containerd", &["-c", &config], || {
        desk.command("ctr", &["-a", &at("c.sock"), "version"]).output().is_ok_and(|output| output.status.success())
    })
}

#[test]
fn ctr_pulls_and_pushes() {
    let desk = Desk::new();
    login(&desk);
    let image = desk.reference("app:v1");
    let digest = append(&desk, &image, "for containerd");
    let _daemon = containerd(&desk);
    let socket = desk.path("containerd/c.sock").display().to_string();
    let user = format!("{ADMIN}:{ADMIN_PASSWORD}");
    let ca = desk.server.ca_path().display().to_string();
    let access = ["--tlscacert", ca.as_str(), "--user", user.as_str()];
    let refused = desk.fails("ctr", &["-a", &socket, "images", "pull", "--tlscacert", &ca, &image]);
    assert!(refused.contains("authorization failed") || refused.contains("401"), "{refused}");
    desk.run("ctr", &[&["-a", &socket, "images", "pull", "--snapshotter", "native"], &access[..], &[&image]].concat());
    let pushed = desk.reference("copies/app:v1");
    let push = [&["-a", &socket, "images", "push"], &access[..], &[&pushed, &image]].concat();
    desk.run("ctr", &push);
    assert_eq!(desk.run("crane", &["digest", &pushed]).trim(), digest);
    desk.run("ctr", &push);
}
