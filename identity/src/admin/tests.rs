#![allow(clippy::unwrap_used)]
use super::*;
use crate::audit::{Caller, Origin};
use crate::core::testing::{self, PASSWORD};
use crate::login::{Door, LoginError};
use crate::rbac::{Given, Principal};
use storage::bindings::Subject;

async fn principal(t: &testing::Testing, user: &str) -> std::sync::Arc<Principal> {
    t.identity.principal(user, None).await.unwrap().unwrap()
}

#[tokio::test]
async fn an_organization_keeps_an_active_admin() {
    let t = testing::identity().await;
    let (org, admin) = (t.org("main").await, t.user("admin@localhost").await);
    let held = storage::bindings::list_active_of_user(&mut t.db.read().await.unwrap(), &admin).await.unwrap().remove(0);
    let (binding, group) = (held.binding.id, held.binding.group_id.unwrap());
    assert!(matches!(t.identity.set_active(&Caller::server(), &org, &admin, false).await, Err(AdminError::LastAdmin)));
    assert!(
        matches!(t.identity.delete_binding(&Caller::server(), &org, &binding).await, Err(AdminError::Storage(e)) if e.is_conflict())
    );
    assert!(matches!(
        t.identity.remove_group_member(&Caller::server(), &org, &group, &admin).await,
        Err(AdminError::LastAdmin)
    ));
    assert_eq!(principal(&t, &admin).await.grants.len(), 1);

    // No machine can make another one, and nobody who never proved that the address is theirs.
    for (name, kind) in [("ci-bot", UserKind::Machine), ("never@acme.example", UserKind::Local)] {
        let name = name.parse().unwrap();
        let new = NewUser { name: &name, kind, password: None };
        let added = t.identity.add_user(&Caller::server(), &org, &new).await.unwrap().member.user_id;
        t.give(&added, "ADMIN", None).await;
        let refused = t.identity.set_active(&Caller::server(), &org, &admin, false).await;
        assert!(matches!(refused, Err(AdminError::LastAdmin)), "{name}");
    }

    let second = t.add("second@acme.example").await;
    t.give(&second, "ADMIN", None).await;
    t.identity.remove_group_member(&Caller::server(), &org, &group, &admin).await.unwrap();
    assert!(principal(&t, &admin).await.grants.is_empty());
    assert!(matches!(t.identity.set_active(&Caller::server(), &org, &second, false).await, Err(AdminError::LastAdmin)));
    t.identity.set_active(&Caller::server(), &org, &admin, false).await.unwrap();
    let theirs = storage::bindings::list_active_of_user(&mut t.db.read().await.unwrap(), &second).await.unwrap();
    let refused = t.identity.delete_binding(&Caller::server(), &org, &theirs[0].binding.id).await;
    assert!(matches!(refused, Err(AdminError::LastAdmin)));
}

#[tokio::test]
async fn bindings_fit_their_role_and_their_giver() {
    let t = testing::identity().await;
    let org = t.org("main").await;
    let project = t.project("main", "defaultproject").await;
    let (lead, bob) = (t.add("lead@acme.example").await, t.add("bob@acme.example").await);
    t.give(&lead, "PROJECT_ADMIN", Some(&project)).await;
    let lead = principal(&t, &lead).await;
    let admin = principal(&t, &t.user("admin@localhost").await).await;
    let namespaces = ["default".to_owned()];
    let roles: Vec<Given> = Role::all().map(Given::from).collect();
    let new = |role: &str, project_id, namespaces| NewBinding {
        org_id: &org,
        subject: Subject::User(&bob),
        role: roles.iter().find(|given| given.name() == role).unwrap(),
        project_id,
        namespaces,
    };
    let misfits = [
        new("ADMIN", Some(project.as_str()), &[]),
        new("PROJECT_ADMIN", None, &[]),
        new("SUPER_ADMIN", None, &[]),
        new("NAMESPACE_ADMIN", Some(&project), &[]),
        new("PROJECT_ADMIN", Some(&project), &namespaces),
    ];
    for misfit in &misfits {
        assert!(
            matches!(t.identity.create_binding(&Caller::of(admin.clone()), misfit).await, Err(AdminError::Invalid(_))),
            "{misfit:?}"
        );
    }
    let bad = ["Not A Label".to_owned()];
    let bad = new("NAMESPACE_ADMIN", Some(&project), &bad);
    assert!(matches!(t.identity.create_binding(&Caller::of(admin.clone()), &bad).await, Err(AdminError::Invalid(_))));

    let denied = t.identity.create_binding(&Caller::of(lead.clone()), &new("ADMIN", None, &[])).await;
    assert!(matches!(denied, Err(AdminError::Denied(_))));
    let strange = NewBinding { project_id: Some("elsewhere"), ..new("PROJECT_ADMIN", None, &[]) };
    assert!(matches!(t.identity.create_binding(&Caller::of(lead.clone()), &strange).await, Err(AdminError::Denied(_))));
    assert!(matches!(
        t.identity.create_binding(&Caller::of(admin.clone()), &strange).await,
        Err(AdminError::Storage(_))
    ));
    t.identity
        .create_binding(&Caller::of(lead.clone()), &new("NAMESPACE_ADMIN", Some(&project), &namespaces))
        .await
        .unwrap();
    t.identity.create_binding(&Caller::of(lead.clone()), &new("PROJECT_ADMIN", Some(&project), &[])).await.unwrap();
    let again = t.identity.create_binding(&Caller::of(lead.clone()), &new("PROJECT_ADMIN", Some(&project), &[])).await;
    assert!(matches!(again, Err(AdminError::Storage(error)) if error.is_conflict()));
    let operator = t.user("operator@localhost").await;
    let outsider = NewBinding { subject: Subject::User(&operator), ..new("ADMIN", None, &[]) };
    assert!(matches!(
        t.identity.create_binding(&Caller::of(admin.clone()), &outsider).await,
        Err(AdminError::Storage(_))
    ));
}

#[tokio::test]
async fn an_existing_person_joins_with_the_credentials_they_have() {
    let t = testing::identity().await;
    t.add("ann@acme.example").await;
    let ann = "ann@acme.example".parse().unwrap();
    let slug = "other".parse().unwrap();
    let new = NewOrg { slug: &slug, name: Some("Other"), admin: Some((&ann, Some(&"not her password".into()))) };
    let created = t.identity.create_org(&Caller::server(), &new).await.unwrap();
    assert!(t.identity.create_org(&Caller::server(), &new).await.is_err());
    assert_eq!(created.admin.unwrap().member.user_id, t.user("ann@acme.example").await);
    assert!(t.identity.login("ann@acme.example", &PASSWORD.into(), Door::Console).await.is_ok());
    let wrong = t.identity.login("ann@acme.example", &"not her password".into(), Door::Console).await;
    assert!(matches!(wrong, Err(LoginError::Refused)));
    assert_eq!(t.project("other", "defaultproject").await.len(), 26);
    let other = NewUser { name: &ann, kind: UserKind::Local, password: None };
    let again = t.identity.add_user(&Caller::server(), &created.org.id, &other).await;
    assert!(matches!(again, Err(AdminError::Storage(error)) if error.is_conflict()));
}

#[tokio::test]
async fn names_kinds_and_passwords_must_fit() {
    let t = testing::identity().await;
    let org = t.org("main").await;
    let (person, machine, operator) =
        ("x@acme.example".parse().unwrap(), "bot".parse().unwrap(), "operator@localhost".parse().unwrap());
    let (good, poor) = (PASSWORD.into(), "12345678".into());
    let try_add = async |name, kind, password| {
        t.identity.add_user(&Caller::server(), &org, &NewUser { name, kind, password }).await
    };
    assert!(matches!(try_add(&machine, UserKind::Local, None).await, Err(AdminError::Invalid(_))));
    assert!(matches!(try_add(&person, UserKind::Machine, None).await, Err(AdminError::Invalid(_))));
    assert!(matches!(try_add(&machine, UserKind::Machine, Some(&good)).await, Err(AdminError::Invalid(_))));
    assert!(matches!(try_add(&person, UserKind::Local, Some(&poor)).await, Err(AdminError::Password(_))));
    assert!(matches!(try_add(&operator, UserKind::Local, None).await, Err(AdminError::Storage(_))));
    assert!(try_add(&machine, UserKind::Machine, None).await.unwrap().temporary_password.is_none());
    assert!(try_add(&person, UserKind::Local, None).await.unwrap().temporary_password.is_some());
    assert!(matches!(t.identity.reset_password(&Caller::server(), "bot", None).await, Err(AdminError::Invalid(_))));
    assert!(matches!(
        t.identity.reset_password(&Caller::server(), "nobody@acme.example", None).await,
        Err(AdminError::Storage(_))
    ));
}

#[tokio::test]
async fn a_password_is_changed_by_whoever_knows_it() {
    let t = testing::identity().await;
    let change = async |current: &str, new: &str| {
        t.identity.change_password(&Caller::server(), "admin@localhost", &current.into(), &new.into()).await
    };
    assert!(matches!(change("wrong password", "quite another one").await, Err(AdminError::Login(_))));
    assert!(matches!(change(PASSWORD, PASSWORD).await, Err(AdminError::Invalid(_))));
    assert!(matches!(change(PASSWORD, "short").await, Err(AdminError::Password(_))));
    let (_, key) = t.key_of("admin@localhost").await;
    let by_key =
        t.identity.change_password(&Caller::server(), "admin@localhost", &key, &"quite another one".into()).await;
    assert!(matches!(by_key, Err(AdminError::Login(_))));
    change(PASSWORD, "quite another one").await.unwrap();
    assert!(t.identity.login("admin@localhost", &"quite another one".into(), Door::Registry).await.is_ok());
}

#[tokio::test]
async fn api_keys_are_for_active_members_and_bounded() {
    let t = testing::identity().await;
    let (org, admin, operator) =
        (t.org("main").await, t.user("admin@localhost").await, t.user("operator@localhost").await);
    let new = |user_id, name, valid_days| NewApiKey {
        org_id: &org,
        user_id,
        name,
        valid_days,
        projects: None,
        permissions: None,
    };
    assert!(matches!(
        t.identity.create_api_key(&Caller::server(), &new(&operator, "x", None)).await,
        Err(AdminError::Storage(_))
    ));
    for bad in
        [new(&admin, " ", None), new(&admin, "a\nb", None), new(&admin, "x", Some(0)), new(&admin, "x", Some(4000))]
    {
        assert!(
            matches!(t.identity.create_api_key(&Caller::server(), &bad).await, Err(AdminError::Invalid(_))),
            "{bad:?}"
        );
    }
    let made = t.identity.create_api_key(&Caller::server(), &new(&admin, " ci ", None)).await.unwrap();
    assert_eq!((made.row.name.as_str(), made.row.expires_at), ("ci", None));
    assert!(!format!("{made:?}").contains(&made.key.expose()[46..]));
    assert!(matches!(
        t.identity.delete_api_key(&Caller::server(), "other", &made.row.id).await,
        Err(AdminError::Storage(_))
    ));
    t.identity.delete_api_key(&Caller::server(), &org, &made.row.id).await.unwrap();
    assert!(t.identity.login_with_key(&Origin::default(), &made.key).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_organizations_that_shut_somebody_out_at_once_end_everything() {
    let t = testing::identity().await;
    let main = t.org("main").await;
    let bob = t.add("bob@acme.example").await;
    let (slug, name, boss) = ("other".parse().unwrap(), "bob@acme.example".parse().unwrap(), "b@b".parse().unwrap());
    let new = NewOrg { slug: &slug, name: None, admin: Some((&boss, Some(&PASSWORD.into()))) };
    let other = t.identity.create_org(&Caller::server(), &new).await.unwrap().org.id;
    let new = NewUser { name: &name, kind: UserKind::Local, password: None };
    t.identity.add_user(&Caller::server(), &other, &new).await.unwrap();
    for _ in 0..20 {
        let before = t.identity.epochs(&bob).await.unwrap().unwrap();
        let out = [main.clone(), other.clone()].map(|org| {
            let (identity, bob) = (t.identity.clone(), bob.clone());
            tokio::spawn(async move { identity.set_active(&Caller::server(), &org, &bob, false).await })
        });
        for done in out {
            done.await.unwrap().unwrap();
        }
        assert!(t.identity.epochs(&bob).await.unwrap().is_none());
        for org in [&main, &other] {
            t.identity.set_active(&Caller::server(), org, &bob, true).await.unwrap();
        }
        assert!(t.identity.epochs(&bob).await.unwrap().unwrap().user > before.user);
    }
}

#[tokio::test]
async fn what_would_hold_everybody_up_for_long_is_deleted_in_parts() {
    use storage::deletion::Choice;
    use storage::names::{Algorithm, Digest};
    let digest_of = |n: i64| storage::digest::digest_of(Algorithm::Sha256, &n.to_le_bytes());
    let t = testing::identity().await;
    let (org, project) = (t.org("main").await, t.project("main", "defaultproject").await);
    let name = "main/app".parse().unwrap();
    let mut tx = t.db.begin().await.unwrap();
    let repository = storage::repositories::ensure(&mut tx, &org, &project, &name, 1).await.unwrap();
    let digests: Vec<Digest> = (1..=5).map(|n| digest_of(-n)).collect();
    for digest in &digests {
        let index = storage::manifests::NewManifest {
            digest,
            media_type: "a/b",
            payload: b"an index",
            blobs: vec![],
            children: (0..4_500).map(digest_of).collect(),
            subject: None,
            artifact_type: None,
            annotations: None,
            pushed_by: "",
            tags: &[],
        };
        storage::manifests::put(&mut tx, &repository, &index, 1, 5).await.unwrap();
    }
    tx.commit().await.unwrap();
    let delete = async |digests: &[Digest]| {
        let choice = Choice::Manifests(digests.to_vec());
        let deletion = images::Deletion { repository: &repository, choice: &choice, seen: None, grace: 1, may: None };
        t.identity.delete_content(&Caller::server(), &deletion).await
    };
    assert!(matches!(delete(&digests).await, Err(AdminError::Storage(e)) if e.is_conflict()));
    delete(&digests[..4]).await.unwrap();
    delete(&digests[4..]).await.unwrap();
}
