//! Saying whom a machine may be: making, changing and deleting trusts.

use serde_json::{Value, json};
use storage::trusted_issuers::{self, TrustTerms, TrustedIssuer};
use storage::{Tx, memberships, users};
use url::Url;

use super::key_set::{KeySet, KeySetError};
use super::rules::{Rules, RulesError};
use crate::audit::{Caller, Credential, Entry};
use crate::core::Identity;
use crate::rbac::Denial;

/// Trusts of one organization.
const PER_ORG: i64 = 500;
/// Trusts of one machine: each may cost a signature check at an exchange.
pub(super) const PER_MACHINE: i64 = 20;
/// Longest name, in characters.
const MAX_NAME: usize = 128;
/// Longest issuer and audience, in bytes.
const MAX_TEXT: usize = 512;

/// What a trust is to say.
#[derive(Debug, Clone)]
pub struct NewTrust {
    /// What its maker calls it.
    pub name: String,
    /// `iss` of the tokens, byte for byte. An https URL that publishes its keys, unless keys are given.
    pub issuer: String,
    /// What `aud` of the tokens must hold.
    pub audience: String,
    /// Which tokens.
    pub rules: Rules,
    /// A JSON Web Key Set, for an issuer that publishes none.
    pub keys: Option<Value>,
}

/// Why a trust was not made or changed. `Display` is meant for whoever asked for it.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A field that cannot be.
    #[error("{field}: {reason}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What would be accepted.
        reason: String,
    },
    /// The user is a person.
    #[error("tokens of an issuer stand for a machine: name one")]
    NotAMachine,
    /// There are too many.
    #[error("{0}")]
    TooMany(&'static str),
    /// The machine may do what the caller may not, and would do it for them.
    #[error("the machine has rights that you do not have: {0}")]
    Denied(#[from] Denial),
    /// What the rows said.
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

impl From<RulesError> for TrustError {
    fn from(error: RulesError) -> Self {
        Self::invalid("rules", &error)
    }
}

impl From<KeySetError> for TrustError {
    fn from(error: KeySetError) -> Self {
        Self::invalid("keys", &error)
    }
}

impl TrustError {
    fn invalid(field: &'static str, reason: &(impl ToString + ?Sized)) -> Self {
        Self::Invalid { field, reason: reason.to_string() }
    }
}

/// A trust, checked, as a row keeps it.
struct Row {
    name: String,
    rules: String,
    keys: Option<String>,
}

impl NewTrust {
    fn check(&self, allow_private: bool) -> Result<Row, TrustError> {
        let name = self.name.trim();
        if name.is_empty() || name.chars().count() > MAX_NAME || name.chars().any(crate::name::is_hidden) {
            return Err(TrustError::invalid("name", "use 1 to 128 characters, none of them a control"));
        }
        for (field, text) in [("issuer", &self.issuer), ("audience", &self.audience)] {
            let plain = !text.chars().any(|c| c.is_control() || c.is_whitespace());
            if !(1..=MAX_TEXT).contains(&text.len()) || !plain {
                return Err(TrustError::invalid(field, "use 1 to 512 bytes without white space"));
            }
        }
        let keys = match &self.keys {
            Some(keys) => {
                let text = keys.to_string();
                KeySet::given(&text)?;
                Some(text)
            }
            None => {
                check_url(&self.issuer, allow_private)?;
                None
            }
        };
        Ok(Row { name: name.to_owned(), rules: self.rules.to_row(), keys })
    }

    fn terms<'a>(&'a self, row: &'a Row) -> TrustTerms<'a> {
        TrustTerms {
            name: &row.name,
            issuer: &self.issuer,
            audience: &self.audience,
            rules: &row.rules,
            keys: row.keys.as_deref(),
        }
    }
}

/// An issuer whose keys are to be fetched (OpenID Connect Discovery 1.0 §2: https, no query, no fragment).
fn check_url(issuer: &str, allow_private: bool) -> Result<(), TrustError> {
    let url = Url::parse(issuer).ok();
    let fits = url.is_some_and(|url| {
        let scheme = url.scheme() == "https" || (allow_private && url.scheme() == "http");
        let bare = url.query().is_none() && url.fragment().is_none();
        scheme && bare && url.host().is_some() && url.username().is_empty() && url.password().is_none()
    });
    if fits {
        return Ok(());
    }
    let reason = "use the issuer's https URL as it stands in its tokens, without user, query and fragment; \
                  or give its keys for one that publishes none";
    Err(TrustError::invalid("issuer", reason))
}

impl Identity {
    /// Trusts an issuer to say who is a machine of an organization. The caller needs every right that the machine has.
    ///
    /// # Errors
    /// [`TrustError`].
    pub async fn create_trust(
        &self,
        by: &Caller,
        org_id: &str,
        user_id: &str,
        new: &NewTrust,
    ) -> Result<TrustedIssuer, TrustError> {
        let row = new.check(self.0.options.federation_allow_private)?;
        self.may_be(by, org_id, user_id).await?;
        let mut tx = self.db().begin().await?;
        let machine = memberships::find(&mut tx, org_id, user_id).await?.ok_or(storage::Error::NotFound("user"))?;
        if machine.kind != "machine" {
            return Err(TrustError::NotAMachine);
        }
        let (all, own) = trusted_issuers::count(&mut tx, org_id, user_id).await?;
        if all >= PER_ORG || own >= PER_MACHINE {
            return Err(TrustError::TooMany(
                "an organization has at most 500 trusted issuers, a machine 20: delete some",
            ));
        }
        let made = trusted_issuers::create(&mut tx, org_id, user_id, &new.terms(&row), self.now()).await?;
        self.record_trust(&mut tx, by, "issuer.create", &machine.name, json!({"after": shown(&made)}), org_id).await?;
        tx.commit().await?;
        Ok(made)
    }

    /// Changes what a trust says. Access tokens that the machine has end.
    ///
    /// # Errors
    /// [`TrustError`]; [`storage::Error::Version`] where it is no longer the expected version.
    pub async fn update_trust(
        &self,
        by: &Caller,
        before: &TrustedIssuer,
        new: &NewTrust,
        expected: Option<i64>,
    ) -> Result<TrustedIssuer, TrustError> {
        let row = new.check(self.0.options.federation_allow_private)?;
        self.may_be(by, &before.org_id, &before.user_id).await?;
        let mut tx = self.db().begin().await?;
        // The user's row first: everything locks in this order.
        users::bump_epoch(&mut tx, &before.user_id).await?;
        let terms = new.terms(&row);
        let after = trusted_issuers::update(&mut tx, &before.org_id, &before.id, &terms, expected).await?;
        let machine = self.machine_name(&mut tx, before).await?;
        let detail = json!({"before": shown(before), "after": shown(&after)});
        self.record_trust(&mut tx, by, "issuer.update", &machine, detail, &before.org_id).await?;
        tx.commit().await?;
        self.forget(&before.user_id);
        Ok(after)
    }

    /// Trusts an issuer no longer. Access tokens that the machine has end.
    ///
    /// # Errors
    /// [`storage::Error::NotFound`]; [`storage::Error::Version`] where it is no longer the expected version.
    pub async fn delete_trust(
        &self,
        by: &Caller,
        trust: &TrustedIssuer,
        expected: Option<i64>,
    ) -> Result<(), TrustError> {
        let mut tx = self.db().begin().await?;
        users::bump_epoch(&mut tx, &trust.user_id).await?;
        trusted_issuers::delete(&mut tx, &trust.org_id, &trust.id, expected).await?;
        let machine = self.machine_name(&mut tx, trust).await?;
        self.record_trust(&mut tx, by, "issuer.delete", &machine, json!({"before": shown(trust)}), &trust.org_id)
            .await?;
        tx.commit().await?;
        self.forget(&trust.user_id);
        Ok(())
    }

    /// Whether the caller may say who is this machine: only where they may do all that it may, else they would trust an
    /// issuer of their own and be it. The server itself may.
    async fn may_be(&self, by: &Caller, org_id: &str, user_id: &str) -> Result<(), TrustError> {
        if by.credential == Credential::Server {
            return Ok(());
        }
        match self.subject(user_id).await? {
            Some(subject) => {
                let there = subject.rights_in(Some(org_id));
                Ok(there.grants.iter().try_for_each(|grant| by.principal.may_let_in(grant))?)
            }
            None => Err(storage::Error::NotFound("user").into()),
        }
    }

    async fn machine_name(&self, tx: &mut Tx, trust: &TrustedIssuer) -> storage::Result<String> {
        let machine = memberships::find(tx, &trust.org_id, &trust.user_id).await?;
        Ok(machine.map(|machine| machine.name).unwrap_or_default())
    }

    async fn record_trust(
        &self,
        tx: &mut Tx,
        by: &Caller,
        action: &str,
        machine: &str,
        detail: Value,
        org_id: &str,
    ) -> storage::Result<()> {
        let target = users::shown_name(machine);
        self.record(tx, by, &Entry { org_id, action, target, detail, ..Entry::default() }).await
    }
}

/// A trust, as the audit log shows it. Public keys are long and say nothing to people.
fn shown(trust: &TrustedIssuer) -> Value {
    let rules: Value = serde_json::from_str(&trust.rules).unwrap_or_default();
    json!({
        "id": trust.id, "name": trust.name, "issuer": trust.issuer, "audience": trust.audience, "rules": rules,
        "keys": if trust.keys.is_some() { "given" } else { "published by the issuer" },
    })
}
