#![allow(clippy::unwrap_used)]
use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

fn grant(id: &str, org: &str, role: &str, project: Option<&str>) -> Grant {
    Grant {
        binding_id: id.into(),
        org_id: org.into(),
        org: org.into(),
        role: Role::find(role).unwrap().into(),
        project_id: project.map(Into::into),
        project: project.map(Into::into),
        namespaces: Vec::new(),
        group: None,
    }
}

fn principal(grants: Vec<Grant>) -> Principal {
    Principal { user_id: "u".into(), grants, ..Principal::nobody("u") }
}

/// What each column of the golden matrix asks about, for a binding in organization `o` (and project `p`).
const THINGS: [(&str, Resource<'static>); 7] = [
    ("platform", Resource::Platform),
    ("its org", Resource::Org { org_id: "o" }),
    ("its project", Resource::Project { org_id: "o", project_id: "p" }),
    ("sibling project", Resource::Project { org_id: "o", project_id: "q" }),
    ("project to be", Resource::ProjectToCreate { org_id: "o" }),
    ("other org", Resource::Org { org_id: "x" }),
    ("project there", Resource::Project { org_id: "x", project_id: "y" }),
];

fn holder(role: Role) -> Principal {
    let mut holder = principal(Vec::new());
    match role.scope() {
        RoleScope::Platform => holder.operator = true,
        RoleScope::Organization => holder.grants.push(grant("b", "o", role.token(), None)),
        RoleScope::Project => holder.grants.push(grant("b", "o", role.token(), Some("p"))),
    }
    holder
}

fn matrix() -> String {
    let mut out = String::from(
        "Who may do what: one block per role, one line per permission, one column per thing.\n\
         Written by the tests of rbac.rs from roles.toml; run them with BLESS=1 to accept a change.\n",
    );
    for role in Role::all() {
        let holder = holder(role);
        let _ = write!(out, "\n{} ({}, bound to: {:?})\n{:<20}", role.token(), role.label(), role.scope(), "");
        for (name, _) in &THINGS {
            let _ = write!(out, " {name:>15}");
        }
        out.push('\n');
        for permission in Permission::ALL {
            let _ = write!(out, "{:<20}", permission.as_str());
            for (_, thing) in &THINGS {
                let sign = if authorize(&holder, *permission, thing).is_allowed() { "yes" } else { "." };
                let _ = write!(out, " {sign:>15}");
            }
            out.push('\n');
        }
    }
    out
}

#[test]
fn the_matrix_is_as_reviewed() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/rbac_matrix.txt");
    let now = matrix();
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, &now).unwrap();
    }
    let reviewed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(reviewed == now, "roles changed: review the diff of identity/rbac_matrix.txt after running with BLESS=1");
}

#[test]
fn a_denial_says_which_permission_on_what() {
    let denied = authorize(&principal(vec![]), Permission::RegistryPush, &THINGS[2].1).into_result().unwrap_err();
    assert_eq!(denied.to_string(), "registry.push on project p is missing: no role held there has it");
    assert_eq!(denied.permission, Permission::RegistryPush);
}

#[test]
fn an_operator_sees_organizations_and_nothing_in_them() {
    let mut operator = principal(vec![]);
    operator.operator = true;
    assert!(authorize(&operator, Permission::PlatformOrgCreate, &Resource::Platform).is_allowed());
    for permission in Permission::ALL {
        for (_, thing) in &THINGS[1..] {
            assert!(!authorize(&operator, *permission, thing).is_allowed(), "{permission} on {thing:?}");
        }
    }
    operator.key_org = Some("o".into());
    assert!(!authorize(&operator, Permission::PlatformOrgCreate, &Resource::Platform).is_allowed());
}

#[test]
fn a_binding_that_does_not_fit_its_role_gives_nothing() {
    let misfits = [
        grant("a", "o", "ADMIN", Some("p")),
        grant("b", "o", "PROJECT_ADMIN", None),
        grant("c", "o", "SUPER_ADMIN", None),
    ];
    for misfit in misfits {
        let holder = principal(vec![misfit]);
        for permission in Permission::ALL {
            assert!(THINGS.iter().all(|(_, thing)| !authorize(&holder, *permission, thing).is_allowed()));
        }
    }
}

#[test]
fn nobody_gives_more_than_they_have() {
    let project = Resource::Project { org_id: "o", project_id: "p" };
    let org = Resource::Org { org_id: "o" };
    let admin = holder(Role::find("ADMIN").unwrap());
    let lead = holder(Role::find("PROJECT_ADMIN").unwrap());
    let reader = holder(Role::find("PROJECT_READ_ONLY").unwrap());
    for role in Role::all() {
        let fits = if role.scope() == RoleScope::Project { &project } else { &org };
        assert_eq!(admin.may_give(&role.into(), fits).is_allowed(), role.scope() != RoleScope::Platform, "{role}");
        assert_eq!(lead.may_give(&role.into(), &project).is_allowed(), role.scope() == RoleScope::Project, "{role}");
        assert!(!lead.may_give(&role.into(), &org).is_allowed(), "{role}");
        assert!(!reader.may_give(&role.into(), &project).is_allowed(), "{role}");
    }
}

fn any_grant() -> impl Strategy<Value = Grant> {
    let roles: Vec<&'static str> = Role::all().map(Role::token).collect();
    let orgs = prop::sample::select(vec!["o", "o-x", "x"]);
    let projects = prop::sample::select(vec![None, Some("p"), Some("q"), Some("y")]);
    ("[a-z]{3}", orgs, prop::sample::select(roles), projects).prop_map(|(id, org, role, p)| grant(&id, org, role, p))
}

fn any_principal() -> impl Strategy<Value = Principal> {
    let key = prop::sample::select(vec![None, Some("o"), Some("x")]);
    (prop::collection::vec(any_grant(), 0..6), any::<bool>(), key).prop_map(|(grants, operator, key)| Principal {
        operator,
        key_org: key.map(Into::into),
        ..principal(grants)
    })
}

/// A custom role on a base of any kind, with or without patterns.
fn any_custom() -> impl Strategy<Value = Given> {
    let bases: Vec<&'static str> =
        Role::all().filter(|role| role.scope() != RoleScope::Platform).map(Role::token).collect();
    let patterns = || prop::collection::vec(prop::sample::select(vec!["ci/**", "app", "v*", "*"]), 0..3);
    let picks = || prop::collection::vec(any::<prop::sample::Index>(), 0..4);
    (prop::sample::select(bases), picks(), picks(), patterns(), patterns()).prop_map(
        |(base, add, remove, repos, tags)| {
            let base = Role::find(base).unwrap();
            let (here, around) = assignable(base.scope());
            let has = |p: &Permission| base.permissions().contains(p) || base.organization_permissions().contains(p);
            let more: Vec<Permission> = here.into_iter().chain(around).filter(|p| !has(p)).collect();
            let own: Vec<Permission> =
                base.permissions().iter().chain(base.organization_permissions()).copied().collect();
            let pick = |from: &[Permission], picks: &[prop::sample::Index]| -> Vec<String> {
                if from.is_empty() {
                    return Vec::new();
                }
                picks.iter().map(|i| i.get(from).to_string()).collect()
            };
            let texts = |list: Vec<&str>| list.into_iter().map(ToOwned::to_owned).collect();
            let mut rules = storage::custom_roles::Rules {
                added: pick(&more, &add),
                removed: pick(&own, &remove),
                repositories: texts(repos),
                tags: texts(tags),
            };
            rules.normalise();
            Given::Custom(CustomRole::compile("c", "custom", base, &rules).unwrap().into())
        },
    )
}

fn custom_grant(id: &str, role: Given) -> Grant {
    let project = (role.scope() == RoleScope::Project).then_some("p");
    Grant { role, ..grant(id, "o", "AUDITOR", project) }
}

/// Whatever can be asked in organization `o`.
fn questions() -> Vec<Resource<'static>> {
    let mut all: Vec<Resource<'static>> = THINGS.iter().map(|(_, thing)| *thing).collect();
    for project_id in [Some("p"), Some("q"), None] {
        for path in ["ci/app", "ci/a/b", "app", "other"] {
            for tag in [None, Some("v1"), Some("latest"), Some("app")] {
                all.push(Resource::Repository { org_id: "o", project_id, path, tag });
            }
        }
    }
    all
}

#[test]
fn patterns_limit_registry_permissions_and_tags_limit_writing() {
    let rules = storage::custom_roles::Rules {
        repositories: vec!["ci/**".into()],
        tags: vec!["v*".into()],
        ..storage::custom_roles::Rules::default()
    };
    let role = CustomRole::compile("c", "custom", Role::find("PROJECT_ADMIN").unwrap(), &rules).unwrap();
    let holder = principal(vec![custom_grant("b", Given::Custom(role.into()))]);
    let at = |path, tag| Resource::Repository { org_id: "o", project_id: Some("p"), path, tag };
    let project = Resource::Project { org_id: "o", project_id: "p" };
    for (permission, thing, allowed) in [
        (Permission::RegistryPull, at("ci/app", None), true),
        (Permission::RegistryPull, at("ci/app", Some("latest")), true),
        (Permission::RegistryPull, at("app", None), false),
        (Permission::RegistryPull, project, false),
        (Permission::RegistryPush, at("ci/app", None), true),
        (Permission::RegistryPush, at("ci/app", Some("v1")), true),
        (Permission::RegistryPush, at("ci/app", Some("latest")), false),
        (Permission::RegistryDelete, at("ci/app", Some("latest")), false),
        (Permission::ProjectUpdate, project, true),
    ] {
        assert_eq!(authorize(&holder, permission, &thing).is_allowed(), allowed, "{permission} {thing:?}");
    }
    let part = Part { org_id: "o".into(), project_id: Some("p".into()) };
    assert_eq!(holder.reach(Permission::RegistryPull), Reach { partly: vec![part], ..Reach::default() });
    // What they have in part they give in that part, and to nobody the whole.
    assert!(!holder.may_give(&Role::find("PROJECT_READ_ONLY").unwrap().into(), &project).is_allowed());
    assert!(holder.may_give(&holder.grants[0].role, &project).is_allowed());
}

#[test]
fn a_key_of_some_projects_and_permissions_is_that_narrow() {
    let mut key = principal(vec![grant("b", "o", "ADMIN", None)]);
    key.key_org = Some("o".into());
    key.narrowing.projects = Some(vec!["p".into()]);
    let (org, p, q) = (THINGS[1].1, THINGS[2].1, THINGS[3].1);
    assert!(authorize(&key, Permission::RegistryPush, &p).is_allowed());
    assert!(!authorize(&key, Permission::RegistryPush, &q).is_allowed());
    assert!(authorize(&key, Permission::OrgRead, &org).is_allowed());
    assert!(!authorize(&key, Permission::UserWrite, &org).is_allowed());
    assert!(!authorize(&key, Permission::ProjectCreate, &THINGS[4].1).is_allowed());
    let reach = Reach { projects: vec!["p".into()], ..Reach::default() };
    assert_eq!(key.reach(Permission::RegistryPull), reach);
    key.narrowing.permissions = Some(vec![Permission::RegistryPull]);
    let denied = authorize(&key, Permission::RegistryPush, &p).into_result().unwrap_err();
    assert!(denied.to_string().ends_with("is missing: the API key is narrowed to registry.pull"), "{denied}");
    assert!(!authorize(&key, Permission::OrgRead, &org).is_allowed());
    assert!(authorize(&key, Permission::RegistryPull, &p).is_allowed());
    let role = Role::find("PROJECT_READ_ONLY").unwrap().into();
    assert!(!key.may_give(&role, &p).is_allowed() && !key.may_define(&role, "o").is_allowed());
    assert!(principal(vec![grant("b", "o", "ADMIN", None)]).covers(&key).is_ok());
    assert!(key.covers(&principal(vec![grant("b", "o", "ADMIN", None)])).is_err());
}

fn any_permission() -> impl Strategy<Value = Permission> {
    prop::sample::select(Permission::ALL.to_vec())
}

fn any_thing() -> impl Strategy<Value = Resource<'static>> {
    prop::sample::select(THINGS.iter().map(|(_, thing)| *thing).collect::<Vec<_>>())
}

fn org_of(thing: &Resource<'static>) -> Option<&'static str> {
    match *thing {
        Resource::Platform => None,
        Resource::Org { org_id }
        | Resource::ProjectToCreate { org_id }
        | Resource::Project { org_id, .. }
        | Resource::Repository { org_id, .. } => Some(org_id),
    }
}

proptest! {
    #[test]
    fn every_allow_names_a_binding_that_gives_it(
        who in any_principal(), permission in any_permission(), thing in any_thing(),
    ) {
        match authorize(&who, permission, &thing) {
            Decision::Allow(Basis::Operator) => {
                prop_assert!(who.operator && who.key_org.is_none() && thing == Resource::Platform);
            }
            Decision::Allow(Basis::Binding(id)) => {
                let alone = Principal {
                    operator: false,
                    grants: who.grants.iter().filter(|g| g.binding_id == id).cloned().collect(),
                    ..who.clone()
                };
                prop_assert!(authorize(&alone, permission, &thing).is_allowed());
                prop_assert!(alone.grants.iter().any(|g| Some(g.org_id.as_str()) == org_of(&thing)));
            }
            Decision::Deny(denial) => prop_assert_eq!(denial.permission, permission),
        }
    }

    #[test]
    fn without_a_binding_in_an_organization_there_is_nothing_in_it(
        who in any_principal(), permission in any_permission(), thing in any_thing(),
    ) {
        let org = org_of(&thing);
        let strangers = who.grants.into_iter().filter(|g| Some(g.org_id.as_str()) != org).collect();
        let stranger = Principal { grants: strangers, ..principal(vec![]) };
        prop_assert!(!authorize(&stranger, permission, &thing).is_allowed());
    }

    #[test]
    fn a_key_carries_at_most_its_users_rights_and_only_in_its_organization(
        who in any_principal(), permission in any_permission(), thing in any_thing(),
    ) {
        if authorize(&who, permission, &thing).is_allowed() {
            let in_person = Principal { key_org: None, ..who.clone() };
            prop_assert!(authorize(&in_person, permission, &thing).is_allowed());
            if let Some(key) = &who.key_org {
                prop_assert_eq!(Some(key.as_str()), org_of(&thing));
            }
        }
    }

    #[test]
    fn more_bindings_never_take_a_right_away(
        who in any_principal(), more in any_grant(), permission in any_permission(), thing in any_thing(),
    ) {
        let mut richer = who.clone();
        richer.grants.push(more);
        if authorize(&who, permission, &thing).is_allowed() {
            prop_assert!(authorize(&richer, permission, &thing).is_allowed());
        }
    }

    #[test]
    fn reach_is_what_the_decision_allows(who in any_principal(), permission in any_permission()) {
        let reach = who.reach(permission);
        for (_, thing) in &THINGS {
            if let Resource::Project { org_id, project_id } = thing {
                let reached =
                    reach.orgs.iter().any(|o| o == org_id) || reach.projects.iter().any(|p| p == project_id);
                let allowed = authorize(&who, permission, thing).is_allowed();
                // A project's id is unique, so that a grant of it in another organization cannot be.
                let twisted = who.grants.iter().any(|g| g.project_id.as_deref() == Some(project_id) && g.org_id != *org_id);
                prop_assert!(reached == allowed || twisted);
            }
        }
    }

    #[test]
    fn a_custom_role_never_gives_what_its_maker_lacks(
        mut who in any_principal(), held in any_custom(), made in any_custom(), permission in any_permission(),
    ) {
        who.grants.push(custom_grant("h", held));
        let place = match made.scope() {
            RoleScope::Project => Resource::Project { org_id: "o", project_id: "p" },
            _ => Resource::Org { org_id: "o" },
        };
        // Whoever may define it may give it anywhere, and whoever may give it has it there.
        let given = who.may_give(&made, &place).is_allowed();
        let defined = who.may_define(&made, "o").is_allowed();
        if given || defined {
            let receiver = principal(vec![custom_grant("r", made)]);
            for thing in questions() {
                if authorize(&receiver, permission, &thing).is_allowed() {
                    prop_assert!(authorize(&who, permission, &thing).is_allowed(), "{permission} on {thing:?}");
                }
            }
        }
    }

    #[test]
    fn the_reasons_are_of_one_opinion_with_the_decision(
        mut who in any_principal(), held in any_custom(), permission in any_permission(),
    ) {
        who.grants.push(custom_grant("h", held));
        for thing in questions() {
            let why = explain(&who, permission, &thing);
            prop_assert_eq!(&why.decision, &authorize(&who, permission, &thing));
            prop_assert!(!why.because.is_empty());
            let by_right = why.because.iter().all(|r| matches!(r, Reason::Held(_) | Reason::Operator));
            prop_assert_eq!(by_right, why.decision.is_allowed());
        }
    }

    #[test]
    fn patterns_only_ever_take_away(role in any_custom(), permission in any_permission()) {
        let Given::Custom(custom) = &role else { unreachable!() };
        let free = Given::Custom(custom.without_patterns().into());
        let (narrow, wide) = (principal(vec![custom_grant("b", role)]), principal(vec![custom_grant("b", free)]));
        for thing in questions() {
            if authorize(&narrow, permission, &thing).is_allowed() {
                prop_assert!(authorize(&wide, permission, &thing).is_allowed());
            }
        }
    }

    #[test]
    fn a_narrowed_key_has_at_most_what_it_had(
        who in any_principal(), list in prop::collection::vec(any_permission(), 0..9), permission in any_permission(),
    ) {
        let mut narrow = who.clone();
        narrow.narrowing = Narrowing { projects: Some(vec!["p".into()]), permissions: Some(list.clone()) };
        for thing in questions() {
            if authorize(&narrow, permission, &thing).is_allowed() {
                prop_assert!(authorize(&who, permission, &thing).is_allowed() && list.contains(&permission));
            }
        }
    }
}
