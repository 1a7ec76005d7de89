//! The commands that the console shows, pasted as they are: with a certificate of the server's own authority, and nothing but
//! the file that the console tells one to make.

use crate::crane::{append, login};
use crate::desk::Desk;
use crate::support::Api;
use crate::support::http::Call;
use crate::support::server::{ADMIN_PASSWORD, root};

/// Commands of a page, as its copy buttons have them.
fn commands(desk: &Desk, api: &Api, path: &str) -> Vec<String> {
    let page = Call::get(path).header("Cookie", api.cookie()).send(&desk.server.controller()).expect(200).text();
    let shown = page.split("<div class=\"command\"><pre><code>").skip(1);
    let plain = |text: &str| {
        let text = text.split("</code>").next().unwrap_or_default();
        let text = text.replace("&#60;", "<").replace("&#62;", ">").replace("&#34;", "\"").replace("&#39;", "'");
        text.replace("&#38;", "&")
    };
    shown.map(plain).collect()
}

#[track_caller]
fn one(commands: &[String], what: &str) -> String {
    let found = commands.iter().find(|command| command.contains(what));
    found.unwrap_or_else(|| panic!("no {what} in {commands:#?}")).clone()
}

/// Runs it in a shell that knows nothing of the authority but the file. What is done as root, the desk has done already.
#[track_caller]
fn paste(desk: &Desk, command: &str, input: &str) -> String {
    let tools = root().join("target/tools/bin");
    let script = format!("unset SSL_CERT_FILE\nexport PATH={}:$PATH\nsudo() {{ :; }}\n{command}", tools.display());
    desk.run_with("bash", &["-euc", &script], input)
}

#[test]
fn what_the_console_shows_for_helm_oras_and_cosign_works_when_pasted() {
    let desk = Desk::new();
    let api = desk.server.api();
    login(&desk);
    append(&desk, &desk.reference("copies/pier:v0"), "so that there is a page");

    let terminal = commands(&desk, &api, "/account/terminal");
    paste(&desk, &one(&terminal, "wharfinger-ca.crt <<"), "");
    let made = std::fs::read_to_string(desk.path("wharfinger-ca.crt")).unwrap();
    assert_eq!(made.trim(), std::fs::read_to_string(desk.server.ca_path()).unwrap().trim());
    // Without a terminal, it does not ask.
    let login = format!("{} --password-stdin", one(&terminal, "helm registry login"));
    paste(&desk, &login, ADMIN_PASSWORD);

    let push = commands(&desk, &api, "/orgs/main/repositories/copies/pier?tab=push");
    paste(&desk, &one(&push, "helm push"), "");
    paste(&desk, &one(&push, "oras push"), "");

    let image = "/orgs/main/manifests/copies/pier?reference";
    std::fs::remove_file(desk.path("pier-0.1.0.tgz")).unwrap();
    let chart = commands(&desk, &api, &format!("{image}=0.1.0"));
    paste(&desk, &one(&chart, "helm pull"), "");
    assert!(desk.path("pier-0.1.0.tgz").is_file());
    std::fs::remove_file(desk.path("hello.txt")).unwrap();
    for command in commands(&desk, &api, &format!("{image}=v1")) {
        if command.starts_with("oras pull") {
            paste(&desk, &command, "");
        }
    }
    assert_eq!(std::fs::read_to_string(desk.path("hello.txt")).unwrap(), "hello\n");

    desk.run("cosign", &["generate-key-pair"]);
    desk.write("sbom.spdx.json", "{\"spdxVersion\": \"SPDX-2.3\"}");
    let attach = commands(&desk, &api, &format!("{image}=v0&view=attached"));
    // The public's log of signatures is not reached from here.
    let sign = one(&attach, "cosign sign");
    let offline = "cosign sign --yes --tlog-upload=false --use-signing-config=false";
    paste(&desk, &sign.replacen("cosign sign", offline, 1), "");
    paste(&desk, &one(&attach, "oras attach"), "");
    let signed = commands(&desk, &api, &format!("{image}=v0"));
    let verify = one(&signed, "cosign verify");
    paste(&desk, &verify.replacen("cosign verify", "cosign verify --insecure-ignore-tlog=true", 1), "");
}
