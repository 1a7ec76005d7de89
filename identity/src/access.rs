//! Access tokens: what was asked, cut to what may be granted, signed. Asking too much is never an error.

use std::collections::BTreeMap;

use storage::memberships;
use storage::names::{RepoName, new_id};

use crate::audit::Client;
use crate::core::Identity;
use crate::login::Login;
use crate::places::Place;
use crate::rbac::{Permission, Principal, Resource, authorize};
use crate::scope::Scope;
use crate::token::{Access, Claims, SignError};

/// Actions on a repository, and the permission that each takes.
const ACTIONS: [(&str, Permission); 3] =
    [("pull", Permission::RegistryPull), ("push", Permission::RegistryPush), ("delete", Permission::RegistryDelete)];

/// An access token that was just made.
#[derive(Debug, Clone)]
pub struct IssuedToken {
    /// The token.
    pub token: String,
    /// Seconds until it ends.
    pub expires_in: i64,
    /// When it was made (unix seconds).
    pub issued_at: i64,
    /// What it grants.
    pub access: Vec<Access>,
}

/// Why no access token was made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The rights could not be read.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// It could not be signed.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// There is no signing key.
    #[error("there is no signing key")]
    NoKey,
}

/// What may be granted on one repository.
#[derive(Default)]
struct Granted {
    actions: Vec<String>,
    /// `pull` is granted only because the project is public.
    open: bool,
}

impl Identity {
    /// Makes an access token for somebody who logged in, or for anybody, with as much of the scopes as they may have.
    ///
    /// # Errors
    /// [`IssueError`].
    pub async fn issue(&self, login: Option<&Login>, scopes: &[Scope]) -> Result<IssuedToken, IssueError> {
        self.issue_until(login, scopes, i64::MAX).await
    }

    /// As [`Identity::issue`], for a token that ends at that time (unix seconds) at the latest.
    ///
    /// # Errors
    /// [`IssueError`].
    pub async fn issue_until(
        &self,
        login: Option<&Login>,
        scopes: &[Scope],
        until: i64,
    ) -> Result<IssuedToken, IssueError> {
        let now = self.now();
        let (access, open) = self.grant(login.map(|login| &*login.principal), scopes).await?;
        let key = login.and_then(|login| login.key.as_ref());
        // A token does not outlive the key that it was had with.
        let lifetime = self.0.options.token_lifetime;
        let end = key.and_then(|key| key.expires_at).unwrap_or(i64::MAX).min(until).min(now + lifetime);
        let claims = Claims {
            iss: self.0.options.issuer.clone(),
            sub: login.map_or_else(String::new, |login| login.principal.name.clone()),
            aud: self.0.options.service.clone(),
            exp: end,
            nbf: now,
            iat: now,
            jti: new_id(),
            access,
            uid: login.map(|login| login.principal.user_id.clone()),
            ep: login.map(|login| login.epochs),
            key: key.map(|key| key.id.clone()),
            open,
        };
        let signer = self.ring().signer(now).ok_or(IssueError::NoKey)?;
        let token = signer.sign(&claims)?;
        // By an API key it is noted where the key is.
        if let Some(login) = login.filter(|login| login.key.is_none()) {
            self.note_pull_or_push(login, &claims).await?;
        }
        Ok(IssuedToken { token, expires_in: end - now, issued_at: now, access: claims.access })
    }

    /// Notes that somebody came to the organizations whose repositories they got a token for by password. They accept those
    /// that gave them a right to it, but not by pulling what anybody may.
    async fn note_pull_or_push(&self, login: &Login, claims: &Claims) -> storage::Result<()> {
        let mut came = BTreeMap::<String, bool>::new();
        for access in claims.access.iter().filter(|access| !access.actions.is_empty()) {
            let Ok(name) = access.name.parse::<RepoName>() else { continue };
            if let Some(place) = self.place(&name).await? {
                *came.entry(place.org_id.clone()).or_default() |= !claims.open.contains(&access.name);
            }
        }
        for (org_id, by_right) in came {
            if by_right {
                self.accept(&org_id, &login.principal.user_id).await?;
            }
            self.note_visit(&org_id, &login.principal.user_id, Client::Docker).await;
        }
        Ok(())
    }

    async fn accept(&self, org_id: &str, user_id: &str) -> storage::Result<()> {
        let member = memberships::find(&mut self.db().read().await?, org_id, user_id).await?;
        if member.is_none_or(|member| member.accepted_at.is_some()) {
            return Ok(());
        }
        let mut tx = self.db().begin().await?;
        memberships::accept(&mut tx, org_id, user_id, self.now()).await?;
        tx.commit().await?;
        self.forget(user_id);
        Ok(())
    }

    /// Cuts scopes to rights. Repositories and the catalog stay in the list even where nothing is left of them, so that the
    /// registry can tell what was refused from what was not asked for.
    pub(crate) async fn grant(
        &self,
        who: Option<&Principal>,
        scopes: &[Scope],
    ) -> Result<(Vec<Access>, Vec<String>), storage::Error> {
        let (mut access, mut open) = (Vec::new(), Vec::new());
        for scope in scopes {
            let actions = match (scope.kind.as_str(), scope.name.as_str()) {
                ("repository", name) => {
                    let granted = self.grant_repository(who, scope).await?;
                    if granted.open {
                        open.push(name.to_owned());
                    }
                    granted.actions
                }
                // What it lists is cut to what the caller may pull; anybody who is somebody may look.
                ("registry", "catalog") if who.is_some() && scope.asks("*") => vec!["*".to_owned()],
                ("registry", "catalog") => Vec::new(),
                _ => continue,
            };
            access.push(Access { kind: scope.kind.clone(), name: scope.name.clone(), actions });
        }
        Ok((access, open))
    }

    async fn grant_repository(&self, who: Option<&Principal>, scope: &Scope) -> Result<Granted, storage::Error> {
        let Ok(name) = scope.name.parse::<RepoName>() else { return Ok(Granted::default()) };
        // What is remembered grants, and never refuses: a refusal takes as long where there is nothing as where nothing may be
        // seen, and does not outlive its cause.
        if let Some(known) = self.known_place(&name) {
            let granted = cut(who, scope, &name, &known);
            let whole = |asked: &String| granted.actions.contains(asked) || granted.actions.len() == ACTIONS.len();
            if !scope.actions.is_empty() && scope.actions.iter().all(whole) {
                return Ok(granted);
            }
        }
        let place = self.read_place(&name).await?;
        Ok(place.map_or_else(Granted::default, |place| cut(who, scope, &name, &place)))
    }
}

/// A repository's scope, cut to what may be granted.
fn cut(who: Option<&Principal>, scope: &Scope, name: &RepoName, place: &Place) -> Granted {
    let resource = Resource::Repository {
        org_id: &place.org_id,
        project_id: place.project_id.as_deref(),
        path: name.path(),
        tag: None,
    };
    let may = |permission| who.is_some_and(|who| authorize(who, permission, &resource).is_allowed());
    let mut granted = Granted::default();
    // In the order that they were asked for, `*` being all of them.
    let asked = scope.actions.iter().flat_map(|asked| ACTIONS.iter().filter(move |(a, _)| asked == a || asked == "*"));
    for (action, permission) in asked {
        let by_right = may(*permission);
        let by_openness = *action == "pull" && place.public;
        if (by_right || by_openness) && !granted.actions.iter().any(|known| known == action) {
            granted.actions.push((*action).to_owned());
            granted.open |= !by_right;
        }
    }
    granted
}

#[cfg(test)]
mod tests;
