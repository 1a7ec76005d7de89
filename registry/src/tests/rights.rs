//! Who gets in: the challenge, scopes, tenants, and rights that are taken away while a push runs.

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
