//! Refresh tokens: what docker stores as its "identity token" in place of the password. Opaque, reusable until revoked,
//! bound to the user, the user's epoch and the service. An API key gets none: it is itself what can be revoked.

use std::sync::Arc;

use storage::refresh_tokens::{self, RefreshToken};

use crate::core::Identity;
use crate::login::{Login, LoginError};
use crate::secret::{Secret, sha256_hex};

/// Refresh tokens that one user may have; those used least lately make room.
const PER_USER: i64 = 1000;
/// Length of a token.
const LEN: usize = 64;
/// Seconds between two notes that a token was used.
const NOTE_USE_EVERY: i64 = 86_400;

impl Identity {
    /// Makes a refresh token for somebody who logged in with a password; `None` for an API key.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn issue_refresh(&self, login: &Login, service: &str) -> storage::Result<Option<Secret>> {
        if login.key.is_some() {
            return Ok(None);
        }
        let token = Secret::random_hex(LEN / 2);
        let now = self.now();
        let row = RefreshToken {
            token_hash: sha256_hex(token.expose()),
            user_id: login.principal.user_id.clone(),
            epoch: login.epochs.user,
            service: service.to_owned(),
            created_at: now,
            last_used_at: now,
        };
        let mut tx = self.db().begin().await?;
        refresh_tokens::create(&mut tx, &row, PER_USER).await?;
        tx.commit().await?;
        Ok(Some(token))
    }

    /// Lets somebody in by refresh token, for the service that it was made for.
    ///
    /// # Errors
    /// [`LoginError::Refused`] for a token that is not, or no longer, one; [`LoginError::ApiKeyRequired`] where a second factor
    /// is asked for by now; [`LoginError::Unavailable`].
    pub async fn login_with_refresh(&self, token: &Secret, service: &str) -> Result<Login, LoginError> {
        if token.expose().len() != LEN {
            return Err(LoginError::Refused);
        }
        let found = refresh_tokens::find(&mut self.db().read().await?, &sha256_hex(token.expose())).await?;
        let row = found.filter(|row| row.service == service).ok_or(LoginError::Refused)?;
        let subject = self.subject(&row.user_id).await?.ok_or(LoginError::Refused)?;
        if subject.user.epoch != row.epoch || !subject.is_alive() {
            return Err(LoginError::Refused);
        }
        // Turning a second factor on moves the epoch; an organization that asks for one does not.
        if subject.needs_api_key() {
            return Err(LoginError::ApiKeyRequired);
        }
        let principal = Arc::new(subject.principal(None));
        if row.last_used_at + NOTE_USE_EVERY <= self.now() {
            let mut tx = self.db().begin().await?;
            refresh_tokens::touch(&mut tx, &row.token_hash, self.now()).await?;
            tx.commit().await?;
        }
        Ok(Login { principal, epochs: subject.epochs(), key: None, must_change_password: false, second_factor: false })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::audit::Caller;
    use crate::core::testing;
    use crate::login::Door;

    #[tokio::test]
    async fn a_refresh_token_is_reusable_until_the_epoch_moves() {
        let t = testing::identity().await;
        let login = t.identity.login("admin@localhost", &testing::PASSWORD.into(), Door::Registry).await.unwrap();
        let token = t.identity.issue_refresh(&login, "wharfinger").await.unwrap().unwrap();
        for _ in 0..3 {
            t.advance(86_400);
            let again = t.identity.login_with_refresh(&token, "wharfinger").await.unwrap();
            assert_eq!(again.principal.name, "admin@localhost");
        }
        let other = t.identity.login_with_refresh(&token, "another").await;
        assert!(matches!(other, Err(LoginError::Refused)));
        assert!(matches!(t.identity.login_with_refresh(&"x".into(), "wharfinger").await, Err(LoginError::Refused)));
        t.identity.reset_password(&Caller::server(), "admin@localhost", None).await.unwrap();
        assert!(matches!(t.identity.login_with_refresh(&token, "wharfinger").await, Err(LoginError::Refused)));
    }

    #[tokio::test]
    async fn an_api_key_gets_no_refresh_token() {
        let t = testing::identity().await;
        let (_, key) = t.key_of("admin@localhost").await;
        let login = t.identity.login("admin@localhost", &key, Door::Registry).await.unwrap();
        assert_eq!(t.identity.issue_refresh(&login, "wharfinger").await.unwrap(), None);
    }
}
