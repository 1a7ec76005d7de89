//! One's own account: who one is here, and how a terminal gets in.

use askama::Template;
use axum::Json;
use axum::extract::State as Shared;
use axum::response::Response;
use identity::rbac::Permission;
use serde::Deserialize;

use super::api::{self, AccountChange, AccountView};
use crate::State;
use crate::console::{self, Form, FormProblem, Frame, Section, Viewer, notice};
use crate::error::Result;
use crate::extract;
use crate::rights::api::{self as rights, RightView, RightsQuery};

/// Roles that the profile lists.
const ROLES: usize = 20;

/// `/account`
#[derive(Template)]
#[template(path = "account/profile.html")]
struct ProfilePage {
    frame: Frame,
    account: AccountView,
    first_name: String,
    last_name: String,
    rights: Vec<RightView>,
    /// How many roles more there are.
    more: usize,
    problem: Option<FormProblem>,
}

/// `/account/terminal`
#[derive(Template)]
#[template(path = "account/terminal.html")]
struct TerminalPage {
    frame: Frame,
    tools: Tools,
    may_have_keys: bool,
}

/// The fields of a profile.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ProfileForm {
    first_name: String,
    last_name: String,
}

/// What somebody's tools are told, as it can be pasted into a shell.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    /// The registry, as docker names it.
    pub(crate) host: String,
    /// The controller's URL.
    endpoint: String,
    /// The user, quoted.
    pub(crate) user: String,
    /// Whether the registry speaks TLS.
    secure: bool,
    /// The certificate of the private CA.
    private_ca: Option<String>,
}

impl Tools {
    /// Of a user of this installation.
    pub(crate) fn of(state: &State, user: &str) -> Self {
        let settings = state.settings();
        Self {
            host: settings.registry_host.clone(),
            endpoint: state.identity().controller_url().trim_end_matches('/').to_owned(),
            user: quoted(user),
            secure: settings.registry_secure,
            private_ca: settings.private_ca.clone(),
        }
    }

    /// Whether the server's certificate is of its own authority.
    pub(crate) fn is_private(&self) -> bool {
        self.private_ca.is_some()
    }

    /// Puts the private CA where docker and podman look for it, and beside, for what takes a file.
    fn trust(&self) -> Option<String> {
        let (ca, host) = (self.private_ca.as_ref()?.trim(), &self.host);
        Some(format!(
            "cat > wharfinger-ca.crt <<'END'\n{ca}\nEND\nsudo mkdir -p '/etc/docker/certs.d/{host}'\n\
             sudo cp wharfinger-ca.crt '/etc/docker/certs.d/{host}/ca.crt'"
        ))
    }

    fn docker(&self) -> String {
        format!("docker login {} -u {}", self.host, self.user)
    }

    fn podman(&self) -> String {
        format!("podman login {} -u {}{}", self.host, self.user, self.podman_more())
    }

    fn helm(&self) -> String {
        format!("helm registry login {} -u {}{}", self.host, self.user, self.file_more())
    }

    /// What a tool's commands take beside: where the server's certificate is of its own authority, and where it speaks no TLS.
    fn more(&self, private: &'static str, plain: &'static str) -> &'static str {
        match (&self.private_ca, self.secure) {
            (Some(_), _) => private,
            (None, true) => "",
            (None, false) => plain,
        }
    }

    /// For podman, which finds the authority where [`Self::trust`] puts it.
    pub(crate) fn podman_more(&self) -> &'static str {
        self.more("", " --tls-verify=false")
    }

    /// For helm and ORAS.
    pub(crate) fn file_more(&self) -> &'static str {
        self.more(" --ca-file wharfinger-ca.crt", " --plain-http")
    }

    /// For cosign.
    pub(crate) fn cosign_more(&self) -> &'static str {
        self.more(" --registry-cacert wharfinger-ca.crt", " --allow-http-registry")
    }

    fn rctl(&self) -> String {
        let ca = if self.private_ca.is_some() { " --ca-file wharfinger-ca.crt" } else { "" };
        format!("rctl config init --endpoint {}{ca}\nrctl login", self.endpoint)
    }

    /// Logs docker in with a key at once.
    pub(crate) fn docker_with(&self, key: &str) -> String {
        format!("printf %s {} | docker login {} -u {} --password-stdin", quoted(key), self.host, self.user)
    }

    /// What `rctl` keeps in its file, for a key of an organization.
    pub(crate) fn rctl_file(&self, org: &str, user: &str, key: &str) -> String {
        let profile = serde_json::json!({
            "endpoint": self.endpoint, "org": org, "registry": self.host, "user": user, "api_key": key,
        });
        let file = serde_json::json!({"current": "default", "profiles": {"default": profile}});
        format!("{file:#}\n")
    }
}

/// A text as one word of a shell.
fn quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"@%+=:,./-_".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

/// Who one is here.
pub(crate) async fn profile(viewer: Viewer, Shared(state): Shared<State>) -> Result<Response> {
    console::page(&ProfilePage::of(&viewer, &state).await?)
}

impl ProfilePage {
    async fn of(viewer: &Viewer, state: &State) -> Result<Self> {
        let Json(account) = api::get_account(viewer.actor(), Shared(state.clone())).await?;
        let which = extract::Query(RightsQuery { org: account.org.clone() });
        let mut rights = match account.org {
            // Without a role, the organization itself is not to be seen.
            Some(_) if !viewer.actor.principal().grants.is_empty() => {
                rights::get_own_rights(viewer.actor(), Shared(state.clone()), which).await?.0.items
            }
            _ => Vec::new(),
        };
        let more = rights.len().saturating_sub(ROLES);
        rights.truncate(ROLES);
        let (first_name, last_name) = match &account.profile {
            Some(profile) => (profile.first_name.clone(), profile.last_name.clone()),
            None => Default::default(),
        };
        let frame = viewer.frame(Section::Account);
        Ok(Self { frame, account, first_name, last_name, rights, more, problem: None })
    }
}

/// Changes how the chosen organization calls one.
pub(crate) async fn rename(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Form(given): Form<ProfileForm>,
) -> Result<Response> {
    let change = AccountChange {
        first_name: Some(given.first_name.trim().to_owned()),
        last_name: Some(given.last_name.trim().to_owned()),
    };
    match api::update_account(viewer.actor(), Shared(state.clone()), extract::Json(change)).await {
        Ok(_) => Ok(notice::done(&state, "/account", "Your name is changed.")),
        Err(error) => {
            let (status, problem) = FormProblem::of(error)?;
            let page = ProfilePage::of(&viewer, &state).await?;
            let ProfileForm { first_name, last_name } = given;
            console::page_as(status, &ProfilePage { first_name, last_name, problem: Some(problem), ..page })
        }
    }
}

/// How a terminal gets in.
pub(crate) async fn terminal(viewer: Viewer, Shared(state): Shared<State>) -> Result<Response> {
    let tools = Tools::of(&state, &viewer.actor.principal().name);
    let may_have_keys = viewer.may(Permission::ApikeyOwn);
    console::page(&TerminalPage { frame: viewer.frame(Section::Account), tools, may_have_keys })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::quoted;
    use crate::testing::{ADMIN, Caller, Controller, OPERATOR};

    #[test]
    fn a_name_is_one_word_of_a_shell() {
        assert_eq!(quoted("ann+x@example.com"), "ann+x@example.com");
        assert_eq!(quoted("o'brien&$(id)@example.com"), "'o'\\''brien&$(id)@example.com'");
        assert_eq!(quoted(""), "''");
    }

    #[tokio::test]
    async fn one_names_oneself_in_the_chosen_organization() {
        let controller = Controller::start().await;
        controller.page(&Caller::Nobody, "/account").await.expect(303);
        let admin = controller.login(ADMIN).await;
        let page = controller.page(&admin, "/account").await.expect(200);
        assert!(page.raw.contains(ADMIN) && page.raw.contains("role ADMIN"), "{}", page.raw);
        let changed = controller
            .submit(&admin, "/account", &[("first_name", " Ann "), ("last_name", "<b>Smith</b>")])
            .await
            .expect(303);
        assert_eq!(changed.headers["location"], "/account");
        let page = controller.page(&admin, "/account").await.expect(200);
        assert!(page.raw.contains("value=\"Ann\"") && page.raw.contains("&#60;b&#62;Smith"), "{}", page.raw);
        let long = "x".repeat(65);
        let refused =
            controller.submit(&admin, "/account", &[("first_name", &long), ("last_name", "")]).await.expect(422);
        assert!(refused.raw.contains(&long), "what was typed stays");
        let new = controller.member("new@example.com", None).await;
        let page = controller.page(&new, "/account").await.expect(200);
        assert!(page.raw.contains("nobody gave you a role"), "{}", page.raw);
        let operator = controller.login(OPERATOR).await;
        let page = controller.page(&operator, "/account").await.expect(200);
        assert!(!page.raw.contains("name=\"first_name\""), "{}", page.raw);
    }

    #[tokio::test]
    async fn what_the_terminal_page_says_can_be_pasted() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let page = controller.page(&admin, "/account/terminal").await.expect(200);
        for command in [
            "docker login localhost:6000 -u admin@localhost",
            "podman login localhost:6000",
            "helm registry login localhost:6000 -u admin@localhost --ca-file wharfinger-ca.crt",
            "rctl config init --endpoint https://localhost",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\nEND",
        ] {
            assert!(page.raw.contains(command), "{command} in {}", page.raw);
        }
    }
}
