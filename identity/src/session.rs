//! Console sessions: a random cookie of 256 bits, of which the row keeps the hash. A session ends after 24 hours, at logout,
//! and when its user's epoch moves.

use std::sync::Arc;

use storage::names::new_id;
use storage::sessions;
use subtle::ConstantTimeEq;

use crate::core::Identity;
use crate::login::Login;
use crate::rbac::Principal;
use crate::secret::{Secret, sha256_hex};

/// Sessions that one user may have at a time; the oldest make room.
const PER_USER: i64 = 100;
/// Length of a cookie's value.
const LEN: usize = 64;

/// A session that was just begun.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// The cookie's value.
    pub token: Secret,
    /// What unsafe requests must repeat in a header.
    pub csrf_token: Secret,
    /// When it ends (unix seconds).
    pub expires_at: i64,
}

/// Whoever a live session belongs to.
#[derive(Debug, Clone)]
pub struct LiveSession {
    /// Public id.
    pub id: String,
    /// Their rights at this moment.
    pub principal: Arc<Principal>,
    /// Whether they must choose a new password before anything else.
    pub must_change_password: bool,
    /// What unsafe requests must repeat in a header.
    pub csrf_token: Secret,
    /// When it ends (unix seconds).
    pub expires_at: i64,
}

impl LiveSession {
    /// Whether a request repeats this session's token, in constant time.
    #[must_use]
    pub fn csrf_matches(&self, given: &str) -> bool {
        bool::from(self.csrf_token.expose().as_bytes().ct_eq(given.as_bytes()))
    }
}

impl Identity {
    /// Begins a session for somebody who logged in at the console's door with a password.
    ///
    /// # Errors
    /// [`storage::Error::Config`] for a log-in by API key, whose rights a session would exceed; else those of the database.
    pub async fn begin_session(&self, login: &Login) -> storage::Result<NewSession> {
        if login.key.is_some() {
            return Err(storage::Error::Config("an API key opens no session".into()));
        }
        let token = Secret::random_hex(LEN / 2);
        let now = self.now();
        let row = sessions::Session {
            id: new_id(),
            token_hash: sha256_hex(token.expose()),
            user_id: login.principal.user_id.clone(),
            epoch: login.epochs.user,
            kind: "browser".to_owned(),
            org_id: None,
            second_factor: false,
            address: String::new(),
            agent: String::new(),
            created_at: now,
            last_seen_at: now,
            expires_at: now + self.0.options.session_lifetime,
        };
        let mut tx = self.db().begin().await?;
        sessions::create(&mut tx, &row).await?;
        sessions::trim(&mut tx, &row.user_id, PER_USER).await?;
        tx.commit().await?;
        Ok(NewSession { csrf_token: self.csrf_token(&token), token, expires_at: row.expires_at })
    }

    /// Finds a live session by its cookie.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn find_session(&self, token: &Secret) -> storage::Result<Option<LiveSession>> {
        if token.expose().len() != LEN {
            return Ok(None);
        }
        let found = sessions::find(&mut self.db().read().await?, &sha256_hex(token.expose())).await?;
        let Some(row) = found.filter(|row| row.expires_at > self.now()) else { return Ok(None) };
        let Some(subject) = self.subject(&row.user_id).await? else { return Ok(None) };
        let Some(principal) = self.principal(&row.user_id, None).await? else { return Ok(None) };
        let live = subject.user.epoch == row.epoch;
        Ok(live.then(|| LiveSession {
            id: row.id,
            principal,
            must_change_password: subject.user.must_change_password,
            csrf_token: self.csrf_token(token),
            expires_at: row.expires_at,
        }))
    }

    /// Ends a session, if there is one.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn end_session(&self, token: &Secret) -> storage::Result<()> {
        let mut tx = self.db().begin().await?;
        sessions::delete(&mut tx, &sha256_hex(token.expose())).await?;
        tx.commit().await
    }

    /// Derived from the cookie, so that nothing else need be kept, and useless without it.
    fn csrf_token(&self, token: &Secret) -> Secret {
        Secret::new(hex::encode(self.mac("csrf token", token.expose().as_bytes())))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::audit::Caller;
    use crate::core::testing;
    use crate::login::Door;

    #[tokio::test]
    async fn a_session_lasts_a_day_unless_something_ends_it() {
        let t = testing::identity().await;
        let login = t.identity.login("admin@localhost", &testing::PASSWORD.into(), Door::Console).await.unwrap();
        let first = t.identity.begin_session(&login).await.unwrap();
        let second = t.identity.begin_session(&login).await.unwrap();
        let live = t.identity.find_session(&first.token).await.unwrap().unwrap();
        assert_eq!(live.principal.name, "admin@localhost");
        assert!(live.csrf_matches(first.csrf_token.expose()) && !live.csrf_matches(second.csrf_token.expose()));
        assert!(!live.csrf_matches(""));
        assert!(t.identity.find_session(&"x".into()).await.unwrap().is_none());

        t.identity.end_session(&first.token).await.unwrap();
        assert!(t.identity.find_session(&first.token).await.unwrap().is_none());
        t.advance(86_399);
        assert!(t.identity.find_session(&second.token).await.unwrap().is_some());
        t.advance(1);
        assert!(t.identity.find_session(&second.token).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn an_api_key_opens_no_session() {
        let t = testing::identity().await;
        let (_, key) = t.key_of("admin@localhost").await;
        let refused = t.identity.login("admin@localhost", &key, Door::Console).await;
        assert!(matches!(refused, Err(crate::login::LoginError::Refused)));
        let login = t.identity.login_with_key(&key).await.unwrap();
        assert!(t.identity.begin_session(&login).await.is_err());
    }

    #[tokio::test]
    async fn a_new_password_ends_every_session() {
        let t = testing::identity().await;
        let login = t.identity.login("admin@localhost", &testing::PASSWORD.into(), Door::Console).await.unwrap();
        let session = t.identity.begin_session(&login).await.unwrap();
        t.identity
            .change_password(
                &Caller::server(),
                "admin@localhost",
                &testing::PASSWORD.into(),
                &"quite another one".into(),
            )
            .await
            .unwrap();
        assert!(t.identity.find_session(&session.token).await.unwrap().is_none());
    }
}
