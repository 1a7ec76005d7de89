//! The outbox: putting mails in, and taking them out to deliver them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use storage::mails::{self, NewMail};
use storage::{Error, Result, Tx};

use super::{Mail, letter};
use crate::core::Identity;
use crate::name::UserName;

/// What the rows' text is sealed for.
const PURPOSE: &str = "mail";
/// How long whoever claimed a mail has it to themselves, in seconds: longer than any delivery takes.
const LEASE: i64 = 300;
/// Seconds before a mail is tried a second time; the pause doubles from then on.
const FIRST_PAUSE: i64 = 15;
/// Longest pause between two tries.
const LONGEST_PAUSE: i64 = 3600;
/// A mail that did not get through for this long is given up: what it says has ended by then (72 h).
const GIVE_UP_AFTER: i64 = 72 * 3600;
/// Seconds that a mail's row is kept at most (30 days).
pub(crate) const KEEP: i64 = 30 * 86_400;
/// Longest error that is kept, in characters.
const MAX_ERROR: usize = 300;

/// A mail as it is delivered. `Debug` leaves out what it says.
#[derive(Clone, PartialEq, Eq)]
pub struct Letter {
    /// The address that it goes to.
    pub to: String,
    /// Its subject: one line.
    pub subject: String,
    /// The text.
    pub text: String,
    /// The same as HTML.
    pub html: String,
}

impl std::fmt::Debug for Letter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Letter").field("subject", &self.subject).finish_non_exhaustive()
    }
}

/// A mail that this process has to deliver.
#[derive(Debug, Clone)]
pub struct ClaimedMail {
    /// Its id; stays the same however often it is tried.
    pub id: String,
    /// What kind of mail it is.
    pub kind: String,
    /// How often it was tried, this time included.
    pub attempts: i64,
    /// When it was written (unix seconds).
    pub created_at: i64,
    /// What it says.
    pub letter: Letter,
}

#[derive(Serialize, Deserialize)]
struct Sealed {
    subject: String,
    text: String,
    html: String,
}

impl Identity {
    /// Puts a mail into the outbox, to go out once `tx` is committed. For a machine, which has no address, nothing happens.
    /// `org_id` is the organization that it is about.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn enqueue_mail(&self, tx: &mut Tx, to: &str, org_id: Option<&str>, mail: &Mail<'_>) -> Result<()> {
        let Some(to) = to.parse::<UserName>().ok().filter(UserName::is_email) else { return Ok(()) };
        let url = self.0.options.controller_url.trim_end_matches('/');
        let parts = letter::write(mail, url, to.as_str()).map_err(|error| Error::Damaged(error.to_string()))?;
        let sealed = Sealed { subject: parts.subject, text: parts.text, html: parts.html };
        let plain = zeroize::Zeroizing::new(serde_json::to_vec(&sealed).map_err(|e| Error::Damaged(e.to_string()))?);
        let id = mails::new_mail_id();
        let sealed = STANDARD.encode(self.0.master.seal(PURPOSE, &id, &plain));
        let new = NewMail { id: &id, org_id, recipient: to.as_str(), kind: mail.kind(), sealed: &sealed };
        mails::create(tx, &new, self.now()).await
    }

    /// Takes at most `limit` mails that are due. Each is this process's for five minutes; whoever does not tell by then what
    /// became of it leaves it to the others.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn claim_mails(&self, limit: i64) -> Result<Vec<ClaimedMail>> {
        let now = self.now();
        if mails::count_due(&mut self.db().read().await?, now).await? == 0 {
            return Ok(Vec::new());
        }
        let mut tx = self.db().begin().await?;
        let rows = mails::claim(&mut tx, now, now + LEASE, limit).await?;
        let mut claimed = Vec::with_capacity(rows.len());
        for row in rows {
            match self.open_mail(&row) {
                Some(letter) => claimed.push(ClaimedMail {
                    id: row.id,
                    kind: row.kind,
                    attempts: row.attempts,
                    created_at: row.created_at,
                    letter,
                }),
                None => mails::update_failed(&mut tx, &row.id, "sealed under another master key", None).await?,
            }
        }
        tx.commit().await?;
        Ok(claimed)
    }

    fn open_mail(&self, row: &mails::Mail) -> Option<Letter> {
        let sealed = STANDARD.decode(&row.sealed).ok()?;
        let plain = self.0.master.open(PURPOSE, &row.id, &sealed).ok()?;
        let Sealed { subject, text, html } = serde_json::from_slice(&plain).ok()?;
        Some(Letter { to: row.recipient.clone(), subject, text, html })
    }

    /// Notes that a mail was delivered: its row goes.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn mail_delivered(&self, id: &str) -> Result<()> {
        let mut tx = self.db().begin().await?;
        mails::delete(&mut tx, id).await?;
        tx.commit().await
    }

    /// Notes that a mail did not get through, and when to try again: after pauses that double up to an hour, for 72 hours.
    /// `lasting`: trying again cannot help. Returns whether it will be tried again.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn mail_failed(&self, mail: &ClaimedMail, error: &str, lasting: bool) -> Result<bool> {
        let now = self.now();
        let doublings = u32::try_from(mail.attempts - 1).unwrap_or(0).min(16);
        let next_at = now + (FIRST_PAUSE << doublings).min(LONGEST_PAUSE);
        let next_at = Some(next_at).filter(|next_at| !lasting && *next_at < mail.created_at + GIVE_UP_AFTER);
        let error: String = error.chars().filter(|c| !c.is_control()).take(MAX_ERROR).collect();
        let mut tx = self.db().begin().await?;
        mails::update_failed(&mut tx, &mail.id, &error, next_at).await?;
        tx.commit().await?;
        Ok(next_at.is_some())
    }
}
