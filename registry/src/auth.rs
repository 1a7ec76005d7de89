//! Who calls, and whether the token covers the action (Docker token specification, "Requesting a token").
//!
//! The decision reads the token alone, never whether the thing exists: to a caller without the scope, what is there and
//! what is not look the same, in answer and in time. Upload sessions carry a capability of their own ([`session`]), so
//! that no push dies of a token's expiry.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, header};
use identity::rbac::{Permission, Resource, authorize};
use identity::token::{Bearer, BearerError};
use storage::names::RepoName;
use storage::uploads::Upload;

use crate::State;
use crate::action::{Action, Start};
use crate::error::{Code, Error, Result};

/// How long a body may come before it is asked again whether whoever sends it still may.
pub(crate) const RIGHTS_CHECK: Duration = Duration::from_millis(500);

/// One scope that an action needs: `repository:<name>:<actions>` or `registry:catalog:*`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Need<'a> {
    kind: &'static str,
    name: &'a str,
    actions: &'static [&'static str],
}

impl<'a> Need<'a> {
    fn repository(name: &'a RepoName, actions: &'static [&'static str]) -> Self {
        Self { kind: "repository", name: name.as_spelled(), actions }
    }

    fn scope(&self) -> String {
        format!("{}:{}:{}", self.kind, self.name, self.actions.join(","))
    }

    /// Whether the token covers it. Both spellings of a repository's name are one.
    fn met_by(&self, bearer: &Bearer) -> bool {
        self.actions.iter().all(|action| bearer.access.iter().any(|a| self.is_about(a) && a.allows(action)))
    }

    /// Whether the token's holder asked for the resource, be it granted or not.
    fn asked_by(&self, bearer: &Bearer) -> bool {
        bearer.access.iter().any(|a| self.is_about(a))
    }

    fn is_about(&self, access: &identity::token::Access) -> bool {
        access.kind == self.kind
            && (access.name == self.name
                || matches!((access.name.parse::<RepoName>(), self.name.parse::<RepoName>()), (Ok(a), Ok(b)) if a == b))
    }
}

fn needs(action: &Action) -> Vec<Need<'_>> {
    const PULL: &[&str] = &["pull"];
    const PUSH: &[&str] = &["pull", "push"];
    const DELETE: &[&str] = &["delete"];
    match action {
        Action::Version => Vec::new(),
        Action::ListRepositories { .. } => vec![Need { kind: "registry", name: "catalog", actions: &["*"] }],
        Action::ListTags { repo, .. }
        | Action::ListReferrers { repo, .. }
        | Action::GetManifest { repo, .. }
        | Action::GetBlob { repo, .. } => vec![Need::repository(repo, PULL)],
        Action::PutManifest { repo, .. }
        | Action::BeginUpload { repo, .. }
        | Action::UploadStatus { repo, .. }
        | Action::AppendUpload { repo, .. }
        | Action::FinishUpload { repo, .. }
        | Action::CancelUpload { repo, .. } => vec![Need::repository(repo, PUSH)],
        Action::DeleteManifest { repo, .. } | Action::DeleteBlob { repo, .. } => vec![Need::repository(repo, DELETE)],
    }
}

/// A token that does not cover an action, or none.
pub(crate) struct Refusal {
    /// The answer.
    pub(crate) error: Error,
    /// Whose token it was and why it did not do, where we gave it.
    pub(crate) denied: Option<(Arc<Bearer>, Why)>,
}

/// Why a token that we gave does not do.
pub(crate) enum Why {
    /// It does not cover this scope.
    Lacked(String),
    /// It was taken back before it ended.
    Revoked,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self { error, denied: None }
    }
}

/// Checks the caller's token against the action.
///
/// # Errors
/// 401 with a challenge that names every scope needed; 503 where the token cannot be checked now.
pub(crate) async fn authorized(
    state: &State,
    headers: &HeaderMap,
    action: &Action,
) -> std::result::Result<Arc<Bearer>, Refusal> {
    let mut needs = needs(action);
    let bearer = match bearer(state, headers).await {
        Ok(Some(bearer)) => bearer,
        Ok(None) => {
            let message = "authentication required: log in with `docker login`";
            return Err(
                challenge(state, headers, Code::Unauthorized, message, &with_source(needs, action), None).into()
            );
        }
        Err(Refused::Invalid(revoked)) => {
            let (needs, message) =
                (with_source(needs, action), "the bearer token is not valid (any more): get a new one");
            let error = challenge(state, headers, Code::Unauthorized, message, &needs, Some("invalid_token"));
            return Err(Refusal { error, denied: revoked.map(|bearer| (bearer, Why::Revoked)) });
        }
        Err(Refused::Unavailable(error)) => return Err(error.into()),
    };
    if let Some(missing) = needs.iter().find(|need| !need.met_by(&bearer)) {
        let lacked = missing.scope();
        let message = format!("requested access to the resource is denied: it needs {lacked}");
        let needs = with_source(needs, action);
        let error = challenge(state, headers, Code::Denied, &message, &needs, Some("insufficient_scope"));
        return Err(Refusal { error, denied: Some((bearer, Why::Lacked(lacked))) });
    }
    // A mount whose source the token never asked for: say so, instead of an upload session that looks like "not there".
    // One that was asked for and refused gets the session, as if the source did not exist.
    if let Some(source) = mount_source(action)
        && !source.met_by(&bearer)
        && !source.asked_by(&bearer)
    {
        let lacked = source.scope();
        needs.push(source);
        let message = "mounting a blob needs pull on the repository that it comes from";
        let error = challenge(state, headers, Code::Denied, message, &needs, Some("insufficient_scope"));
        return Err(Refusal { error, denied: Some((bearer, Why::Lacked(lacked))) });
    }
    Ok(bearer)
}

/// Asks once more whether the token of a push counts, after a body that took its time.
///
/// # Errors
/// 401 where it was revoked meanwhile; 503 where it cannot be checked now.
pub(crate) async fn still_counts(state: &State, headers: &HeaderMap, repo: &RepoName) -> Result<()> {
    match bearer(state, headers).await {
        Ok(Some(_)) => Ok(()),
        Err(Refused::Unavailable(error)) => Err(error),
        Err(Refused::Invalid(Some(bearer))) => Err(session::revoked(state, headers, repo).of_holder(&bearer, repo)),
        Ok(None) | Err(Refused::Invalid(None)) => Err(session::revoked(state, headers, repo)),
    }
}

/// Whether the token lets its holder pull from a repository.
pub(crate) fn may_pull(bearer: &Bearer, repo: &RepoName) -> bool {
    Need::repository(repo, &["pull"]).met_by(bearer)
}

fn mount_source(action: &Action) -> Option<Need<'_>> {
    match action {
        Action::BeginUpload { start: Start::Mount { from: Some(from), .. }, .. } => {
            Some(Need::repository(from, &["pull"]))
        }
        _ => None,
    }
}

fn with_source<'a>(mut needs: Vec<Need<'a>>, action: &'a Action) -> Vec<Need<'a>> {
    needs.extend(mount_source(action));
    needs
}

enum Refused {
    /// With the token where it was good until it was revoked.
    Invalid(Option<Arc<Bearer>>),
    Unavailable(Error),
}

async fn bearer(state: &State, headers: &HeaderMap) -> std::result::Result<Option<Arc<Bearer>>, Refused> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let token = value
        .to_str()
        .ok()
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    let Some(token) = token else { return Ok(None) };
    match state.identity().verify_bearer(token).await {
        Ok(bearer) => Ok(Some(bearer)),
        Err(BearerError::Unavailable(error)) => Err(Refused::Unavailable(error.into())),
        Err(error) => {
            tracing::debug!(%error, "bearer token refused");
            Err(Refused::Invalid(match error {
                BearerError::Revoked(bearer) => Some(bearer),
                _ => None,
            }))
        }
    }
}

fn challenge(
    state: &State,
    headers: &HeaderMap,
    code: Code,
    message: &str,
    needs: &[Need<'_>],
    error: Option<&str>,
) -> Error {
    let mut text = format!("Bearer realm=\"{}\",service=\"{}\"", state.realm(headers), state.settings().service);
    if !needs.is_empty() {
        let scopes: Vec<String> = needs.iter().map(Need::scope).collect();
        text.push_str(&format!(",scope=\"{}\"", scopes.join(" ")));
    }
    if let Some(error) = error {
        text.push_str(&format!(",error=\"{error}\""));
    }
    Error::challenge(code, message, &text)
}

/// Where the token service is, as the challenge says it.
#[derive(Debug, Clone)]
pub enum Realm {
    /// Always this URL.
    Fixed(String),
    /// The host that the client used, where it is one of ours, so that `localhost` and the machine's name both work;
    /// never one that the client made up.
    ByHost {
        /// `http` or `https`.
        scheme: &'static str,
        /// Host names and addresses that this server goes by.
        hosts: Vec<String>,
        /// Port of the token service.
        port: u16,
    },
}

impl Realm {
    /// The realm for a request.
    pub(crate) fn url(&self, headers: &HeaderMap) -> String {
        match self {
            Self::Fixed(url) => url.clone(),
            Self::ByHost { scheme, hosts, port } => {
                let asked = headers.get(header::HOST).and_then(|host| host.to_str().ok()).map(host_of);
                let host = asked
                    .and_then(|asked| hosts.iter().find(|known| known.eq_ignore_ascii_case(asked)))
                    .or(hosts.first())
                    .map_or("localhost", String::as_str);
                // The server leaves this header only where a trusted proxy says it.
                let forwarded = headers.get("x-forwarded-proto").is_some_and(|value| value == "https");
                let scheme = if forwarded { "https" } else { scheme };
                if host.contains(':') {
                    format!("{scheme}://[{host}]:{port}/token")
                } else {
                    format!("{scheme}://{host}:{port}/token")
                }
            }
        }
    }
}

/// The host of a `Host` header, without port and brackets.
fn host_of(value: &str) -> &str {
    if let Some(rest) = value.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    value.rsplit_once(':').map_or(value, |(host, _)| host)
}

/// Upload sessions' own capability: the last part of their URL is `<what>.<mac>`, unforgeable and bound to the repository.
/// What it is of a session without a row, with `~` between: id, time, project, user, key, algorithm and epochs; else the id.
pub(crate) mod session {
    use storage::names::Algorithm;
    use storage::projects::Place;
    use storage::uploads::NewUpload;

    use super::{Action, Error, HeaderMap, Permission, RepoName, Resource, Result, State, Upload, authorize};
    use crate::error::Code;

    const PURPOSE: &str = "registry upload session";
    /// Hexadecimal characters of the code that are kept: 128 bits.
    const MAC: usize = 32;

    fn mac(state: &State, repo: &RepoName, what: &str) -> String {
        let full = state.identity().mac(PURPOSE, format!("{}\n{what}", repo.canonical()).as_bytes());
        full.iter().take(MAC / 2).map(|byte| format!("{byte:02x}")).collect()
    }

    /// The last part of a session's URL.
    pub(crate) fn name(state: &State, repo: &RepoName, upload: &Upload) -> String {
        let what = if upload.unstored { tell(upload) } else { upload.id.clone() };
        format!("{what}.{}", mac(state, repo, &what))
    }

    /// What the last part of a session's URL says, where it is one that we made for the repository.
    pub(crate) fn genuine<'n>(state: &State, repo: &RepoName, name: &'n str) -> Option<&'n str> {
        let (what, given) = name.rsplit_once('.')?;
        same(given.as_bytes(), mac(state, repo, what).as_bytes()).then_some(what)
    }

    /// The session's id in what its URL says.
    pub(crate) fn id(what: &str) -> &str {
        what.split('~').next().unwrap_or_default()
    }

    fn tell(upload: &Upload) -> String {
        let Upload { id, created_at, project_id, user_id, algorithm, epochs, .. } = upload;
        let key = upload.api_key_id.as_deref().unwrap_or_default();
        format!("{id}~{created_at}~{project_id}~{user_id}~{key}~{algorithm}~{epochs}")
    }

    /// The reverse of [`tell`].
    fn heard(state: &State, repo: &RepoName, place: &Place, what: &str) -> Option<Upload> {
        let mut parts = what.splitn(7, '~');
        let mut next = || parts.next();
        let (id, created_at, project_id, user_id) = (next()?, next()?.parse().ok()?, next()?, next()?);
        let (key, algorithm, epochs) = (next()?, next()?.parse::<Algorithm>().ok()?, next()?);
        let new = NewUpload {
            org_id: &place.org_id,
            project_id,
            repository: repo.canonical(),
            user_id,
            api_key_id: Some(key).filter(|key| !key.is_empty()),
            epochs,
            algorithm,
        };
        Some(state.uploads().as_begun(id.to_owned(), &new, created_at)).filter(|u| u.project_id == place.project_id)
    }

    fn unknown() -> Error {
        Error::missing(Code::BlobUploadUnknown, "that upload does not exist or has ended; begin again with POST")
    }

    /// The session that a URL names, where its capability is right and its owner may still push.
    ///
    /// # Errors
    /// 404 for a session that is not there, or not of this repository; 401 where its owner's rights were taken away.
    pub(crate) async fn open(state: &State, headers: &HeaderMap, repo: &RepoName, name: &str) -> Result<Upload> {
        let what = genuine(state, repo, name).ok_or_else(unknown)?;
        let upload = find(state, repo, what).await?.filter(|u| u.repository == repo.canonical()).ok_or_else(unknown)?;
        if still_allowed(state, &upload).await? { Ok(upload) } else { Err(revoked(state, headers, repo).of(&upload)) }
    }

    async fn find(state: &State, repo: &RepoName, what: &str) -> Result<Option<Upload>> {
        if !what.contains('~') {
            return Ok(state.uploads().find(what).await?);
        }
        // A project that is gone, or another of the same name, has no sessions.
        let Some(place) = state.shelf().place(repo).await? else { return Ok(None) };
        let Some(begun) = heard(state, repo, &place, what) else { return Ok(None) };
        Ok(state.uploads().resume(begun).await?)
    }

    /// 401 for an upload whose owner may no longer push.
    pub(crate) fn revoked(state: &State, headers: &HeaderMap, repo: &RepoName) -> Error {
        let message = "the right to push was taken away while this upload ran; log in again";
        let needs = [super::Need::repository(repo, &["pull", "push"])];
        super::challenge(state, headers, Code::Unauthorized, message, &needs, Some("invalid_token"))
    }

    /// Whether whoever began the upload could begin it now. Cheap while none of their epochs has moved.
    pub(crate) async fn still_allowed(state: &State, upload: &Upload) -> Result<bool> {
        let epochs = state.identity().epochs(&upload.user_id).await?;
        let unmoved = epochs.is_some_and(|epochs| epochs.to_string() == upload.epochs);
        // A key ends by itself, and with its maker's rights, and no epoch of its user's moves.
        if unmoved && upload.api_key_id.is_none() {
            return Ok(true);
        }
        let Some(principal) = state.identity().principal(&upload.user_id, upload.api_key_id.as_deref()).await? else {
            return Ok(false);
        };
        if unmoved {
            return Ok(true);
        }
        // The credential's own epoch must not have moved: a password reset ends what the old password began.
        let same_credential =
            epochs.is_some_and(|epochs| upload.epochs.split('.').next() == epochs.to_string().split('.').next());
        let Ok(name) = upload.repository.parse::<RepoName>() else { return Ok(false) };
        let repository = Resource::Repository {
            org_id: &upload.org_id,
            project_id: Some(&upload.project_id),
            path: name.path(),
            tag: None,
        };
        Ok(same_credential && authorize(&principal, Permission::RegistryPush, &repository).is_allowed())
    }

    /// Constant-time equality.
    fn same(a: &[u8], b: &[u8]) -> bool {
        a.len() == b.len() && a.iter().zip(b).fold(0, |acc, (x, y)| acc | (x ^ y)) == 0
    }

    /// Whether an action goes by a session's capability rather than by a token.
    pub(crate) fn covers(action: &Action) -> bool {
        matches!(
            action,
            Action::UploadStatus { .. }
                | Action::AppendUpload { .. }
                | Action::FinishUpload { .. }
                | Action::CancelUpload { .. }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_realm_names_only_hosts_of_ours() {
        let realm = Realm::ByHost {
            scheme: "https",
            hosts: vec!["reg.example".into(), "::1".into(), "localhost".into()],
            port: 5001,
        };
        let url = |host: &str| {
            let mut headers = HeaderMap::new();
            if let Ok(value) = host.parse() {
                headers.insert(header::HOST, value);
            }
            realm.url(&headers)
        };
        assert_eq!(url("localhost:6000"), "https://localhost:5001/token");
        assert_eq!(url("[::1]:6000"), "https://[::1]:5001/token");
        assert_eq!(url("LOCALHOST"), "https://localhost:5001/token");
        assert_eq!(url("evil.example:6000"), "https://reg.example:5001/token");
        assert_eq!(realm.url(&HeaderMap::new()), "https://reg.example:5001/token");
    }

    #[test]
    fn a_push_asks_for_pull_and_push_and_a_mount_for_its_source() {
        let repo: RepoName = "a/b".parse().unwrap_or_else(|_| unreachable!());
        let action = Action::BeginUpload {
            repo: repo.clone(),
            algorithm: storage::names::Algorithm::Sha256,
            start: Start::Session,
        };
        assert_eq!(needs(&action)[0].scope(), "repository:a/b:pull,push");
        assert!(needs(&Action::Version).is_empty());
        let cancel = Action::CancelUpload { repo, session: String::new() };
        assert_eq!(needs(&cancel)[0].scope(), "repository:a/b:pull,push");
    }
}
