//! Sessions of people: a browser's (a cookie of 256 random bits) and a command line's (`rs1.` and as many bits, as a bearer
//! token). The row keeps the hash. A session ends by age (the strictest of the user's organizations, a day at most), when
//! nobody used it for as long as they say, at logout, by hand, and when its user's epoch moves.
//!
//! A session is bound to one of the user's organizations and carries rights in that one alone; another is chosen by
//! [`Identity::switch_org`]. Its secret is a new one after every step that changes what it opens, so none that somebody else
//! could have set or seen before is worth anything after.

use std::sync::Arc;

use serde_json::json;
use storage::names::new_id;
use storage::{Tx, memberships, orgs, sessions, users};
use subtle::ConstantTimeEq;

use crate::admin::AdminError;
use crate::audit::{Caller, Credential, Entry, Origin};
use crate::core::Identity;
use crate::login::Login;
use crate::principal::Subject;
use crate::rbac::Principal;
use crate::secret::{Secret, sha256_hex};

/// Sessions that one user may have at a time; the oldest make room.
const PER_USER: i64 = 100;
/// Random bytes of a secret.
const LEN: usize = 32;
/// What a command line's token begins with.
pub const BEARER_PREFIX: &str = "rs1.";
/// Seconds between two notes that a session was used.
const NOTE_USE_EVERY: i64 = 60;

/// How a session is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionKind {
    /// By a cookie.
    Browser,
    /// By a bearer token.
    Cli,
}

impl SessionKind {
    /// As rows and the API spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Browser => "browser",
            Self::Cli => "cli",
        }
    }

    fn of(row: &sessions::Session) -> Self {
        if row.kind == Self::Cli.as_str() { Self::Cli } else { Self::Browser }
    }

    /// A new secret.
    fn secret(self) -> Secret {
        let random = Secret::random_hex(LEN);
        match self {
            Self::Browser => random,
            Self::Cli => Secret::new(format!("{BEARER_PREFIX}{}", random.expose())),
        }
    }

    /// Whether a text has the form of this kind's secrets.
    fn fits(self, secret: &Secret) -> bool {
        let hex = match self {
            Self::Browser => Some(secret.expose()),
            Self::Cli => secret.expose().strip_prefix(BEARER_PREFIX),
        };
        hex.is_some_and(|hex| hex.len() == 2 * LEN && hex.bytes().all(|b| b.is_ascii_hexdigit()))
    }
}

/// A session that was just begun, or has a new secret.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// Public id.
    pub id: String,
    /// The cookie's value, or the bearer token.
    pub token: Secret,
    /// What unsafe requests by cookie must repeat in a header.
    pub csrf_token: Secret,
    /// When it ends (unix seconds).
    pub expires_at: i64,
}

/// What beginning a session needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start<'a> {
    pub(crate) user_id: &'a str,
    /// The user's epoch when they showed who they are.
    pub(crate) epoch: i64,
    pub(crate) kind: SessionKind,
    pub(crate) second_factor: bool,
    pub(crate) from: &'a Origin,
    /// The organization to choose; else the first of the user's.
    pub(crate) org_id: Option<&'a str>,
}

/// Whoever a live session belongs to.
#[derive(Debug, Clone)]
pub struct LiveSession {
    /// Public id.
    pub id: String,
    /// How it is shown.
    pub kind: SessionKind,
    /// Their rights at this moment, in the chosen organization.
    pub principal: Arc<Principal>,
    /// Id of the chosen organization, if the user is active there.
    pub org_id: Option<String>,
    /// Whether they must choose a new password before anything else.
    pub must_change_password: bool,
    /// Whether they must enrol a second factor before anything else.
    pub must_enrol: bool,
    /// Whether a second factor was shown.
    pub second_factor: bool,
    /// What unsafe requests by cookie must repeat in a header.
    pub csrf_token: Secret,
    /// When it ends (unix seconds).
    pub expires_at: i64,
    row: sessions::Session,
}

impl LiveSession {
    /// Whether a request repeats this session's token, in constant time.
    #[must_use]
    pub fn csrf_matches(&self, given: &str) -> bool {
        bool::from(self.csrf_token.expose().as_bytes().ct_eq(given.as_bytes()))
    }

    /// The user's epoch that it was begun at.
    pub(crate) fn epoch(&self) -> i64 {
        self.row.epoch
    }

    /// When its holder logged in (unix seconds).
    pub(crate) fn created_at(&self) -> i64 {
        self.row.created_at
    }
}

impl Identity {
    /// Begins a session for somebody who logged in at the console's door with a password, and records the log-in.
    ///
    /// # Errors
    /// [`storage::Error::Config`] for a log-in by API key, whose rights a session would exceed; else those of the database.
    pub async fn begin_session(&self, login: &Login, from: &Origin, kind: SessionKind) -> storage::Result<NewSession> {
        if login.key.is_some() {
            return Err(storage::Error::Config("an API key opens no session".into()));
        }
        let (user_id, epoch) = (login.principal.user_id.as_str(), login.epochs.user);
        let start = Start { user_id, epoch, kind, second_factor: login.second_factor, from, org_id: None };
        let mut tx = self.db().begin().await?;
        let session = self.write_session(&mut tx, &start).await?;
        let by =
            Caller { principal: Arc::clone(&login.principal), credential: Credential::Password, origin: from.clone() };
        let detail = json!({"session": session.id});
        let entry = Entry { action: "login", target: &login.principal.name, detail, ..Entry::default() };
        self.record_for(&mut tx, &by, Some(user_id), &entry).await?;
        tx.commit().await?;
        self.forget(user_id);
        Ok(session)
    }

    /// Begins a session in a transaction of the caller's, which records it and then forgets the user: they accept the
    /// organization that invited them, if this is their first log-in, and the one that the session chooses, which is one that
    /// they accepted before where there is any.
    pub(crate) async fn write_session(&self, tx: &mut Tx, start: &Start<'_>) -> storage::Result<NewSession> {
        let mine = orgs::list_of_user(tx, start.user_id, "", 10_000).await?;
        let now = self.now();
        if users::find(tx, start.user_id).await?.is_some_and(|user| !user.verified) {
            memberships::accept_last_invitation(tx, start.user_id, now).await?;
        }
        let accepted = memberships::accepted_orgs(tx, start.user_id).await?;
        let chosen = mine.iter().find(|org| start.org_id == Some(org.id.as_str()));
        let chosen = chosen.or_else(|| mine.iter().find(|org| accepted.contains(&org.id))).or(mine.first());
        if let Some(org) = chosen {
            memberships::accept(tx, &org.id, start.user_id, now).await?;
        }
        let settings = orgs::settings_of_user(tx, start.user_id).await?;
        let policy = crate::policy::Policy::strictest(&settings, self.0.options.lockout);
        let token = start.kind.secret();
        let text = |text: &str| text.chars().filter(|c| *c != '\0').take(256).collect::<String>();
        let row = sessions::Session {
            id: new_id(),
            token_hash: sha256_hex(token.expose()),
            user_id: start.user_id.to_owned(),
            epoch: start.epoch,
            kind: start.kind.as_str().to_owned(),
            org_id: chosen.map(|org| org.id.clone()),
            second_factor: start.second_factor,
            address: start.from.address.map(|address| address.to_canonical().to_string()).unwrap_or_default(),
            agent: text(&start.from.agent),
            created_at: now,
            last_seen_at: now,
            expires_at: now + self.0.options.session_lifetime.min(policy.session),
        };
        sessions::create(tx, &row).await?;
        sessions::trim(tx, &row.user_id, PER_USER).await?;
        Ok(self.shown(&row, token))
    }

    /// Whether a session still is one at this moment, its user's epoch held until the transaction ends: whatever ended the
    /// session meanwhile, here or at another replica, stays the last word. To be asked before it is renewed or changes what
    /// opens the account.
    ///
    /// # Errors
    /// [`storage::Error::NotFound`] where it is over, else those of the database.
    pub(crate) async fn hold(&self, tx: &mut Tx, session: &LiveSession) -> storage::Result<()> {
        match users::hold_epoch(tx, &session.row.user_id, session.row.epoch).await? {
            true => Ok(()),
            false => Err(storage::Error::NotFound("session")),
        }
    }

    /// Gives a session that is [held](Identity::hold) another secret at the user's epoch of this transaction, because what it
    /// opens changed or because the transaction moved the epoch. The old secret opens nothing any more.
    pub(crate) async fn renew(
        &self,
        tx: &mut Tx,
        old: &LiveSession,
        second_factor: bool,
    ) -> storage::Result<NewSession> {
        let user = users::find(tx, &old.row.user_id).await?.ok_or(storage::Error::NotFound("user"))?;
        self.renew_at(tx, old, second_factor, user.epoch).await
    }

    async fn renew_at(
        &self,
        tx: &mut Tx,
        old: &LiveSession,
        second_factor: bool,
        epoch: i64,
    ) -> storage::Result<NewSession> {
        if !sessions::delete(tx, &old.row.token_hash).await? {
            return Err(storage::Error::NotFound("session"));
        }
        let token = old.kind.secret();
        let token_hash = sha256_hex(token.expose());
        let row = sessions::Session { token_hash, epoch, second_factor, ..old.row.clone() };
        sessions::create(tx, &row).await?;
        Ok(self.shown(&row, token))
    }

    /// Gives the session in which a password was changed another secret, at the epoch that the change made: that of
    /// [`Identity::change_password`]. Where something else moved it since, the session stays ended.
    ///
    /// # Errors
    /// [`storage::Error::NotFound`] where it was ended by hand meanwhile, else those of the database.
    pub async fn continue_session(&self, old: &LiveSession, epoch: i64) -> storage::Result<NewSession> {
        let mut tx = self.db().begin().await?;
        let session = self.renew_at(&mut tx, old, old.second_factor, epoch).await?;
        tx.commit().await?;
        Ok(session)
    }

    fn shown(&self, row: &sessions::Session, token: Secret) -> NewSession {
        NewSession { id: row.id.clone(), csrf_token: self.csrf_token(&token), token, expires_at: row.expires_at }
    }

    /// Finds a live session by its secret, and notes, to the minute, that it is used.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn find_session(&self, token: &Secret, kind: SessionKind) -> storage::Result<Option<LiveSession>> {
        let found = self.peek_session(token, kind).await?;
        let now = self.now();
        if let Some(live) = found.as_ref().filter(|live| live.row.last_seen_at + NOTE_USE_EVERY <= now) {
            let mut tx = self.db().begin().await?;
            sessions::touch(&mut tx, &live.row.token_hash, now).await?;
            tx.commit().await?;
        }
        Ok(found)
    }

    /// As [`Identity::find_session`], of what a page asks for by itself: that is no use, and so puts no end off.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn peek_session(&self, token: &Secret, kind: SessionKind) -> storage::Result<Option<LiveSession>> {
        if !kind.fits(token) {
            return Ok(None);
        }
        let found = sessions::find(&mut self.db().read().await?, &sha256_hex(token.expose())).await?;
        let Some(row) = found.filter(|row| SessionKind::of(row) == kind) else { return Ok(None) };
        let Some(subject) = self.subject(&row.user_id).await? else { return Ok(None) };
        if !self.is_live(&row, &subject) {
            return Ok(None);
        }
        let org_id = row.org_id.clone().filter(|org| subject.orgs.contains(org));
        let mut principal = subject.principal(None);
        principal.grants.retain(|grant| Some(&grant.org_id) == org_id.as_ref());
        Ok(Some(LiveSession {
            id: row.id.clone(),
            kind,
            principal: Arc::new(principal),
            org_id,
            must_change_password: subject.user.must_change_password,
            must_enrol: subject.must_enrol(),
            second_factor: row.second_factor,
            csrf_token: self.csrf_token(token),
            expires_at: row.expires_at.min(row.created_at + subject.policy.session),
            row,
        }))
    }

    fn is_live(&self, row: &sessions::Session, subject: &Subject) -> bool {
        let (now, policy) = (self.now(), &subject.policy);
        let old = row.expires_at <= now || row.created_at + policy.session <= now;
        let idle = policy.idle_logout.is_some_and(|seconds| row.last_seen_at + seconds <= now);
        // Turning a second factor on moves the epoch; that it was shown is asked for all the same.
        let shown = row.second_factor || !subject.factors.any();
        subject.is_alive() && subject.user.epoch == row.epoch && !old && !idle && shown
    }

    /// Ends a session, and records it.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn end_session(&self, by: &Caller, session: &LiveSession) -> storage::Result<()> {
        let mut tx = self.db().begin().await?;
        sessions::delete(&mut tx, &session.row.token_hash).await?;
        let detail = json!({"session": session.id});
        let entry = Entry { action: "session.end", target: &by.principal.name, detail, ..Entry::default() };
        self.record_for(&mut tx, by, Some(&session.row.user_id), &entry).await?;
        tx.commit().await
    }

    /// At most `limit` live sessions of a user after the id `after`; with an organization, those that chose it.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn sessions_of(
        &self,
        user_id: &str,
        org_id: Option<&str>,
        after: &str,
        limit: i64,
    ) -> storage::Result<Vec<sessions::Session>> {
        // All of them at once: what time has ended by one organization's settings is left out of a page, not cut from it.
        let rows = sessions::list_of_user(&mut self.db().read().await?, user_id, self.now(), after, PER_USER).await?;
        let Some(subject) = self.subject(user_id).await? else { return Ok(Vec::new()) };
        let limit = usize::try_from(limit).unwrap_or_default();
        let asked = |row: &sessions::Session| org_id.is_none() || row.org_id.as_deref() == org_id;
        Ok(rows.into_iter().filter(|row| asked(row) && self.is_live(row, &subject)).take(limit).collect())
    }

    /// Ends one of the caller's own sessions by its public id.
    ///
    /// # Errors
    /// [`storage::Error::NotFound`] where the caller has none of that id, else those of the database.
    pub async fn end_own_session(&self, by: &Caller, id: &str) -> storage::Result<()> {
        let mut tx = self.db().begin().await?;
        if !sessions::delete_by_id(&mut tx, &by.principal.user_id, id).await? {
            return Err(storage::Error::NotFound("session"));
        }
        let detail = json!({"session": id});
        let entry = Entry { action: "session.end", target: &by.principal.name, detail, ..Entry::default() };
        self.record_for(&mut tx, by, Some(&by.principal.user_id), &entry).await?;
        tx.commit().await
    }

    /// Ends everything that the caller is logged in with but this session: other sessions, what docker keeps, access
    /// tokens. This one goes on with another secret.
    ///
    /// # Errors
    /// [`storage::Error::NotFound`] where something ended this one meanwhile, else those of the database.
    pub async fn end_other_sessions(&self, by: &Caller, session: &LiveSession) -> storage::Result<NewSession> {
        let user_id = &session.row.user_id;
        let mut tx = self.db().begin().await?;
        self.hold(&mut tx, session).await?;
        users::bump_epoch(&mut tx, user_id).await?;
        sessions::delete_others(&mut tx, user_id, &session.id).await?;
        let renewed = self.renew(&mut tx, session, session.second_factor).await?;
        let entry = Entry { action: "session.end_all", target: &by.principal.name, ..Entry::default() };
        self.record_for(&mut tx, by, Some(user_id), &entry).await?;
        tx.commit().await?;
        self.forget(user_id);
        Ok(renewed)
    }

    /// Ends a member's sessions for an administrator: everything they are logged in with, where they are in this organization
    /// alone by their own act; else the sessions in which it is the chosen one. Where they did not accept it, nothing happens;
    /// it is recorded all the same, so that nothing tells who has an account elsewhere.
    ///
    /// # Errors
    /// [`AdminError::Denied`] where the member has what the caller has not; [`AdminError::Storage`].
    pub async fn end_sessions_of(&self, by: &Caller, org_id: &str, user_id: &str) -> Result<(), AdminError> {
        self.check_rank(by, org_id, user_id, false).await??;
        let mut tx = self.db().begin().await?;
        let member = memberships::find(&mut tx, org_id, user_id).await?.ok_or(storage::Error::NotFound("user"))?;
        if member.accepted_at.is_some() {
            if memberships::count_elsewhere(&mut tx, user_id, org_id).await? == 0 {
                users::bump_epoch(&mut tx, user_id).await?;
            } else {
                users::bump_grants_epoch(&mut tx, user_id).await?;
            }
            sessions::delete_in_org(&mut tx, user_id, org_id).await?;
        }
        let entry = Entry { org_id, action: "session.end_all", target: &member.name, ..Entry::default() };
        self.record(&mut tx, by, &entry).await?;
        tx.commit().await?;
        self.forget(user_id);
        Ok(())
    }

    /// Chooses another of the user's organizations for a session, which gets another secret. They accept it by that.
    ///
    /// # Errors
    /// [`storage::Error::NotFound`] where the user is not active in an organization of that slug.
    pub async fn switch_org(&self, by: &Caller, session: &LiveSession, slug: &str) -> storage::Result<NewSession> {
        const UNKNOWN: storage::Error = storage::Error::NotFound("organization");
        let mut tx = self.db().begin().await?;
        let org = orgs::find_by_slug(&mut tx, slug).await?.ok_or(UNKNOWN)?;
        if !memberships::active_orgs(&mut tx, &session.row.user_id).await?.contains(&org.id) {
            return Err(UNKNOWN);
        }
        memberships::accept(&mut tx, &org.id, &session.row.user_id, self.now()).await?;
        let token = session.kind.secret();
        let hash = sha256_hex(token.expose());
        sessions::update_org(&mut tx, &session.row.token_hash, &org.id, &hash).await?;
        let detail = json!({"session": session.id});
        let entry =
            Entry { org_id: &org.id, action: "session.switch", target: &by.principal.name, detail, ..Entry::default() };
        self.record(&mut tx, by, &entry).await?;
        tx.commit().await?;
        self.forget(&session.row.user_id);
        Ok(self.shown(&session.row, token))
    }

    /// Derived from the cookie, so that nothing else need be kept, and useless without it.
    fn csrf_token(&self, token: &Secret) -> Secret {
        Secret::new(hex::encode(self.mac("csrf token", token.expose().as_bytes())))
    }
}

#[cfg(test)]
mod tests;
