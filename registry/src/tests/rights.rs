//! Who gets in: the challenge, scopes, tenants, and rights that are taken away while a push runs.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::sync::oneshot;

use super::world::{World, sha256};

#[tokio::test]
async fn without_a_token_everything_is_challenged_with_its_scope() {
    let w = World::new().await;
    let digest = sha256(b"x");
    for (method, path, scope) in [
        ("GET", "/v2/".to_owned(), None),
        ("GET", "/v2/_catalog".into(), Some("registry:catalog:*".to_owned())),
        ("GET", "/v2/acme/app/tags/list".into(), Some("repository:acme/app:pull".into())),
        ("HEAD", "/v2/acme/app/manifests/v1".into(), Some("repository:acme/app:pull".into())),
        ("PUT", "/v2/acme/app/manifests/v1".into(), Some("repository:acme/app:pull,push".into())),
        ("DELETE", "/v2/acme/app/manifests/v1".into(), Some("repository:acme/app:delete".into())),
        ("POST", "/v2/acme/app/blobs/uploads/".into(), Some("repository:acme/app:pull,push".into())),
        (
            "POST",
            format!("/v2/acme/app/blobs/uploads/?mount={digest}&from=acme/src"),
            Some("repository:acme/app:pull,push repository:acme/src:pull".into()),
        ),
    ] {
        let reply = w.anonymous(method, &path).send().await;
        let challenge = reply.header("www-authenticate");
        assert_eq!(reply.status, 401, "{method} {path}");
        assert!(challenge.starts_with(r#"Bearer realm="https://localhost:5001/token",service=""#), "{challenge}");
        match scope {
            Some(scope) => assert!(challenge.ends_with(&format!(r#",scope="{scope}""#)), "{challenge}"),
            None => assert!(!challenge.contains("scope=")),
        }
        if method != "HEAD" {
            assert_eq!(reply.code(), "UNAUTHORIZED");
        }
    }
    assert_eq!(w.get("/v2/").send().await.status, 200);
}

#[tokio::test]
async fn garbage_for_a_token_is_invalid_token() {
    let w = World::new().await;
    for token in ["", "x", "a.b.c", "eyJhbGciOiJub25lIn0.e30.", &"x".repeat(20_000)] {
        let reply = w
            .anonymous("GET", "/v2/acme/app/tags/list")
            .header("authorization", &format!("Bearer {token}"))
            .send()
            .await;
        assert_eq!(reply.status, 401);
        assert!(reply.header("www-authenticate").contains(r#"error="invalid_token""#), "{token}");
    }
    let basic = w.anonymous("GET", "/v2/").header("authorization", "Basic eDp5").send().await;
    assert_eq!(basic.status, 401);
}

#[tokio::test]
async fn a_scope_too_small_is_denied_alike_for_what_is_there_and_what_is_not() {
    let w = World::new().await;
    let digest = w.push_blob("acme/app", b"secret").await;
    let other = w.token("dev@other.example", "repository:other/app:pull,push").await;
    let mut answers = Vec::new();
    for repo in ["acme/app", "acme/never", "nobody/app", "acme/noproject/app"] {
        let paths = [
            ("GET", format!("/v2/{repo}/blobs/{digest}")),
            ("GET", format!("/v2/{repo}/tags/list")),
            ("GET", format!("/v2/{repo}/referrers/{digest}")),
            ("POST", format!("/v2/{repo}/blobs/uploads/")),
            ("DELETE", format!("/v2/{repo}/blobs/{digest}")),
        ];
        let mut answer = String::new();
        for (method, path) in paths {
            let reply = w.anonymous(method, &path).bearer(&other).send().await;
            assert_eq!((reply.status, reply.code()), (401, "DENIED".into()), "{method} {path}");
            assert!(reply.header("www-authenticate").contains(r#"error="insufficient_scope""#));
            answer.push_str(&reply.text().replace(repo, "REPO"));
        }
        answers.push(answer);
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "the answers differ: {answers:#?}");
}

#[tokio::test]
async fn prefixes_of_names_are_other_repositories() {
    let w = World::new().await;
    let digest = w.push_blob("acme/app-private", b"secret").await;
    w.push_blob("acme/web/app", b"secret").await;
    let token = w.token("admin@acme.example", "repository:acme/app:pull").await;
    for repo in ["acme/app-private", "acme/web/app", "acme/app/x"] {
        let reply = w.anonymous("GET", &format!("/v2/{repo}/blobs/{digest}")).bearer(&token).send().await;
        assert_eq!(reply.status, 401, "{repo}");
    }
}

#[tokio::test]
async fn a_mount_from_a_source_that_the_token_never_asked_for_says_so_and_a_refused_one_is_a_session() {
    let w = World::new().await;
    let digest = w.push_blob("acme/source", b"shared").await;
    let path = format!("/v2/acme/target/blobs/uploads/?mount={digest}&from=acme/source");
    let narrow = w.token("admin@acme.example", "repository:acme/target:pull,push").await;
    let reply = w.anonymous("POST", &path).bearer(&narrow).send().await;
    assert_eq!(reply.status, 401);
    assert!(
        reply
            .header("www-authenticate")
            .contains(r#"scope="repository:acme/target:pull,push repository:acme/source:pull""#)
    );
    // dev@acme may push to project web, and may not read the default project.
    let refused = w.token("web@acme.example", "repository:acme/web/t:pull,push repository:acme/source:pull").await;
    let there = w.anonymous("POST", &format!("/v2/acme/web/t/blobs/uploads/?mount={digest}&from=acme/source"));
    let there = there.bearer(&refused).send().await;
    let missing = sha256(b"nowhere");
    let not_there = w.anonymous("POST", &format!("/v2/acme/web/t/blobs/uploads/?mount={missing}&from=acme/source"));
    let not_there = not_there.bearer(&refused).send().await;
    assert_eq!((there.status, not_there.status), (202, 202));
    // Without `from`, too: what the caller may not read is not mounted.
    let anonymous = w.anonymous("POST", &format!("/v2/acme/web/t/blobs/uploads/?mount={digest}"));
    assert_eq!(anonymous.bearer(&refused).send().await.status, 202);
}

#[tokio::test]
async fn tenants_cannot_mount_from_one_another() {
    let w = World::new().await;
    let digest = w.push_blob("acme/app", b"the same image").await;
    let token = w.token("dev@other.example", "repository:other/app:pull,push repository:acme/app:pull").await;
    for query in [format!("mount={digest}&from=acme/app"), format!("mount={digest}")] {
        let reply = w.anonymous("POST", &format!("/v2/other/app/blobs/uploads/?{query}")).bearer(&token).send().await;
        assert_eq!(reply.status, 202, "{query}");
    }
    let head = w.anonymous("HEAD", &format!("/v2/other/app/blobs/{digest}")).bearer(&token).send().await;
    assert_eq!(head.status, 404);
    let catalog = w.token("dev@other.example", "registry:catalog:*").await;
    let reply = w.anonymous("GET", "/v2/_catalog").bearer(&catalog).send().await;
    assert_eq!(reply.json()["repositories"].to_string(), "[]");
}

#[tokio::test]
async fn a_push_outlives_its_token_but_not_its_owners_rights() {
    let w = World::new().await;
    let token = w.token("web@acme.example", "repository:acme/web/app:pull,push").await;
    let begin = || async {
        let reply = w.anonymous("POST", "/v2/acme/web/app/blobs/uploads/").bearer(&token).send().await;
        assert_eq!(reply.status, 202, "{}", reply.text());
        reply.header("location")
    };
    let (first, second) = (begin().await, begin().await);
    w.clock.advance(3600);
    let expired = w.anonymous("PUT", "/v2/acme/web/app/manifests/v1").bearer(&token).send().await;
    assert_eq!(expired.status, 401, "the token itself has expired");
    let patch = w.anonymous("PATCH", &first).bearer(&token).body("late").send().await;
    assert_eq!(patch.status, 202);
    let put = w.anonymous("PUT", &format!("{first}?digest={}", sha256(b"late"))).send().await;
    assert_eq!(put.status, 201);

    w.deactivate("web@acme.example", "acme").await;
    for (method, path) in
        [("GET", second.clone()), ("PATCH", second.clone()), ("PUT", format!("{second}?digest={}", sha256(b"")))]
    {
        let reply = w.anonymous(method, &path).send().await;
        assert_eq!((reply.status, reply.code()), (401, "UNAUTHORIZED".into()), "{method}");
    }
    // Who belongs to the organization no more is no business of its log.
    assert!(w.audit("acme", "access.denied").await.is_empty());
    let denied = w.audit("", "access.denied").await;
    let requests: Vec<_> = denied.iter().map(|event| (event.actor.as_str(), event.target.as_str())).collect();
    assert_eq!(requests, [("web@acme.example", "acme/web/app"); 3]);
    assert_eq!((&*denied[1].outcome, &*denied[1].credential), ("denied", "token"));
}

/// A body whose last part, or without one whose end, is held back until it is let go.
fn held(first: &str, last: &'static str) -> (Body, oneshot::Sender<()>) {
    let (let_go, held) = oneshot::channel();
    let first = stream::once(std::future::ready(Bytes::copy_from_slice(first.as_bytes())));
    let last = stream::once(async move { held.await.map_or(Bytes::new(), |()| Bytes::from_static(last.as_bytes())) });
    let pieces = first.chain(last).filter(|piece| std::future::ready(!piece.is_empty()));
    (Body::from_stream(pieces.map(Ok::<_, std::convert::Infallible>)), let_go)
}

#[tokio::test]
async fn a_blob_whose_body_ends_late_ends_with_its_owners_rights() {
    let w = World::new().await;
    let token = w.token("web@acme.example", "repository:acme/web/app:pull,push").await;
    let begun = w.anonymous("POST", "/v2/acme/web/app/blobs/uploads/").bearer(&token).send().await.header("location");
    let (body, let_go) = held("late", "");
    let put = w.anonymous("PUT", &format!("{begun}?digest={}", sha256(b"late"))).stream(body).send();
    let revoke = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        w.deactivate("web@acme.example", "acme").await;
        let_go.send(()).unwrap();
    };
    let (put, ()) = tokio::join!(put, revoke);
    assert_eq!((put.status, put.code()), (401, "UNAUTHORIZED".into()));
}

#[tokio::test]
async fn a_manifest_whose_body_ends_late_ends_with_its_owners_password() {
    let w = World::new().await;
    w.make_web_sparse().await;
    let token = w.token("web@acme.example", "repository:acme/web/app:pull,push").await;
    let image = w.image("acme/web/app", &[]).await;
    let (body, let_go) = held(image.trim_end_matches('}'), "}");
    let put = w.anonymous("PUT", "/v2/acme/web/app/manifests/v1").bearer(&token);
    let put = put.header("content-type", super::world::OCI).stream(body).send();
    let revoke = async {
        tokio::time::sleep(Duration::from_millis(600)).await;
        w.identity.reset_password(&identity::audit::Caller::server(), "web@acme.example", None).await.unwrap();
        let_go.send(()).unwrap();
    };
    let (put, ()) = tokio::join!(put, revoke);
    assert_eq!((put.status, put.code()), (401, "UNAUTHORIZED".into()));
    assert_eq!(w.head("/v2/acme/web/app/manifests/v1").send().await.status, 404);
    let denied = w.audit("acme", "access.denied").await;
    assert_eq!(denied.len(), 1, "{denied:?}");
    assert_eq!((denied[0].actor.as_str(), denied[0].target.as_str()), ("web@acme.example", "acme/web/app"));
}

#[tokio::test]
async fn an_upload_ends_with_the_key_that_it_was_begun_with() {
    let w = World::new().await;
    let (user, repo) = ("web@acme.example", "/v2/acme/web/app/blobs/uploads/");
    let mut session = w.db.read().await.unwrap();
    let web = storage::projects::find_by_path(&mut session, "acme", "web").await.unwrap().unwrap();
    let id = storage::users::find_by_name(&mut session, user).await.unwrap().unwrap().id;
    drop(session);
    let new = identity::admin::NewApiKey {
        org_id: &web.org_id,
        user_id: &id,
        name: "build",
        valid_days: Some(1),
        projects: None,
        permissions: None,
    };
    let key = w.identity.create_api_key(&w.admin().await, &new).await.unwrap().key;
    w.clock.advance(1000);
    let login = w.identity.login(user, &key, identity::login::Door::Registry).await.unwrap();
    let scopes = identity::scope::Scope::parse_all(["repository:acme/web/app:pull,push"]).unwrap();
    let token = w.identity.issue(Some(&login), &scopes).await.unwrap().token;
    let begin = || async { w.anonymous("POST", repo).bearer(&token).send().await.header("location") };
    let (begun, written) = (begin().await, begin().await);
    let written = w.anonymous("PATCH", &written).body("la").send().await.header("location");
    w.clock.advance(86_400 - 1000);
    for session in [&begun, &written] {
        let reply = w.anonymous("GET", session).send().await;
        assert_eq!((reply.status, reply.code()), (401, "UNAUTHORIZED".into()), "{session}");
        let put = w.anonymous("PUT", &format!("{session}?digest={}", sha256(b"late"))).body("late").send().await;
        assert_eq!(put.status, 401, "{session}");
    }
}

#[tokio::test]
async fn an_issued_token_ends_with_its_owners_rights() {
    let w = World::new().await;
    let token = w.token("web@acme.example", "repository:acme/web/app:pull,push").await;
    let list = || w.anonymous("GET", "/v2/acme/web/app/tags/list").bearer(&token).send();
    assert_eq!(list().await.status, 404);
    w.deactivate("web@acme.example", "acme").await;
    assert_eq!(list().await.status, 401);
}

/// Gives a member of `acme` a custom role made of one of the project `web`.
async fn give_custom(w: &World, user: &str, base: &str, repositories: &[&str], tags: &[&str]) -> String {
    use identity::admin::{NewBinding, NewRole};
    use identity::rbac::{Given, Role};
    let texts = |list: &[&str]| list.iter().map(ToString::to_string).collect();
    let admin = w.admin().await;
    let mut session = w.db.read().await.unwrap();
    let web = storage::projects::find_by_path(&mut session, "acme", "web").await.unwrap().unwrap();
    let member = storage::memberships::find_by_name(&mut session, &web.org_id, user).await.unwrap().unwrap();
    drop(session);
    let rules = storage::custom_roles::Rules {
        repositories: texts(repositories),
        tags: texts(tags),
        ..storage::custom_roles::Rules::default()
    };
    let base = Role::find(base).unwrap();
    let new = NewRole { org_id: &web.org_id, name: "limited", description: "", base, rules };
    let row = w.identity.create_role(&admin, &new).await.unwrap();
    let role = w.identity.role_of(&web.org_id, &row.id).await.unwrap().unwrap();
    assert!(matches!(role, Given::Custom(_)));
    let subject = storage::bindings::Subject::User(&member.user_id);
    let new = NewBinding { org_id: &web.org_id, subject, role: &role, project_id: Some(&web.id), namespaces: &[] };
    w.identity.create_binding(&admin, &new).await.unwrap();
    row.id
}

#[tokio::test]
async fn a_custom_role_reaches_its_repositories_and_writes_its_tags_alone() {
    let w = World::new().await;
    let mut image = String::new();
    for repo in ["acme/web/ci/app", "acme/web/prod/app"] {
        image = w.image(repo, &[]).await;
        for tag in ["v1", "latest"] {
            assert_eq!(w.put(&format!("/v2/{repo}/manifests/{tag}")).manifest(&image).send().await.status, 201);
        }
    }
    let dev = "dev@acme.example";
    w.member(dev).await;
    let role = give_custom(&w, dev, "PROJECT_ADMIN", &["ci/**"], &["v*"]).await;
    let scope = "repository:acme/web/ci/app:pull,push,delete";
    let token = w.token(dev, scope).await;

    // Another repository of the project: no scope, and no line in the catalog.
    let elsewhere = w.token(dev, "repository:acme/web/prod/app:pull").await;
    let refused = w.anonymous("GET", "/v2/acme/web/prod/app/tags/list").bearer(&elsewhere).send().await;
    assert_eq!((refused.status, refused.code()), (401, "DENIED".into()));
    let all = w.token(dev, "registry:catalog:*").await;
    let catalog = w.anonymous("GET", "/v2/_catalog").bearer(&all).send().await;
    assert_eq!(catalog.json()["repositories"], serde_json::json!(["acme/web/ci/app"]));

    // Nor is what has many others before it looked for in one go, and none of those is named.
    let mut tx = w.db.begin().await.unwrap();
    let web = storage::projects::find_by_path(&mut tx, "acme", "web").await.unwrap().unwrap();
    for i in 0..5_100 {
        let name = format!("acme/web/a{i:04}").parse().unwrap();
        storage::repositories::ensure(&mut tx, &web.org_id, &web.id, &name, 1).await.unwrap();
    }
    tx.commit().await.unwrap();
    let first = w.anonymous("GET", "/v2/_catalog?n=7").bearer(&all).send().await;
    assert_eq!(first.json()["repositories"], serde_json::json!([]));
    let link = first.header("link");
    let next = link.strip_prefix('<').and_then(|link| link.split_once(">; rel=\"next\"")).unwrap().0.to_owned();
    assert!(next.contains("n=7") && !next.contains("web"), "{next}");
    let second = w.anonymous("GET", &next).bearer(&all).send().await;
    assert_eq!(second.json()["repositories"], serde_json::json!(["acme/web/ci/app"]));
    assert_eq!(second.header("link"), "");

    // Reading is not limited by tags; writing and deleting are.
    let manifest = |tag: &str| format!("/v2/acme/web/ci/app/manifests/{tag}");
    let latest = w.anonymous("GET", &manifest("latest")).bearer(&token).send().await;
    assert_eq!(latest.status, 200);
    let put = async |path: &str| w.anonymous("PUT", path).bearer(&token).manifest(&image).send().await;
    assert_eq!(put(&manifest("v2")).await.status, 201);
    let refused = put(&manifest("latest")).await;
    assert_eq!((refused.status, refused.code()), (403, "DENIED".into()));
    assert!(refused.text().contains("role limited on project web allows it only for tags that match v*"));
    let digest = sha256(image.as_bytes());
    assert_eq!(put(&format!("{}?tag=v3&tag=stable", manifest(&digest))).await.status, 403);
    assert_eq!(put(&format!("{}?tag=v3", manifest(&digest))).await.status, 201);
    let delete = async |reference: &str| w.anonymous("DELETE", &manifest(reference)).bearer(&token).send().await.status;
    assert_eq!(delete("latest").await, 403);
    // A manifest takes all of its tags along: `latest` is one of them.
    assert_eq!(delete(&digest).await, 403);
    assert_eq!(delete("v2").await, 202);
    assert_eq!(w.audit("acme", "access.denied").await.len(), 5);

    // What the role is decides now, for tokens that were given before too.
    let admin = w.admin().await;
    let mut session = w.db.read().await.unwrap();
    let org = storage::orgs::find_by_slug(&mut session, "acme").await.unwrap().unwrap().id;
    drop(session);
    let change = identity::admin::UpdateRole { tags: Some(vec![]), ..identity::admin::UpdateRole::default() };
    w.identity.update_role(&admin, &org, &role, &change).await.unwrap();
    assert_eq!(delete(&digest).await, 202);
    let change = identity::admin::UpdateRole {
        repositories: Some(vec!["other/**".into()]),
        ..identity::admin::UpdateRole::default()
    };
    w.identity.update_role(&admin, &org, &role, &change).await.unwrap();
    assert_eq!(w.anonymous("GET", "/v2/acme/web/ci/app/tags/list").bearer(&token).send().await.status, 401);
}
