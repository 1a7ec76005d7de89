//! Machines without a secret of their own: a token of an issuer that an organization trusts (a CI system, a cluster) is
//! exchanged for one of ours (RFC 8693).
//!
//! [`Identity::exchange`] reads the token, finds the machine that it is for, and looks for a trust of that machine that fits:
//! issuer, audience, times and [`rules`] first, which cost nothing, then the signature with the issuer's keys, which are
//! given by hand or fetched (`fetch`) and remembered (`issuers`). Whoever is refused hears nothing but that, at the same
//! pace, whatever exists; the organization's audit log says why.
//!
//! A token may be exchanged many times while it lives: `docker` asks for a token of ours for every repository.

mod fetch;
mod issuers;
mod key_set;
pub mod rules;
mod subject_token;
mod trusts;

use std::time::Duration;

use serde_json::json;
use storage::trusted_issuers::{self, TrustedIssuer};
use storage::users::User;
use storage::{memberships, orgs, users};

pub use key_set::KeySetError;
pub use trusts::{NewTrust, TrustError};

use crate::audit::{Caller, Client, Credential, Entry, Origin, Outcome};
use crate::core::Identity;
use crate::limits::{Limit, Throttled};
use crate::login::Login;
use crate::rbac::Principal;
use crate::secret::Secret;
use crate::token::Epochs;
use issuers::Issuers;
use key_set::KeySet;
use rules::Rules;
use subject_token::{Refusal, SubjectToken, Terms};

/// No refusal comes sooner than this, so that its time tells nothing of what exists.
const PACE: Duration = if cfg!(test) { Duration::from_millis(20) } else { Duration::from_millis(250) };
/// Seconds between two notes that a trust was used.
const NOTE_USE_EVERY: i64 = 60;

/// What this process knows of issuers.
pub(crate) struct Federation(Issuers);

impl Federation {
    /// Knows nothing yet; `allow_private` as [`crate::Options::federation_allow_private`].
    pub(crate) fn new(allow_private: bool) -> Self {
        Self(Issuers::new(allow_private))
    }
}

/// A machine that got in by a token of an issuer.
#[derive(Debug, Clone)]
pub struct Exchanged {
    /// The machine.
    pub login: Login,
    /// Id of the trust that it got in by.
    pub trust: String,
    /// When the token ends (unix seconds): nothing that is given for it lives longer.
    pub until: i64,
}

/// Why nobody got in.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// Which of the many reasons it was is not said.
    #[error("this token does not stand for that account: the organization's audit log says why")]
    Refused,
    /// Too many tries from that address.
    #[error(transparent)]
    Throttled(#[from] Throttled),
    /// It cannot be checked now.
    #[error("tokens cannot be checked at this moment")]
    Unavailable(#[from] storage::Error),
}

/// A machine, as people call it: `<organization>/<machine>`.
#[derive(Debug, Clone, Copy)]
struct Account<'a> {
    org: &'a str,
    machine: &'a str,
}

impl<'a> Account<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (org, machine) = text.split_once('/')?;
        let plain =
            |s: &str| !s.is_empty() && s.len() <= 64 && s.bytes().all(|b| b.is_ascii_graphic() && !b"/@:".contains(&b));
        (plain(org) && plain(machine)).then_some(Self { org, machine })
    }
}

/// Whether a name and a secret are a machine's account and a token of an issuer, rather than somebody's password.
#[must_use]
pub fn is_token_of_account(name: &str, secret: &Secret) -> bool {
    let base64url = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let parts: Vec<&str> = secret.expose().splitn(4, '.').collect();
    // A header begins with `{"`, in base64url.
    let token = parts.len() == 3 && parts[0].starts_with("eyJ") && parts[..2].iter().all(|part| base64url(part));
    token && Account::parse(name).is_some()
}

/// What is found out on the way, for the log.
#[derive(Default)]
struct Trail {
    org_id: Option<String>,
    machine: bool,
    issuer: String,
    subject: String,
    trust: Option<String>,
    verified: bool,
}

impl Trail {
    /// Who is told to have been refused, in the one spelling that events are searched by: the machine as its other events name
    /// it; where there is none, what was typed.
    fn named(&self, account: &str) -> String {
        let machine = Account::parse(account).filter(|_| self.machine).map(|account| account.machine);
        crate::name::normalise(machine.unwrap_or(account))
    }
}

impl Identity {
    /// Lets a machine in by a token of an issuer that its organization trusts. `account` is `<organization>/<machine>`.
    ///
    /// # Errors
    /// [`ExchangeError`].
    pub async fn exchange(&self, from: &Origin, account: &str, token: &Secret) -> Result<Exchanged, ExchangeError> {
        // By the address alone: counted by the account, strangers could stop a company's builds.
        self.admit(Limit::Login, from, None)?;
        let begun = tokio::time::Instant::now();
        let mut trail = Trail::default();
        let outcome = self.try_exchange(account, token, &mut trail).await?;
        match outcome {
            Ok((exchanged, trust)) => {
                let by = Caller {
                    principal: exchanged.login.principal.clone(),
                    credential: Credential::Federated(trust.id.clone()),
                    origin: from.clone(),
                };
                self.give_back(Limit::Login, from, None);
                self.note_exchange(&by, account, &trail, None).await?;
                self.note_trust_used(&trust).await;
                Ok(exchanged)
            }
            Err(refusal) => {
                let by = Caller {
                    principal: Principal::nobody(trail.named(account)).into(),
                    credential: trail.trust.clone().map_or(Credential::None, Credential::Federated),
                    origin: from.clone(),
                };
                self.count_against(Limit::Login, from, None);
                tracing::info!(account, issuer = trail.issuer, reason = %refusal, "token exchange refused");
                self.note_exchange(&by, account, &trail, Some(&refusal)).await?;
                tokio::time::sleep_until(begun + PACE).await;
                Err(ExchangeError::Refused)
            }
        }
    }

    async fn try_exchange(
        &self,
        account: &str,
        token: &Secret,
        trail: &mut Trail,
    ) -> storage::Result<Result<(Exchanged, TrustedIssuer), Refusal>> {
        let token = SubjectToken::read(token.expose());
        if let Ok(token) = &token {
            trail.issuer = token.text_claim("iss").unwrap_or_default().to_owned();
            trail.subject = token.text_claim("sub").unwrap_or_default().to_owned();
        }
        // The user's epoch is read before the trusts: one that goes meanwhile takes the token with it.
        let found = self.find_machine(account, trail).await?;
        let (user, org_id, trusts) = match found {
            Ok(found) => found,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let token = match token {
            Ok(token) => token,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let (trust, until) = match self.find_trust(trusts, &token, trail).await {
            Ok(found) => found,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let subject = self.subject_at(&user).await?.filter(|subject| subject.orgs.contains(&org_id));
        let Some(subject) = subject else { return Ok(Err(Refusal::NoMachine)) };
        let epochs = Epochs { user: user.epoch, ..subject.epochs() };
        let principal = subject.rights_in(Some(&org_id)).into();
        let login = Login { principal, epochs, key: None, must_change_password: false, second_factor: false };
        Ok(Ok((Exchanged { login, trust: trust.id.clone(), until }, trust)))
    }

    /// The machine of an account and the trusts that it has.
    async fn find_machine(
        &self,
        account: &str,
        trail: &mut Trail,
    ) -> storage::Result<Result<(User, String, Vec<TrustedIssuer>), Refusal>> {
        let account = Account::parse(account).unwrap_or(Account { org: "", machine: "" });
        let mut session = self.db().read().await?;
        let org = orgs::find_by_slug(&mut session, account.org).await?;
        // What follows is read whatever was found, under a name that nobody has.
        let org_id = org.as_ref().map_or("", |org| org.id.as_str());
        let machine = crate::name::normalise(account.machine);
        let user = users::find_by_name(&mut session, &users::row_name(&machine, org_id)).await?;
        let user_id = user.as_ref().map_or("", |user| user.id.as_str());
        let member = memberships::find(&mut session, org_id, user_id).await?;
        let trusts = trusted_issuers::list_of_user(&mut session, org_id, user_id, trusts::PER_MACHINE).await?;
        let Some(org) = org else { return Ok(Err(Refusal::NoMachine)) };
        trail.org_id = Some(org.id.clone());
        let here = member.is_some_and(|member| member.active && member.kind == "machine");
        trail.machine = here;
        match user.filter(|_| here) {
            Some(_) if !org.is_active() => Ok(Err(Refusal::Organization)),
            Some(user) => Ok(Ok((user, org.id, trusts))),
            None => Ok(Err(Refusal::NoMachine)),
        }
    }

    /// The first trust that a token fits, and when the token ends; or the refusal of the one that it fits best.
    async fn find_trust(
        &self,
        trusts: Vec<TrustedIssuer>,
        token: &SubjectToken<'_>,
        trail: &mut Trail,
    ) -> Result<(TrustedIssuer, i64), Refusal> {
        let mut nearest = Refusal::Untrusted;
        for trust in trusts.into_iter().filter(|trust| trust.issuer == trail.issuer) {
            match self.judge(&trust, token).await {
                Ok(until) => {
                    trail.trust = Some(trust.id.clone());
                    trail.verified = true;
                    return Ok((trust, until));
                }
                Err(refusal) if refusal.progress() > nearest.progress() || trail.trust.is_none() => {
                    trail.trust = Some(trust.id);
                    nearest = refusal;
                }
                Err(_) => {}
            }
        }
        Err(nearest)
    }

    async fn judge(&self, trust: &TrustedIssuer, token: &SubjectToken<'_>) -> Result<i64, Refusal> {
        let now = self.now();
        let rules = Rules::from_row(&trust.rules).ok_or(Refusal::Damaged)?;
        let terms = Terms { issuer: &trust.issuer, audience: &trust.audience, rules: &rules };
        let until = terms.judge(&token.claims, now)?;
        match &trust.keys {
            Some(given) => token.verify(&KeySet::given(given).map_err(|_| Refusal::Damaged)?)?,
            None => token.verify(&*self.0.federation.0.keys(&trust.issuer, &token.kid, now).await?)?,
        }
        Ok(until)
    }

    async fn note_exchange(
        &self,
        by: &Caller,
        account: &str,
        trail: &Trail,
        refusal: Option<&Refusal>,
    ) -> storage::Result<()> {
        let origin = Origin { client: Client::Docker, ..by.origin.clone() };
        let by = Caller { origin, ..by.clone() };
        let cut = |text: &str| text.chars().take(256).collect::<String>();
        let reason = refusal.map(ToString::to_string).unwrap_or_default();
        let rule = if let Some(Refusal::Rule(claim)) = refusal { Some(claim.as_str()) } else { None };
        let entry = Entry {
            org_id: trail.org_id.as_deref().unwrap_or_default(),
            action: "token.exchange",
            target: account,
            outcome: if refusal.is_some() { Outcome::Denied } else { Outcome::Ok },
            reason: &reason,
            detail: json!({
                "issuer": cut(&trail.issuer), "subject": cut(&trail.subject), "trust": trail.trust, "rule": rule,
                "verified": trail.verified,
            }),
            ..Entry::default()
        };
        // Who names what does not exist is a stranger, and writes into no organization's log.
        match refusal {
            None => self.note(&by, &entry).await?,
            Some(_) if trail.machine => self.note_refused(&by, &entry).await,
            Some(_) => self.note_stranger(&by, &entry).await,
        }
        Ok(())
    }

    /// Notes, to the minute, that a trust was used. A convenience: failing at it keeps nobody out.
    async fn note_trust_used(&self, trust: &TrustedIssuer) {
        let now = self.now();
        if trust.last_used_at.is_some_and(|at| at + NOTE_USE_EVERY > now) {
            return;
        }
        let noted = async {
            let mut tx = self.db().begin().await?;
            trusted_issuers::touch(&mut tx, &trust.id, now).await?;
            tx.commit().await
        };
        if let Err(error) = noted.await {
            tracing::warn!(%error, trust.id, "cannot note that a trust was used");
        }
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
