//! What the audit log learns of pushes, pulls, deletions and denials.

use super::world::{World, sha256};

const ADMIN: &str = "admin@acme.example";

#[tokio::test]
async fn pushes_pulls_and_deletions_are_recorded_with_who_and_what() {
    let w = World::new().await;
    let layer = w.push_blob("acme/web/app", b"layer").await;
    let image = w.image("acme/web/app", &[&layer]).await;
    assert_eq!(w.put("/v2/acme/web/app/manifests/v1").manifest(&image).send().await.status, 201);
    let digest = sha256(image.as_bytes());
    let push = &w.audit("acme", "image.push").await[0];
    assert_eq!((push.actor.as_str(), push.target.as_str()), (ADMIN, "acme/web/app:v1"));
    assert_eq!((push.project.as_str(), &*push.client, &*push.outcome), ("web", "docker", "ok"));
    assert_eq!(push.credential, "token");
    assert!(push.detail.contains(&digest) && push.detail.contains(r#""tags_moved_from":{}"#), "{}", push.detail);

    // Another manifest under the same tag says what was there before.
    let second = w.image("acme/web/app", &[]).await;
    assert_eq!(w.put("/v2/acme/web/app/manifests/v1").manifest(&second).send().await.status, 201);
    let push = &w.audit("acme", "image.push").await[1];
    assert!(push.detail.contains(&format!(r#""tags_moved_from":{{"v1":"{digest}"}}"#)), "{}", push.detail);

    assert_eq!(w.head("/v2/acme/web/app/manifests/v1").send().await.status, 200);
    assert!(w.audit("acme", "image.pull").await.is_empty(), "a head takes nothing");
    assert_eq!(w.get("/v2/acme/web/app/manifests/v1").send().await.status, 200);
    assert_eq!(w.get(&format!("/v2/acme/web/app/manifests/{digest}")).send().await.status, 200);
    assert_eq!(w.get("/v2/acme/web/app/manifests/nothing").send().await.status, 404);
    let pulls: Vec<String> = w.audit("acme", "image.pull").await.into_iter().map(|e| e.target).collect();
    assert_eq!(pulls, ["acme/web/app:v1".to_owned(), format!("acme/web/app@{digest}")]);

    assert_eq!(w.delete("/v2/acme/web/app/manifests/v1").send().await.status, 202);
    assert_eq!(w.delete(&format!("/v2/acme/web/app/manifests/{digest}")).send().await.status, 202);
    assert_eq!(w.delete(&format!("/v2/acme/web/app/blobs/{layer}")).send().await.status, 202);
    assert_eq!(w.delete(&format!("/v2/acme/web/app/blobs/{layer}")).send().await.status, 404);
    assert_eq!(w.audit("acme", "tag.delete").await[0].target, "acme/web/app:v1");
    assert_eq!(w.audit("acme", "image.delete").await[0].target, format!("acme/web/app@{digest}"));
    assert_eq!(w.audit("acme", "blob.delete").await.len(), 1);
    assert!(w.audit("other", "image.*").await.is_empty());
}

#[tokio::test]
async fn a_push_that_fails_leaves_no_event() {
    let w = World::new().await;
    let missing = w.image("acme/app", &[&sha256(b"not here")]).await;
    assert_eq!(w.put("/v2/acme/app/manifests/v1").manifest(&missing).send().await.status, 400);
    assert!(w.audit("acme", "image.push").await.is_empty());
}

#[tokio::test]
async fn a_denial_is_in_the_log_of_members_and_a_strangers_in_the_platforms() {
    let w = World::new().await;
    let member = w.token("web@acme.example", "repository:acme/app:pull,push").await;
    let stranger = w.token("dev@other.example", "repository:acme/app:pull").await;
    for token in [&member, &stranger] {
        assert_eq!(w.anonymous("GET", "/v2/acme/app/tags/list").bearer(token).send().await.status, 401);
    }
    let anybody = w.anonymous("GET", "/v2/acme/app/tags/list").send().await;
    assert_eq!(anybody.status, 401);
    let own = w.audit("acme", "access.denied").await;
    assert_eq!(own.len(), 1, "{own:?}");
    assert_eq!((own[0].actor.as_str(), own[0].target.as_str()), ("web@acme.example", "acme/app"));
    assert_eq!((&*own[0].outcome, own[0].reason.as_str()), ("denied", "repository:acme/app:pull"));
    let platform = w.audit("", "access.denied").await;
    assert_eq!(platform.len(), 1);
    assert_eq!(platform[0].actor, "dev@other.example");
}

#[tokio::test]
async fn a_token_that_is_used_after_it_was_revoked_is_in_the_log() {
    let w = World::new().await;
    let token = w.token("web@acme.example", "repository:acme/web/app:pull").await;
    let used = async || w.anonymous("GET", "/v2/acme/web/app/tags/list").bearer(&token).send().await;
    assert_eq!(used().await.status, 404, "nothing is there yet");
    assert!(w.audit("acme", "access.denied").await.is_empty());

    let by = identity::audit::Caller::server();
    w.identity.reset_password(&by, "web@acme.example", None).await.unwrap();
    let refused = used().await;
    assert_eq!((refused.status, refused.code()), (401, "UNAUTHORIZED".into()));
    let own = w.audit("acme", "access.denied").await;
    assert_eq!(own.len(), 1, "{own:?}");
    assert_eq!((own[0].actor.as_str(), own[0].target.as_str()), ("web@acme.example", "acme/web/app"));
    let reason = "the token was revoked, or what it was for is not open any more";
    assert_eq!((&*own[0].outcome, own[0].reason.as_str()), ("denied", reason));

    // Once a minute for each repository, however often it is tried.
    for _ in 0..3 {
        assert_eq!(used().await.status, 401);
    }
    let elsewhere = w.anonymous("GET", "/v2/acme/web/other/tags/list").bearer(&token).send().await;
    assert_eq!(elsewhere.status, 401);
    let own: Vec<String> = w.audit("acme", "access.denied").await.into_iter().map(|event| event.target).collect();
    assert_eq!(own, ["acme/web/app", "acme/web/other"]);

    // One that anybody could make up is nobody's.
    let made_up = w.anonymous("GET", "/v2/acme/web/app/tags/list").bearer(&format!("{token}x")).send().await;
    assert_eq!(made_up.status, 401);
    assert_eq!(w.audit("acme", "access.denied").await.len(), 2);
    assert!(w.audit("", "access.denied").await.is_empty());
}
