//! helm: charts as OCI artifacts.

use crate::desk::Desk;
use crate::support::server::{ADMIN, ADMIN_PASSWORD};

#[test]
fn helm_pushes_and_pulls_a_chart() {
    let desk = Desk::new();
    desk.run("helm", &["create", "pier"]);
    desk.run("helm", &["package", "pier", "--version", "1.2.3+build.4"]);
    let archive = "pier-1.2.3+build.4.tgz";
    let charts = format!("oci://{}", desk.reference("copies/charts"));
    desk.fails("helm", &["push", archive, &charts]);
    desk.run_with("helm", &["registry", "login", &desk.host(), "-u", ADMIN, "--password-stdin"], ADMIN_PASSWORD);
    desk.run("helm", &["push", archive, &charts]);
    std::fs::create_dir(desk.path("out")).unwrap();
    desk.run("helm", &["pull", &format!("{charts}/pier"), "--version", "1.2.3+build.4", "-d", "out"]);
    assert_eq!(std::fs::read(desk.path("out").join(archive)).unwrap(), std::fs::read(desk.path(archive)).unwrap());
    let shown = desk.run("helm", &["show", "chart", &format!("{charts}/pier"), "--version", "1.2.3+build.4"]);
    assert!(shown.contains("version: 1.2.3+build.4"), "{shown}");
    let rendered = desk.run("helm", &["template", "t", &format!("{charts}/pier"), "--version", "1.2.3+build.4"]);
    assert!(rendered.contains("kind: Deployment"), "{rendered}");
    desk.run("helm", &["registry", "logout", &desk.host()]);
}
