//! Passkeys (Web Authentication, Level 3): ceremonies whose state stays in this server's rows, never with the client.
//!
//! A passkey verifies its user (PIN, finger, face) each time, so it is a second factor and, alone, both factors at once. It
//! is bound to the controller's name and origin: on another site it signs for that one, which is refused here. A counter
//! that does not go up is a copy, and refused too.

use serde_json::Value;
use storage::{Tx, passkeys};
use webauthn_rs::prelude::{
    AuthenticationResult, DiscoverableAuthentication, Passkey, PasskeyAuthentication, PasskeyRegistration,
    PublicKeyCredential, RegisterPublicKeyCredential, Url, Uuid, Webauthn, WebauthnBuilder,
};

use super::{MfaError, Spent};
use crate::core::Identity;
use crate::login::LoginError;
use crate::secret::sha256_hex;

/// Passkeys that one user may have.
pub(crate) const PER_USER: i64 = 20;

/// What a passkey signed, checked; what it changes is not yet written.
#[derive(Debug)]
pub(crate) struct Assertion {
    row: passkeys::Passkey,
    result: AuthenticationResult,
}

impl Assertion {
    pub(crate) fn user_id(&self) -> &str {
        &self.row.user_id
    }
}

/// The ceremonies of a controller at this URL; `None` where it has no name that a passkey can be bound to.
pub(crate) fn ceremonies(url: &str) -> Option<Webauthn> {
    let url = Url::parse(url).ok()?;
    let name = url.domain()?.to_owned();
    WebauthnBuilder::new(&name, &url).ok()?.rp_name("Wharfinger").build().ok()
}

fn text(value: &impl serde::Serialize) -> Result<String, MfaError> {
    serde_json::to_string(value).map_err(|_| MfaError::Damaged)
}

fn json(value: &impl serde::Serialize) -> Result<Value, MfaError> {
    serde_json::to_value(value).map_err(|_| MfaError::Damaged)
}

/// How rows name a credential.
fn row_id(credential_id: &[u8]) -> String {
    sha256_hex(&hex::encode(credential_id))
}

impl Identity {
    fn webauthn(&self) -> Result<&Webauthn, MfaError> {
        self.0.webauthn.as_ref().ok_or(MfaError::NoPasskeys)
    }

    /// What a user is called towards passkeys: it says nothing, and not that two sites know the same user.
    fn handle(&self, user_id: &str) -> Uuid {
        let mac = self.mac("passkey user", user_id.as_bytes());
        let mut handle = [0u8; 16];
        handle.copy_from_slice(&mac[..16]);
        Uuid::from_bytes(handle)
    }

    async fn passkeys_of(&self, user_id: &str) -> Result<Vec<Passkey>, MfaError> {
        let rows = passkeys::list_of_user(&mut self.db().read().await?, user_id, PER_USER).await?;
        rows.iter().map(|row| serde_json::from_str(&row.credential).map_err(|_| MfaError::Damaged)).collect()
    }

    /// Options and state of a new passkey of a user's.
    pub(crate) async fn begin_registration(&self, user_id: &str, name: &str) -> Result<(Value, String), MfaError> {
        let known = self.passkeys_of(user_id).await?;
        if known.len() >= usize::try_from(PER_USER).unwrap_or(usize::MAX) {
            return Err(MfaError::TooMany);
        }
        let known = known.iter().map(|passkey| passkey.cred_id().clone()).collect();
        let (options, state) = self
            .webauthn()?
            .start_passkey_registration(self.handle(user_id), name, name, Some(known))
            .map_err(|error| refused(&error))?;
        let mut options = json(&options)?;
        if let Some(selection) = options.pointer_mut("/publicKey/authenticatorSelection") {
            // So that it can say by itself who its user is, where it can.
            selection["residentKey"] = "preferred".into();
        }
        Ok((options, text(&state)?))
    }

    /// The credential that a browser made, as a row keeps it.
    pub(crate) fn finish_registration(
        &self,
        user_id: &str,
        name: &str,
        credential: &Value,
        state: &str,
    ) -> Result<passkeys::Passkey, MfaError> {
        let given = serde_json::from_value::<RegisterPublicKeyCredential>(credential.clone());
        let given = given.map_err(|_| MfaError::Wrong)?;
        let state = serde_json::from_str::<PasskeyRegistration>(state).map_err(|_| MfaError::Damaged)?;
        let passkey = self.webauthn()?.finish_passkey_registration(&given, &state).map_err(|error| refused(&error))?;
        Ok(passkeys::Passkey {
            id: row_id(passkey.cred_id().as_ref()),
            user_id: user_id.to_owned(),
            name: name.to_owned(),
            credential: text(&passkey)?,
            created_at: self.now(),
            last_used_at: None,
        })
    }

    /// Options and state of a log-in that goes on with one of this user's passkeys; `None` where there can be none.
    pub(crate) async fn begin_assertion(&self, user_id: &str) -> Result<Option<(Value, String)>, LoginError> {
        let begun = async {
            let known = self.passkeys_of(user_id).await?;
            let (options, state) =
                self.webauthn()?.start_passkey_authentication(&known).map_err(|error| refused(&error))?;
            Ok((json(&options)?, text(&state)?))
        };
        match begun.await {
            Ok(begun) => Ok(Some(begun)),
            Err(MfaError::Storage(error)) => Err(error.into()),
            // The user has other ways, a recovery code at least.
            Err(_) => Ok(None),
        }
    }

    /// Options and state of a log-in by passkey alone.
    pub(crate) fn begin_discovery(&self) -> Result<(Value, String), LoginError> {
        let begun = || -> Result<_, MfaError> {
            let (mut options, state) =
                self.webauthn()?.start_discoverable_authentication().map_err(|error| refused(&error))?;
            // By a button, not by the completion of a field.
            options.mediation = None;
            Ok((json(&options)?, text(&state)?))
        };
        begun().map_err(|_| LoginError::NoPasskeys)
    }

    /// The id of the user whose passkey a credential is, if it is anybody's and says so itself.
    pub(crate) async fn owner_of(&self, credential: &Value) -> storage::Result<Option<String>> {
        let Ok(given) = serde_json::from_value::<PublicKeyCredential>(credential.clone()) else { return Ok(None) };
        let row = passkeys::find(&mut self.db().read().await?, &row_id(given.get_credential_id())).await?;
        let handle = given.get_user_unique_id().and_then(|handle| Uuid::from_slice(handle).ok());
        Ok(row.map(|row| row.user_id).filter(|user_id| handle == Some(self.handle(user_id))))
    }

    /// Checks what a passkey signed in a log-in that named its user.
    pub(crate) async fn check_assertion(&self, credential: &Value, state: &str) -> Result<Assertion, MfaError> {
        let state = serde_json::from_str::<PasskeyAuthentication>(state).map_err(|_| MfaError::Wrong)?;
        let (given, row) = self.find_credential(credential).await?;
        let result = self.webauthn()?.finish_passkey_authentication(&given, &state).map_err(|error| refused(&error))?;
        verified(row, result)
    }

    /// Checks what a passkey signed that says itself who its user is.
    pub(crate) async fn check_discovered(&self, credential: &Value, state: &str) -> Result<Assertion, MfaError> {
        let state = serde_json::from_str::<DiscoverableAuthentication>(state).map_err(|_| MfaError::Wrong)?;
        let (given, row) = self.find_credential(credential).await?;
        let passkey = serde_json::from_str::<Passkey>(&row.credential).map_err(|_| MfaError::Damaged)?;
        let result = self
            .webauthn()?
            .finish_discoverable_authentication_v2(&given, state, &passkey)
            .map_err(|error| refused(&error))?;
        verified(row, result)
    }

    async fn find_credential(&self, credential: &Value) -> Result<(PublicKeyCredential, passkeys::Passkey), MfaError> {
        let given = serde_json::from_value::<PublicKeyCredential>(credential.clone()).map_err(|_| MfaError::Wrong)?;
        let row = passkeys::find(&mut self.db().read().await?, &row_id(given.get_credential_id())).await?;
        Ok((given, row.ok_or(MfaError::Wrong)?))
    }

    /// Writes that a passkey was used. Of two uses of one state of its counter, one is right.
    pub(crate) async fn spend_assertion(&self, tx: &mut Tx, assertion: &Assertion) -> Result<Spent, MfaError> {
        let Assertion { row, result } = assertion;
        // As it is at this moment: the ceremony's state is of when it began.
        let now = passkeys::find(tx, &row.id).await?.ok_or(MfaError::Wrong)?;
        let mut passkey = serde_json::from_str::<Passkey>(&now.credential).map_err(|_| MfaError::Damaged)?;
        let counts = result.counter() > 0 && passkey.update_credential(result) != Some(true);
        if counts || !passkeys::update(tx, &row.id, &row.credential, &text(&passkey)?, self.now()).await? {
            return Err(MfaError::Wrong);
        }
        Ok(Spent::Passkey)
    }
}

/// An assertion by which the user was verified, whatever the passkey was asked for.
fn verified(row: passkeys::Passkey, result: AuthenticationResult) -> Result<Assertion, MfaError> {
    if result.user_verified() { Ok(Assertion { row, result }) } else { Err(MfaError::Wrong) }
}

fn refused(error: &webauthn_rs::prelude::WebauthnError) -> MfaError {
    tracing::debug!(%error, "a passkey ceremony failed");
    MfaError::Wrong
}
