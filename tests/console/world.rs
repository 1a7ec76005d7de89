//! What there is to see: an organization with people of every role, projects, images with signatures and more, and another
//! organization.

use serde_json::{Map, Value, json};

use crate::attached::{self, Attached};
use crate::support::http::Endpoint;
use crate::support::oci::{
    OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, descriptor, index, noise, push_blob, put_manifest, sha256,
};
use crate::support::server::ADMIN;
use crate::support::{Call, Server};

/// The password of everybody here.
pub(crate) const PASSWORD: &str = "everybody has a long secret";

/// Who has which role.
const PEOPLE: [(&str, &str, Option<&str>); 5] = [
    ("reader@example.com", "ADMINISTRATOR_READ_ONLY", None),
    ("auditor@example.com", "AUDITOR", None),
    ("lead@example.com", "PROJECT_ADMIN", Some("web")),
    ("guest@example.com", "PROJECT_READ_ONLY", Some("web")),
    ("second@example.com", "ADMIN", None),
];

/// Fills a server; what the scenes need to know of it.
pub(crate) fn fill(server: &Server) -> Value {
    let (admin, operator) = (server.api(), server.operator());
    admin.create_project("main", "web", false);
    admin.create_project("main", "tools", true);
    for (name, role, project) in PEOPLE {
        admin.create_user("main", name, PASSWORD);
        admin.bind("main", name, role, project);
    }
    admin.create_user("main", "bare@example.com", PASSWORD);
    admin.invite("main", "invited@example.com");
    admin.create_group("main", "crew");
    admin.add_member("main", "crew", "lead@example.com");
    admin.bind_group("main", "crew", "PROJECT_READ_ONLY", Some("tools"));
    let change = json!({"added": ["registry.push"], "tags": ["dev-*"], "description": "Pushes what is not released"});
    admin.try_role("main", "pusher", "PROJECT_READ_ONLY", &change).expect(201);
    admin.create_machine("main", "builder");
    admin.bind("main", "builder", "PROJECT_ADMIN", Some("web"));
    let (_, key) = admin.create_api_key("main", Some("builder"), "pipeline");
    let screens = images(server);
    // Two organizations, and one who belongs to both.
    operator.create_org("acme", "boss@acme.example", PASSWORD);
    let boss = server.login("boss@acme.example", PASSWORD);
    boss.post("/orgs/acme/users", &json!({"name": "second@example.com", "kind": "local"})).expect(201);
    boss.bind("acme", "second@example.com", "ADMIN", None);
    accept(server, "acme", "second@example.com");
    operator.create_org("globex", "boss@globex.example", PASSWORD);
    operator.post("/platform/orgs/globex/suspend", &json!({})).expect(200);
    // Something denied, and a log-in that failed, for the audit log.
    let guest = server.login("guest@example.com", PASSWORD);
    assert_eq!(guest.post("/orgs/main/projects", &json!({"slug": "mine"})).status, 403);
    server.stranger().try_login("guest@example.com", "not the right one").expect(401);
    let people: Map<String, Value> = PEOPLE
        .iter()
        .map(|(name, role, _)| ((*name).to_owned(), json!({"name": name, "password": PASSWORD, "role": role})))
        .collect();
    json!({
        "people": people, "password": PASSWORD, "key": key, "machine": "builder", "admin": ADMIN,
        "screens": screens,
        "bare": {"name": "bare@example.com", "password": PASSWORD},
        "boss": {"name": "boss@acme.example", "password": PASSWORD},
        "both": {"name": "second@example.com", "password": PASSWORD},
    })
}

/// Somebody who goes to an organization that they were added to.
fn accept(server: &Server, org: &str, name: &str) {
    let session = server.login(name, PASSWORD);
    let reply = session.post("/session/org", &json!({"org": org}));
    assert!(matches!(reply.status, 200 | 201), "{}", reply.text());
}

/// Images with a history, for two platforms, with signatures, a provenance and lists of packages; a chart; what lost its tag.
/// Returns where the screens of what is attached are, by their names.
fn images(server: &Server) -> Map<String, Value> {
    let registry = server.registry();
    let shop = Repository::new(server, &registry, "main/web/shop");
    let base = noise(1, 300_000);
    let (old, new) = (noise(2, 120_000), noise(3, 90_000));
    let v1 = shop.image("amd64", &[&base, &old], "1.0.0");
    shop.tag("v1", &v1);
    let (amd, arm) = (shop.image("amd64", &[&base, &new], "2.0.0"), shop.image("arm64", &[&base, &new], "2.0.0"));
    for one in [&amd, &arm] {
        put_manifest(&registry, shop.name, &shop.token, &sha256(one), OCI_MANIFEST, one).expect(201);
    }
    let both = index(&[
        with_platform(descriptor(OCI_MANIFEST, &amd), "amd64"),
        with_platform(descriptor(OCI_MANIFEST, &arm), "arm64"),
    ]);
    for tag in ["v2", "latest"] {
        put_manifest(&registry, shop.name, &shop.token, tag, OCI_INDEX, &both).expect(201);
    }
    shop.tag("edge", &shop.image("amd64", &[&base], "0.1.0"));
    shop.tag("edge", &shop.image("amd64", &[&base, &old, &new], "0.2.0"));
    let screens = attached::to(shop.name, &sha256(&v1)).into_iter().map(|one| {
        let digest = shop.refers(&one, &v1);
        (one.screen.to_owned(), json!(format!("/orgs/main/manifests/web/shop?reference={digest}&view=says")))
    });
    let chart = Repository::new(server, &registry, "main/tools/charts/shop");
    chart.artifact(
        "1.2.3",
        "application/vnd.cncf.helm.config.v1+json",
        "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
    );
    let wasm = Repository::new(server, &registry, "main/tools/filter");
    wasm.artifact("v0", "application/vnd.wasm.config.v0+json", "application/wasm");
    for name in ["api", "worker", "mail/sender"] {
        let name = format!("main/web/{name}");
        let repository = Repository::new(server, &registry, &name);
        repository.tag("v1", &repository.image("amd64", &[&base], "1.0.0"));
    }
    for _ in 0..3 {
        Call::get("/v2/main/web/shop/manifests/v1").bearer(&shop.token).send(&registry).expect(200);
    }
    screens.collect()
}

fn with_platform(mut descriptor: Value, architecture: &str) -> Value {
    descriptor["platform"] = json!({"os": "linux", "architecture": architecture});
    descriptor
}

/// A repository that is pushed to.
struct Repository<'a> {
    name: &'a str,
    token: String,
    registry: &'a Endpoint,
}

impl<'a> Repository<'a> {
    fn new(server: &Server, registry: &'a Endpoint, name: &'a str) -> Self {
        Self { name, token: server.admin_token(name), registry }
    }

    /// An image's manifest, its blobs pushed.
    fn image(&self, architecture: &str, layers: &[&[u8]], version: &str) -> Vec<u8> {
        let steps: Vec<Value> = (0..layers.len())
            .map(|step| json!({"created": "2026-03-01T08:00:00Z", "created_by": format!("RUN make step-{step}")}))
            .chain([json!({"created": "2026-03-01T08:01:00Z", "created_by": "CMD [\"/shop\"]", "empty_layer": true})])
            .collect();
        let config = json!({
            "created": "2026-03-01T08:01:00Z", "architecture": architecture, "os": "linux", "history": steps,
            "config": {"Env": ["PATH=/usr/bin:/bin", format!("VERSION={version}")], "Cmd": ["/shop"], "User": "65532",
                "ExposedPorts": {"8080/tcp": {}}, "Labels": {"org.opencontainers.image.version": version}},
            "rootfs": {"type": "layers", "diff_ids": layers.iter().map(|layer| sha256(layer)).collect::<Vec<_>>()},
        });
        let config = config.to_string().into_bytes();
        push_blob(self.registry, self.name, &self.token, &config);
        for layer in layers {
            push_blob(self.registry, self.name, &self.token, layer);
        }
        let manifest = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": descriptor(OCI_CONFIG, &config),
            "layers": layers.iter().map(|layer| descriptor(OCI_LAYER, layer)).collect::<Vec<_>>(),
            "annotations": {"org.opencontainers.image.source": "https://example.com/shop", "org.opencontainers.image.version": version},
        });
        manifest.to_string().into_bytes()
    }

    fn tag(&self, tag: &str, manifest: &[u8]) {
        put_manifest(self.registry, self.name, &self.token, tag, OCI_MANIFEST, manifest).expect(201);
    }

    /// Something about a manifest; its digest.
    fn refers(&self, one: &Attached, subject: &[u8]) -> String {
        let text = one.text.as_bytes();
        push_blob(self.registry, self.name, &self.token, text);
        push_blob(self.registry, self.name, &self.token, b"{}");
        let mut layer = descriptor(one.layer, text);
        layer["annotations"] = one.annotations.clone();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": one.kind,
            "config": descriptor("application/vnd.oci.empty.v1+json", b"{}"),
            "layers": [layer], "subject": descriptor(OCI_MANIFEST, subject),
        });
        let manifest = manifest.to_string().into_bytes();
        let digest = sha256(&manifest);
        put_manifest(self.registry, self.name, &self.token, &digest, OCI_MANIFEST, &manifest).expect(201);
        digest
    }

    /// What is no image.
    fn artifact(&self, tag: &str, config: &str, layer: &str) {
        let (about, content) = (br#"{"name": "shop", "version": "1.2.3", "apiVersion": "v2"}"#, noise(9, 4000));
        push_blob(self.registry, self.name, &self.token, about);
        push_blob(self.registry, self.name, &self.token, &content);
        let manifest = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": descriptor(config, about), "layers": [descriptor(layer, &content)],
        });
        self.tag(tag, &manifest.to_string().into_bytes());
    }
}
