//! Somebody else's registry that trusts our token service: CNCF Distribution 2.8 by its bundle of
//! certificates, and 3 by its key set.

use std::fs;

use crate::crane::append;
use crate::desk::Desk;
use crate::support::Call;
use crate::support::server::{ADMIN, ADMIN_PASSWORD, free_port, parameter};

/// The issuer of our tokens, as one of them says.
fn issuer(desk: &Desk) -> String {
    use base64::Engine as _;
    let token = desk.server.admin_token("main/app");
    let claims = token.split('.').nth(1).expect("claims");
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).expect("base64url");
    let claims: serde_json::Value = serde_json::from_slice(&claims).expect("JSON");
    claims["iss"].as_str().expect("an issuer").to_owned()
}

fn push_and_pull(desk: &Desk, program: &str, args: &[&str], trust: &str) {
    let port = free_port();
    let host = format!("127.0.0.1:{port}");
    let challenge = desk.server.challenge();
    let challenge = challenge.header("www-authenticate").expect("a challenge");
    let config = format!(
        "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {host}\n  secret: {host}\n\
         auth:\n  token:\n    realm: {}\n    service: {}\n    issuer: {}\n{trust}",
        desk.path(&format!("{program}-data")).display(),
        parameter(challenge, "realm").expect("a realm"),
        parameter(challenge, "service").expect("a service"),
        issuer(desk),
    );
    let config = desk.write(&format!("{program}.yml"), &config);
    let _daemon = desk.daemon(program, &[args, &[&config]].concat(), || std::net::TcpStream::connect(&host).is_ok());
    let image = format!("{host}/main/theirs/app:v1");
    let layer = desk.layer("refused", "no token");
    desk.fails("crane", &["append", "--oci-empty-base", "-f", &layer, "-t", &image]);
    desk.run_with("crane", &["auth", "login", &host, "-u", ADMIN, "--password-stdin"], ADMIN_PASSWORD);
    append(desk, &image, "trusted by another registry");
    desk.run("crane", &["validate", "--remote", &image]);
    let stranger = format!("{host}/neighbour/theirs/app:v1");
    desk.fails("crane", &["append", "--oci-empty-base", "-f", &layer, "-t", &stranger]);
}

#[test]
fn distribution_2_8_accepts_our_tokens_by_the_certificate_bundle() {
    let desk = Desk::new();
    desk.server.api().create_project("main", "theirs", false);
    let bundle = Call::get("/keys/bundle.pem").send(&desk.server.auth()).expect(200);
    let bundle = desk.write("bundle.pem", &bundle.text());
    push_and_pull(&desk, "docker-registry", &["serve"], &format!("    rootcertbundle: {bundle}\n"));
}

#[test]
fn distribution_3_accepts_our_tokens_by_the_key_set() {
    let desk = Desk::new();
    desk.server.api().create_project("main", "theirs", false);
    let keys = Call::get("/.well-known/jwks.json").send(&desk.server.auth()).expect(200);
    let path = desk.path("jwks.json");
    fs::write(&path, &keys.body).expect("the key set");
    let trust = format!("    jwks: {}\n    signingalgorithms:\n      - ES256\n      - EdDSA\n", path.display());
    push_and_pull(&desk, "registry", &["serve"], &trust);
}
