//! Trusted issuers, as pages: forms that know GitHub, GitLab and Kubernetes, and what to write into the job.

use std::collections::BTreeMap;

use askama::Template;
use axum::Json;
use axum::extract::State as Shared;
use axum::response::Response;
use http::StatusCode;
use identity::rbac::Permission;
use serde::Deserialize;
use serde_json::Value;

use super::api::{self, IssuerChange, IssuerQuery, IssuerToCreate, IssuerView};
use crate::State;
use crate::bindings::api::{BindingsQuery, list_bindings};
use crate::console::{self, Form, FormProblem, Frame, Section, Viewer, notice};
use crate::error::{Error, Result};
use crate::etag::{IfMatch, Versioned, segment};
use crate::extract::{self, Path, Query};
use crate::page::PageQuery;
use crate::users::api::{Kind, UserQuery, list_users};

/// Lines of a page of the list.
const LINES: i64 = 50;
/// Machines that a field offers; whoever has more types the others.
const OFFERED: i64 = 100;

/// An issuer that is known well.
#[derive(Debug)]
pub(crate) struct Preset {
    /// What addresses call it.
    pub(crate) kind: &'static str,
    /// What people call it.
    pub(crate) label: &'static str,
    /// What it is for.
    about: &'static str,
    issuer: &'static str,
    /// What there is to know of `issuer`.
    issuer_hint: &'static str,
    /// Rules to begin with.
    rules: &'static str,
    /// Who may, and the rules for that.
    examples: &'static [(&'static str, &'static str)],
    /// What else there is to know of the rules.
    note: &'static str,
    /// What there is to know of `keys`.
    keys_hint: &'static str,
}

const PUBLISHED: &str = "Leave it empty: the issuer publishes its keys, and the server fetches them.";

/// Those that are known well, and any other.
const PRESETS: &[Preset] = &[
    Preset {
        kind: "github",
        label: "GitHub Actions",
        about: "Workflows on github.com or GitHub Enterprise.",
        issuer: "https://token.actions.githubusercontent.com",
        issuer_hint: "As it is for github.com. On GitHub Enterprise Server: https://HOST/_services/token",
        rules: "repository_id = \nref = refs/heads/main",
        examples: &[
            ("One branch of one repository", "repository_id = 1296269\nref = refs/heads/main"),
            ("Jobs of a protected environment", "sub = repo:acme/web:environment:production"),
            (
                "One reusable workflow, from two repositories",
                "repository_id = 1296269\nrepository_id = 1300192\njob_workflow_ref = acme/ci/.github/workflows/push.yml@refs/heads/main",
            ),
        ],
        note: "The command gh api repos/OWNER/REPOSITORY --jq .id tells a repository's id. Without a rule for ref or environment, \
               every branch may push, and so may whoever can push a branch.",
        keys_hint: PUBLISHED,
    },
    Preset {
        kind: "gitlab",
        label: "GitLab CI",
        about: "Pipelines on gitlab.com or an instance of your own.",
        issuer: "https://gitlab.com",
        issuer_hint: "For an instance of your own its URL, as it stands in its tokens.",
        rules: "project_id = \nref_protected = true",
        examples: &[
            ("Protected branches and tags of one project", "project_id = 4711\nref_protected = true"),
            ("One branch", "project_id = 4711\nref_type = branch\nref = main"),
            ("One environment", "project_id = 4711\nenvironment = production\nenvironment_protected = true"),
        ],
        note: "A project's id stands on its page in GitLab, below the name.",
        keys_hint: PUBLISHED,
    },
    Preset {
        kind: "kubernetes",
        label: "Kubernetes",
        about: "Pods, by the service account that they run as.",
        issuer: "https://kubernetes.default.svc.cluster.local",
        issuer_hint: "What the cluster says of itself: kubectl get --raw /.well-known/openid-configuration | jq -r .issuer",
        rules: "kubernetes.io/namespace = \nkubernetes.io/serviceaccount/name = ",
        examples: &[
            ("One service account", "kubernetes.io/namespace = build\nkubernetes.io/serviceaccount/name = pusher"),
            ("The same, and not its successor of the same name", "kubernetes.io/serviceaccount/uid = 0b9c…"),
            ("The same, by its subject", "sub = system:serviceaccount:build:pusher"),
        ],
        note: "Every cluster that calls itself kubernetes.default.svc.cluster.local is told apart by its keys.",
        keys_hint: "What kubectl get --raw /openid/v1/jwks prints, unless the cluster publishes its keys, as those of the large \
                    clouds do: then leave it empty.",
    },
    Preset {
        kind: "other",
        label: "Another issuer",
        about: "Anything that signs OpenID Connect tokens.",
        issuer: "",
        issuer_hint: "An https URL, byte for byte as iss stands in its tokens.",
        rules: "sub = ",
        examples: &[("One subject", "sub = the-job-that-pushes")],
        note: "At least one rule must name a single workload: everybody can have tokens of a public issuer.",
        keys_hint: "A JSON Web Key Set, where the issuer publishes none that this server can reach.",
    },
];

fn preset(kind: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.kind == kind)
}

/// Which of them an issuer is, by what it is called and what its tokens must say.
fn kind_of(issuer: &str, rules: &BTreeMap<String, Vec<String>>) -> &'static str {
    let has = |claim: &str| rules.keys().any(|name| name.starts_with(claim));
    if issuer.contains("token.actions.githubusercontent.com") || issuer.ends_with("/_services/token") {
        "github"
    } else if has("kubernetes.io") || issuer.contains("kubernetes") {
        "kubernetes"
    } else if has("project_") || has("ref_protected") || issuer.contains("gitlab") {
        "gitlab"
    } else {
        "other"
    }
}

/// A trusted issuer, as pages tell it.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) view: IssuerView,
    pub(crate) rules: BTreeMap<String, Vec<String>>,
}

impl From<IssuerView> for Line {
    fn from(view: IssuerView) -> Self {
        let rules = serde_json::from_value(view.rules.clone()).unwrap_or_default();
        Self { view, rules }
    }
}

/// `/orgs/{org}/issuers`
#[derive(Template)]
#[template(path = "issuers/list.html")]
struct ListPage {
    frame: Frame,
    issuers: Vec<Line>,
    may_write: bool,
    first: String,
    next: Option<String>,
}

/// `/orgs/{org}/issuers/new`, before it is said which
#[derive(Template)]
#[template(path = "issuers/choose.html")]
struct ChoosePage {
    frame: Frame,
    presets: &'static [Preset],
    user: String,
}

/// `/orgs/{org}/issuers/new` and `/orgs/{org}/issuers/{id}/edit`
#[derive(Template)]
#[template(path = "issuers/form.html")]
struct FormPage {
    frame: Frame,
    preset: &'static Preset,
    given: IssuerForm,
    /// The id of the one that is changed; empty for a new one.
    id: String,
    machines: Vec<String>,
    problem: Option<FormProblem>,
}

/// `/orgs/{org}/issuers/{id}`
#[derive(Template)]
#[template(path = "issuers/show.html")]
struct ShowPage {
    frame: Frame,
    issuer: Line,
    keys: Option<String>,
    may_write: bool,
    job: Job,
}

/// `/orgs/{org}/issuers/{id}/delete`
#[derive(Template)]
#[template(path = "issuers/delete.html")]
struct DeletePage {
    frame: Frame,
    issuer: IssuerView,
    version: String,
    problem: Option<FormProblem>,
}

/// What to write into a job, with the names of this server.
#[derive(Debug)]
pub(crate) struct Job {
    /// Which preset it is for.
    pub(crate) kind: &'static str,
    /// Host of the registry, and its port where it has one.
    pub(crate) host: String,
    /// `<organization>/<machine>`
    pub(crate) login: String,
    /// What the token is asked for.
    pub(crate) audience: String,
    /// An image's address without its tag.
    pub(crate) image: String,
}

impl Job {
    /// The organization's slug.
    fn org(&self) -> &str {
        self.login.split('/').next().unwrap_or_default()
    }

    /// With an API key in a variable.
    pub(crate) fn with_key(&self) -> String {
        let Self { host, login, image, .. } = self;
        format!("echo \"$REGISTRY_KEY\" | docker login {host} -u {login} --password-stdin\ndocker push {image}:v1")
    }

    /// A step of a workflow, with an API key.
    pub(crate) fn github_key(&self) -> String {
        let Self { host, login, image, .. } = self;
        format!(
            r#"- env:
    REGISTRY_KEY: ${{{{ secrets.REGISTRY_KEY }}}}
  run: |
    echo "$REGISTRY_KEY" | docker login {host} -u {login} --password-stdin
    docker build -t {image}:${{{{ github.sha }}}} .
    docker push {image}:${{{{ github.sha }}}}"#
        )
    }

    /// A job of a pipeline, with an API key.
    pub(crate) fn gitlab_key(&self) -> String {
        let Self { host, login, image, .. } = self;
        format!(
            r#"push:
  image: docker:28
  services: [docker:28-dind]
  script:
    - echo "$REGISTRY_KEY" | docker login {host} -u {login} --password-stdin
    - docker build -t {image}:$CI_COMMIT_SHA .
    - docker push {image}:$CI_COMMIT_SHA"#
        )
    }

    /// A secret to pull with, of an API key.
    pub(crate) fn kubernetes_key(&self) -> String {
        let Self { host, login, .. } = self;
        format!(
            "kubectl create secret docker-registry wharfinger --docker-server={host} --docker-username={login} --docker-password=\"$REGISTRY_KEY\""
        )
    }

    fn plain(&self) -> String {
        let Self { host, login, image, .. } = self;
        format!("echo \"$TOKEN\" | docker login {host} -u {login} --password-stdin\ndocker push {image}:v1")
    }

    fn github(&self) -> String {
        let Self { host, login, audience, image, .. } = self;
        format!(
            r#"permissions:
  contents: read
  id-token: write
jobs:
  push:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v5
      - run: docker build -t {image}:${{{{ github.sha }}}} .
      - run: |
          token=$(curl -sSf -H "Authorization: Bearer $ACTIONS_ID_TOKEN_REQUEST_TOKEN" \
            "$ACTIONS_ID_TOKEN_REQUEST_URL&audience={audience}" | jq -r .value)
          echo "::add-mask::$token"
          echo "$token" | docker login {host} -u {login} --password-stdin
          docker push {image}:${{{{ github.sha }}}}"#
        )
    }

    fn gitlab(&self) -> String {
        let Self { host, login, audience, image, .. } = self;
        format!(
            r#"push:
  image: docker:28
  services: [docker:28-dind]
  id_tokens:
    REGISTRY_TOKEN:
      aud: {audience}
  script:
    - echo "$REGISTRY_TOKEN" | docker login {host} -u {login} --password-stdin
    - docker build -t {image}:$CI_COMMIT_SHA .
    - docker push {image}:$CI_COMMIT_SHA"#
        )
    }

    fn kubernetes(&self) -> String {
        let Self { host, login, audience, image, .. } = self;
        format!(
            r#"apiVersion: v1
kind: Pod
metadata: {{name: push, namespace: build}}
spec:
  serviceAccountName: pusher
  containers:
    - name: push
      image: quay.io/skopeo/stable:latest
      command: [sh, -c]
      args:
        - |
          skopeo login {host} -u {login} --password-stdin < /var/run/registry/token
          skopeo copy oci:/src/image docker://{image}:v1
      volumeMounts: [{{name: registry, mountPath: /var/run/registry, readOnly: true}}]
  volumes:
    - name: registry
      projected:
        sources:
          - serviceAccountToken: {{path: token, audience: "{audience}", expirationSeconds: 3600}}"#
        )
    }
}

/// Where a list goes on.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct AfterQuery {
    after: Option<String>,
}

/// What is known of a new one.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NewQuery {
    kind: String,
    user: String,
}

/// The fields of a trusted issuer.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct IssuerForm {
    kind: String,
    name: String,
    user: String,
    issuer: String,
    audience: String,
    /// `claim = value`, one a line.
    rules: String,
    /// A JSON Web Key Set, or nothing.
    keys: String,
    version: String,
}

/// The version that a deletion was asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct DeleteForm {
    version: String,
}

/// Rules of lines `claim = value`; a claim that comes twice may be either.
fn parse_rules(text: &str) -> Result<BTreeMap<String, Vec<String>>> {
    let mut rules: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = |what: &str| Error::invalid("rules", &format!("line {}: {what}", at + 1));
        let (claim, value) = line.split_once('=').ok_or_else(|| wrong("write claim = value"))?;
        let (claim, value) = (claim.trim(), value.trim());
        if claim.is_empty() || value.is_empty() {
            return Err(wrong("say what the claim must be"));
        }
        rules.entry(claim.to_owned()).or_default().push(value.to_owned());
    }
    Ok(rules)
}

fn parse_keys(text: &str) -> Result<Option<Value>> {
    match text.trim() {
        "" => Ok(None),
        text => serde_json::from_str(text)
            .map(Some)
            .map_err(|error| Error::invalid("keys", &format!("paste a JSON Web Key Set, {{\"keys\": […]}}: {error}"))),
    }
}

fn lines(rules: &BTreeMap<String, Vec<String>>) -> String {
    let lines = rules.iter().flat_map(|(claim, values)| values.iter().map(move |value| format!("{claim} = {value}")));
    lines.collect::<Vec<_>>().join("\n")
}

/// A failure of the form; a machine that is not there is said at its field.
fn problem_of(error: Error) -> Result<(StatusCode, FormProblem)> {
    match error {
        Error::NotFound("user") => {
            let message = "There is no machine of that name in this organization.".into();
            Ok((StatusCode::UNPROCESSABLE_ENTITY, FormProblem { field: "user", message }))
        }
        other => FormProblem::of(other),
    }
}

/// The list.
pub(crate) async fn list(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path(org): Path<String>,
    Query(query): Query<AfterQuery>,
) -> Result<Response> {
    let here = format!("/orgs/{}/issuers", segment(&org));
    let first = if query.after.is_some() { here.clone() } else { String::new() };
    let bounds = Query(PageQuery { limit: Some(LINES), after: query.after });
    let which = Query(IssuerQuery::default());
    let Json(page) = api::list_issuers(viewer.actor(), Shared(state), Path(org), which, bounds).await?;
    let next = page.next.map(|after| format!("{here}?after={}", segment(&after)));
    let issuers = page.items.into_iter().map(Line::from).collect();
    let (frame, may_write) = (viewer.frame(Section::Issuers), viewer.may(Permission::IssuerWrite));
    console::page(&ListPage { frame, issuers, may_write, first, next })
}

/// Machines to choose from.
async fn machines(viewer: &Viewer, state: &State, org: &str) -> Result<Vec<String>> {
    if !viewer.may(Permission::UserRead) {
        return Ok(Vec::new());
    }
    let which = Query(UserQuery { kind: Some(Kind::Machine), ..UserQuery::default() });
    let bounds = Query(PageQuery { limit: Some(OFFERED), after: None });
    let found = list_users(viewer.actor(), Shared(state.clone()), Path(org.to_owned()), which, bounds).await?;
    Ok(found.0.items.into_iter().map(|machine| machine.name).collect())
}

async fn form_page(
    viewer: &Viewer,
    state: &State,
    org: &str,
    id: &str,
    given: IssuerForm,
    problem: Option<FormProblem>,
) -> Result<FormPage> {
    let preset = preset(&given.kind).or(PRESETS.last()).ok_or(Error::NoRoute)?;
    let machines = machines(viewer, state, org).await?;
    Ok(FormPage { frame: viewer.frame(Section::Issuers), preset, given, id: id.to_owned(), machines, problem })
}

/// The form of a new one, or the choice of which.
pub(crate) async fn new(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path(org): Path<String>,
    Query(query): Query<NewQuery>,
) -> Result<Response> {
    viewer.actor.can_in_org(Permission::IssuerWrite, &state, &org).await?;
    let Some(preset) = preset(&query.kind) else {
        return console::page(&ChoosePage {
            frame: viewer.frame(Section::Issuers),
            presets: PRESETS,
            user: query.user,
        });
    };
    let given = IssuerForm {
        kind: query.kind,
        user: query.user,
        issuer: preset.issuer.to_owned(),
        audience: format!("https://{}", state.settings().registry_host),
        rules: preset.rules.to_owned(),
        ..IssuerForm::default()
    };
    console::page(&form_page(&viewer, &state, &org, "", given, None).await?)
}

/// Makes one.
pub(crate) async fn create(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path(org): Path<String>,
    Form(given): Form<IssuerForm>,
) -> Result<Response> {
    viewer.actor.can_in_org(Permission::IssuerWrite, &state, &org).await?;
    let new = || -> Result<IssuerToCreate> {
        Ok(IssuerToCreate {
            name: given.name.trim().to_owned(),
            user: given.user.trim().to_owned(),
            issuer: given.issuer.trim().to_owned(),
            audience: given.audience.trim().to_owned(),
            rules: parse_rules(&given.rules)?,
            keys: parse_keys(&given.keys)?,
        })
    };
    let made = match new() {
        Ok(new) => {
            api::create_issuer(viewer.actor(), Shared(state.clone()), Path(org.clone()), extract::Json(new)).await
        }
        Err(error) => Err(error),
    };
    match made {
        Ok(made) => {
            let to = format!("/orgs/{}/issuers/{}", segment(&org), segment(&made.body.id));
            let text = format!("{} now stands for the machine {}.", made.body.name, made.body.user);
            Ok(notice::done(&state, &to, &text))
        }
        Err(error) => {
            let (status, problem) = problem_of(error)?;
            console::page_as(status, &form_page(&viewer, &state, &org, "", given, Some(problem)).await?)
        }
    }
}

async fn find(viewer: &Viewer, state: &State, org: &str, id: &str) -> Result<(String, IssuerView)> {
    let path = Path((org.to_owned(), id.to_owned()));
    let Versioned(version, view) = api::get_issuer(viewer.actor(), Shared(state.clone()), path).await?;
    Ok((version.to_string(), view))
}

/// A project that a machine works in, for an example that works when it is pasted.
pub(crate) async fn project_of(viewer: &Viewer, state: &State, org: &str, machine: &str) -> Result<String> {
    let usual = "defaultproject".to_owned();
    if !viewer.may(Permission::MemberRead) {
        return Ok(usual);
    }
    let which = BindingsQuery {
        user: Some(machine.to_owned()),
        whole: Some(false),
        limit: Some(1),
        ..BindingsQuery::default()
    };
    let found = list_bindings(viewer.actor(), Shared(state.clone()), Path(org.to_owned()), Query(which)).await?;
    Ok(found.0.items.into_iter().find_map(|binding| binding.project).unwrap_or(usual))
}

/// One of them, and how a job uses it.
pub(crate) async fn show(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path((org, id)): Path<(String, String)>,
) -> Result<Response> {
    let (_, view) = find(&viewer, &state, &org, &id).await?;
    let keys = view.keys.as_ref().map(|keys| serde_json::to_string_pretty(keys).unwrap_or_default());
    let issuer = Line::from(view);
    let project = project_of(&viewer, &state, &org, &issuer.view.user).await?;
    let host = state.settings().registry_host.clone();
    let job = Job {
        kind: kind_of(&issuer.view.issuer, &issuer.rules),
        login: format!("{org}/{}", issuer.view.user),
        audience: issuer.view.audience.clone(),
        image: format!("{host}/{org}/{project}/app"),
        host,
    };
    let (frame, may_write) = (viewer.frame(Section::Issuers), viewer.may(Permission::IssuerWrite));
    console::page(&ShowPage { frame, issuer, keys, may_write, job })
}

/// The form of one that is there.
pub(crate) async fn edit(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path((org, id)): Path<(String, String)>,
) -> Result<Response> {
    viewer.actor.can_in_org(Permission::IssuerWrite, &state, &org).await?;
    let (version, view) = find(&viewer, &state, &org, &id).await?;
    let keys = view.keys.as_ref().map(|keys| serde_json::to_string_pretty(keys).unwrap_or_default());
    let issuer = Line::from(view);
    let given = IssuerForm {
        kind: kind_of(&issuer.view.issuer, &issuer.rules).to_owned(),
        rules: lines(&issuer.rules),
        name: issuer.view.name,
        user: issuer.view.user,
        issuer: issuer.view.issuer,
        audience: issuer.view.audience,
        keys: keys.unwrap_or_default(),
        version,
    };
    console::page(&form_page(&viewer, &state, &org, &id, given, None).await?)
}

/// Changes it.
pub(crate) async fn update(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path((org, id)): Path<(String, String)>,
    Form(mut given): Form<IssuerForm>,
) -> Result<Response> {
    viewer.actor.can_in_org(Permission::IssuerWrite, &state, &org).await?;
    let (version, before) = find(&viewer, &state, &org, &id).await?;
    given.user = before.user;
    let change = || -> Result<IssuerChange> {
        Ok(IssuerChange {
            name: Some(given.name.trim().to_owned()),
            issuer: Some(given.issuer.trim().to_owned()),
            audience: Some(given.audience.trim().to_owned()),
            rules: Some(parse_rules(&given.rules)?),
            keys: Some(parse_keys(&given.keys)?),
        })
    };
    let changed = match change() {
        Ok(change) => {
            let (path, if_match) = (Path((org.clone(), id.clone())), IfMatch::of(&given.version));
            api::update_issuer(viewer.actor(), Shared(state.clone()), path, if_match, extract::Json(change)).await
        }
        Err(error) => Err(error),
    };
    match changed {
        Ok(_) => {
            let to = format!("/orgs/{}/issuers/{}", segment(&org), segment(&id));
            Ok(notice::done(&state, &to, &format!("Saved {}.", given.name)))
        }
        Err(error) => {
            let (status, problem) = problem_of(error)?;
            given.version = version;
            console::page_as(status, &form_page(&viewer, &state, &org, &id, given, Some(problem)).await?)
        }
    }
}

async fn delete_page(
    viewer: &Viewer,
    state: &State,
    org: &str,
    id: &str,
    problem: Option<FormProblem>,
) -> Result<DeletePage> {
    viewer.actor.can_in_org(Permission::IssuerWrite, state, org).await?;
    let (version, issuer) = find(viewer, state, org, id).await?;
    Ok(DeletePage { frame: viewer.frame(Section::Issuers), issuer, version, problem })
}

/// What the end of the trust means.
pub(crate) async fn confirm(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path((org, id)): Path<(String, String)>,
) -> Result<Response> {
    console::page(&delete_page(&viewer, &state, &org, &id, None).await?)
}

/// Ends it.
pub(crate) async fn delete(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path((org, id)): Path<(String, String)>,
    Form(given): Form<DeleteForm>,
) -> Result<Response> {
    let path = Path((org.clone(), id.clone()));
    let gone = api::delete_issuer(viewer.actor(), Shared(state.clone()), path, IfMatch::of(&given.version)).await;
    match gone {
        Ok(_) => {
            let to = format!("/orgs/{}/issuers", segment(&org));
            Ok(notice::done(&state, &to, "The issuer is trusted no longer."))
        }
        Err(error) => {
            let (status, problem) = FormProblem::of(error)?;
            console::page_as(status, &delete_page(&viewer, &state, &org, &id, Some(problem)).await?)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::{ADMIN, Controller};
    use serde_json::json;

    const LIST: &str = "/orgs/main/issuers";

    #[test]
    fn rules_are_lines_and_back() {
        let rules = parse_rules("b = 1\n\n a=x = y \r\nb = 2\n").unwrap();
        assert_eq!(lines(&rules), "a = x = y\nb = 1\nb = 2");
        for bad in ["ref", "= x", "ref =", "a = b\nref = "] {
            assert!(matches!(parse_rules(bad), Err(Error::Invalid { field: "rules", .. })), "{bad}");
        }
        assert!(parse_keys(" ").unwrap().is_none() && parse_keys("{").is_err());
    }

    #[test]
    fn presets_are_found_again_by_what_was_made_of_them() {
        for preset in PRESETS {
            for (_, example) in preset.examples {
                assert_eq!(kind_of(preset.issuer, &parse_rules(example).unwrap()), preset.kind, "{example}");
            }
        }
    }

    #[tokio::test]
    async fn an_issuer_is_trusted_by_a_form_that_knows_it_and_no_longer() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        controller.post(&admin, "/orgs/main/users", &json!({"name": "ci", "kind": "machine"})).await.expect(201);
        let role = json!({"user": "ci", "role": "WORKSPACE_ADMIN", "project": "defaultproject"});
        controller.post(&admin, "/orgs/main/bindings", &role).await.expect(201);
        assert!(controller.page(&admin, LIST).await.expect(200).raw.contains("No issuer is trusted"));
        let choice = controller.page(&admin, &format!("{LIST}/new?user=ci")).await.expect(200);
        assert!(choice.raw.contains("GitLab CI"), "{}", choice.raw);
        let form = controller.page(&admin, &format!("{LIST}/new?kind=github&user=ci")).await.expect(200);
        assert!(
            form.raw.contains("token.actions.githubusercontent.com") && form.raw.contains("https://localhost:6000")
        );
        let fields = |user: &'static str, rules: &'static str, keys: &'static str| {
            [
                ("kind", "github"),
                ("name", "GitHub <b>"),
                ("user", user),
                ("issuer", "https://token.actions.githubusercontent.com"),
                ("audience", "https://localhost:6000"),
                ("rules", rules),
                ("keys", keys),
            ]
        };
        let good = "repository_id = 7\nref = refs/heads/main";
        for (fields, field) in [
            (fields("nobody", good, ""), "user"),
            (fields(ADMIN, good, ""), "user"),
            (fields("ci", "repository_id = \nref = x", ""), "rules"),
            (fields("ci", "repository_owner = acme", ""), "rules"),
            (fields("ci", good, "{"), "keys"),
        ] {
            let wrong = controller.submit(&admin, LIST, &fields).await.expect(422);
            assert!(wrong.raw.contains(&format!("id=\"{field}-wrong\"")), "{field}: {}", wrong.raw);
            assert!(!wrong.raw.contains("GitHub <b>"));
        }
        let made = controller.submit(&admin, LIST, &fields("ci", good, "")).await.expect(303);
        let path = made.headers["location"].to_str().unwrap().to_owned();
        let shown = controller.page(&admin, &path).await.expect(200);
        assert!(shown.raw.contains("docker login localhost:6000 -u main/ci --password-stdin"), "{}", shown.raw);
        assert!(shown.raw.contains("localhost:6000/main/defaultproject/app") && shown.raw.contains("id-token: write"));
        assert!(controller.page(&admin, LIST).await.expect(200).raw.contains("GitHub &#60;b&#62;"));

        let edit = format!("{path}/edit");
        let form = controller.page(&admin, &edit).await.expect(200);
        assert!(form.raw.contains("ref = refs/heads/main"), "{}", form.raw);
        let version = form.version();
        let mut change = fields("ci", "repository_id = 8", "").to_vec();
        change.push(("version", version.as_str()));
        controller.submit(&admin, &edit, &change).await.expect(303);
        controller.submit(&admin, &edit, &change).await.expect(412);
        let delete = format!("{path}/delete");
        let now = controller.page(&admin, &delete).await.expect(200).version();
        controller.submit(&admin, &delete, &[("version", version.as_str())]).await.expect(412);
        controller.submit(&admin, &delete, &[("version", now.as_str())]).await.expect(303);
        controller.page(&admin, &path).await.expect(404);
    }

    #[tokio::test]
    async fn whoever_may_not_trust_issuers_is_not_asked() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        controller.post(&admin, "/orgs/main/users", &json!({"name": "ci", "kind": "machine"})).await.expect(201);
        let new = json!({"name": "k", "user": "ci", "issuer": "https://ci.example", "audience": "a", "rules": {"sub": ["x"]}});
        let id = controller.post(&admin, "/orgs/main/issuers", &new).await.expect(201).text("id");
        let reader = controller.member("r@example.com", Some(("ADMINISTRATOR_READ_ONLY", None))).await;
        let list = controller.page(&reader, LIST).await.expect(200);
        assert!(!list.raw.contains("Trust an issuer</a>"), "{}", list.raw);
        let path = format!("{LIST}/{id}");
        assert!(!controller.page(&reader, &path).await.expect(200).raw.contains("/edit"));
        for path in [format!("{LIST}/new"), format!("{path}/edit"), format!("{path}/delete")] {
            controller.page(&reader, &path).await.expect(403);
        }
        controller.submit(&reader, LIST, &[("name", "x")]).await.expect(403);
        controller.submit(&reader, &format!("{path}/edit"), &[("name", "x")]).await.expect(403);
        controller.submit(&reader, &format!("{path}/delete"), &[]).await.expect(403);
        let stranger = controller.other_org().await;
        for tail in ["", "/edit", "/delete"] {
            controller.page(&stranger, &format!("/orgs/other/issuers/{id}{tail}")).await.expect(404);
        }
    }
}
