//! Two organizations with the same image: neither can read, mount, list, guess or time the other's.

use std::time::{Duration, Instant};

use crate::support::http::Endpoint;
use crate::support::oci::{Image, OCI_MANIFEST, put_blob, put_manifest};
use crate::support::{Api, Call, Reply, Server, Setup, sha256};

struct Tenant {
    org: &'static str,
    user: &'static str,
    password: &'static str,
}

const RED: Tenant = Tenant { org: "red", user: "admin@red.example", password: "crimson sails in the evening wind" };
const BLUE: Tenant = Tenant { org: "blue", user: "admin@blue.example", password: "azure sails in the morning calm" };

impl Tenant {
    fn token(&self, server: &Server, repository: &str) -> String {
        server.token(self.user, self.password, &[&format!("repository:{repository}:pull,push,delete")])
    }
}

fn town() -> (Server, Endpoint) {
    let server = Setup::plain().start();
    let operator = server.operator();
    for tenant in [&RED, &BLUE] {
        operator.create_org(tenant.org, tenant.user, tenant.password);
    }
    let registry = server.registry();
    (server, registry)
}

/// What must be the same for a thing that is there and a thing that is not.
fn visible(reply: &Reply) -> (u16, Vec<(String, String)>, String) {
    let quiet = ["date", "x-request-id", "content-length"];
    let headers = reply.headers.iter().filter(|(name, _)| !quiet.contains(&name.as_str())).cloned().collect();
    (reply.status, headers, reply.text())
}

#[test]
fn a_neighbour_reads_and_changes_nothing_and_learns_nothing() {
    let (server, registry) = town();
    let image = Image::new(7, 10_000);
    image.push(&registry, "red/app", &RED.token(&server, "red/app"), "v1");
    let layer = sha256(&image.layer);
    // The neighbour asks for everything and is granted nothing; so its requests are a stranger's.
    let there = BLUE.token(&server, "red/app");
    let nowhere = BLUE.token(&server, "red/bpp");
    let anonymous =
        server.try_token(None, &["repository:red/app:pull"]).expect(200).json()["token"].as_str().unwrap().to_owned();
    let requests = |repository: &str| {
        vec![
            Call::get(format!("/v2/{repository}/manifests/v1")),
            Call::head(format!("/v2/{repository}/manifests/v1")),
            Call::get(format!("/v2/{repository}/manifests/{}", image.digest())),
            Call::get(format!("/v2/{repository}/blobs/{layer}")),
            Call::head(format!("/v2/{repository}/blobs/{layer}")),
            Call::get(format!("/v2/{repository}/tags/list")),
            Call::get(format!("/v2/{repository}/referrers/{}", image.digest())),
            Call::post(format!("/v2/{repository}/blobs/uploads/")),
            Call::put(format!("/v2/{repository}/manifests/v1"))
                .header("Content-Type", OCI_MANIFEST)
                .body(image.manifest.clone()),
            Call::delete(format!("/v2/{repository}/manifests/v1")),
            Call::delete(format!("/v2/{repository}/blobs/{layer}")),
        ]
    };
    for (real, fake) in requests("red/app").into_iter().zip(requests("red/bpp")) {
        let hit = visible(&real.clone().bearer(&there).send(&registry));
        let miss = visible(&fake.bearer(&nowhere).send(&registry));
        let same = |text: &str| text.replace("red/bpp", "red/app");
        assert!(matches!(hit.0, 401 | 404), "{}", hit.0);
        assert_eq!(
            (hit.0, same(&format!("{:?}", hit.1)), same(&hit.2)),
            (miss.0, same(&format!("{:?}", miss.1)), same(&miss.2))
        );
        assert_eq!(real.bearer(&anonymous).send(&registry).status, 401);
    }
    let still =
        Call::get("/v2/red/app/manifests/v1").bearer(&RED.token(&server, "red/app")).send(&registry).expect(200);
    assert_eq!(still.body, image.manifest);
}

#[test]
fn the_same_digests_stay_apart() {
    let (server, registry) = town();
    let image = Image::new(8, 10_000);
    let (red, blue) = (RED.token(&server, "red/app"), BLUE.token(&server, "blue/app"));
    image.push(&registry, "red/app", &red, "v1");
    // Red's layer does not count as there for blue: not by HEAD, not by mount, not in a manifest.
    let layer = sha256(&image.layer);
    Call::head(format!("/v2/blue/app/blobs/{layer}")).bearer(&blue).send(&registry).expect(404);
    let scopes = ["repository:blue/app:pull,push", "repository:red/app:pull"];
    let both = server.token(BLUE.user, BLUE.password, &scopes);
    for query in [format!("mount={layer}&from=red/app"), format!("mount={layer}")] {
        Call::post(format!("/v2/blue/app/blobs/uploads/?{query}")).bearer(&both).send(&registry).expect(202);
    }
    let early = put_manifest(&registry, "blue/app", &blue, "v1", OCI_MANIFEST, &image.manifest);
    assert_eq!(early.code(), "MANIFEST_BLOB_UNKNOWN");
    image.push(&registry, "blue/app", &blue, "v1");
    // What red deletes is still blue's.
    Call::delete(format!("/v2/red/app/manifests/{}", image.digest())).bearer(&red).send(&registry).expect(202);
    Call::delete(format!("/v2/red/app/blobs/{layer}")).bearer(&red).send(&registry).expect(202);
    server.run(&["gc", "--now", "--grace", "0s"]);
    let kept = Call::get(format!("/v2/blue/app/blobs/{layer}")).bearer(&blue).send(&registry).expect(200);
    assert_eq!(kept.body, image.layer);
}

#[test]
fn the_catalog_and_the_api_show_ones_own() {
    let (server, registry) = town();
    for tenant in [&RED, &BLUE] {
        let name = format!("{}/app", tenant.org);
        Image::new(9, 100).push(&registry, &name, &tenant.token(&server, &name), "v1");
    }
    for (tenant, other) in [(&RED, &BLUE), (&BLUE, &RED)] {
        let token = server.token(tenant.user, tenant.password, &["registry:catalog:*"]);
        let catalog = Call::get("/v2/_catalog").bearer(&token).send(&registry).expect(200).text();
        assert!(catalog.contains(tenant.org) && !catalog.contains(other.org), "{catalog}");
        let api = Api::login(server.controller(), tenant.user, tenant.password);
        let orgs = api.get("/orgs").expect(200).text();
        assert!(orgs.contains(tenant.org) && !orgs.contains(other.org), "{orgs}");
        for path in ["", "/projects", "/users", "/bindings", "/apikeys", "/repositories"] {
            let theirs = api.get(&format!("/orgs/{}{path}", other.org));
            let nobodys = api.get(&format!("/orgs/nobody{path}"));
            assert_eq!(theirs.status, 404, "{path}");
            let blank = |reply: &Reply| reply.text().replace(other.org, "nobody");
            let strip = |text: String| text.split("\"request_id\"").next().unwrap_or_default().to_owned();
            assert_eq!(strip(blank(&theirs)), strip(blank(&nobodys)), "{path}");
        }
        let operator = server.operator();
        assert!(
            matches!(operator.get(&format!("/orgs/{}/repositories", tenant.org)).status, 403 | 404),
            "the operator reads no images"
        );
    }
}

#[test]
fn a_guess_takes_as_long_whether_it_is_right_or_wrong() {
    let (server, registry) = town();
    let red = RED.token(&server, "red/app");
    let bytes = vec![1; 1000];
    put_blob(&registry, "red/app", &red, &bytes).expect(201);
    let scopes = ["repository:blue/app:pull,push", "repository:red/app:pull"];
    let token = server.token(BLUE.user, BLUE.password, &scopes);
    let (right, wrong) = (sha256(&bytes), sha256(b"never pushed"));
    let time = |digest: &str| {
        let call = Call::post(format!("/v2/blue/app/blobs/uploads/?mount={digest}&from=red/app")).bearer(&token);
        let started = Instant::now();
        call.send(&registry).expect(202);
        started.elapsed()
    };
    let mut samples = (Vec::new(), Vec::new());
    for _ in 0..60 {
        samples.0.push(time(&right));
        samples.1.push(time(&wrong));
    }
    let median = |list: &mut Vec<Duration>| {
        list.sort();
        list[list.len() / 2]
    };
    let (hit, miss) = (median(&mut samples.0), median(&mut samples.1));
    let (less, more) = (hit.min(miss), hit.max(miss));
    assert!(more < less * 2 + Duration::from_millis(2), "right {hit:?}, wrong {miss:?}");
}
