//! From what a mail is about to its subject, text and HTML. The templates lie in `identity/templates/mail/`; those of HTML
//! escape what they are given.

use askama::Template;
use storage::clock::rfc3339;

use super::{FactorChange, Mail};

/// Longest subject, in characters.
const MAX_SUBJECT: usize = 150;

/// What a mail says.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) subject: String,
    pub(super) text: String,
    pub(super) html: String,
}

macro_rules! templates {
    ($($text:ident $text_path:literal $html:ident $html_path:literal { $($field:ident),* };)*) => {$(
        #[derive(Template)]
        #[template(path = $text_path)]
        struct $text<'a> { url: &'a str, to: &'a str, $($field: &'a str),* }

        #[derive(Template)]
        #[template(path = $html_path)]
        struct $html<'a> { url: &'a str, to: &'a str, $($field: &'a str),* }
    )*};
}

templates! {
    InvitationText "mail/invitation.txt" InvitationHtml "mail/invitation.html" { org, password, until };
    AddedText "mail/added.txt" AddedHtml "mail/added.html" { org };
    ResetText "mail/reset.txt" ResetHtml "mail/reset.html" { token, until };
    ChangedText "mail/changed.txt" ChangedHtml "mail/changed.html" { at };
    ExpiringText "mail/key_expiring.txt" ExpiringHtml "mail/key_expiring.html" { org, user, name, id, until };
    KeyMadeText "mail/key_made.txt" KeyMadeHtml "mail/key_made.html" { org, by, name, id };
    FactorText "mail/factor.txt" FactorHtml "mail/factor.html" { what, at, from };
    MfaResetText "mail/mfa_reset.txt" MfaResetHtml "mail/mfa_reset.html" { whose, at };
    LockedText "mail/locked.txt" LockedHtml "mail/locked.html" { until };
}

macro_rules! both {
    ($text:ident, $html:ident, { $($field:ident: $value:expr),* }) => {
        // Templates lose the line break at their end.
        ($text { $($field: $value),* }.render()? + "\n", $html { $($field: $value),* }.render()? + "\n")
    };
}

/// Writes a mail to the address `to`; `url` is the controller's.
pub(super) fn write(mail: &Mail<'_>, url: &str, to: &str) -> askama::Result<Parts> {
    let (subject, (text, html)) = match mail {
        Mail::Invitation { org, password, until } => {
            let (org, until) = (one_line(org), day_and_time(*until));
            let bodies = both!(InvitationText, InvitationHtml, {
                url: url, to: to, org: &org, password: password.expose(), until: &until
            });
            (format!("Invitation to {org}"), bodies)
        }
        Mail::Added { org } => {
            let org = one_line(org);
            (format!("You were added to {org}"), both!(AddedText, AddedHtml, { url: url, to: to, org: &org }))
        }
        Mail::Reset { token, until } => {
            let until = day_and_time(*until);
            let bodies = both!(ResetText, ResetHtml, { url: url, to: to, token: token.expose(), until: &until });
            ("Choose a new password".to_owned(), bodies)
        }
        Mail::PasswordChanged { at } => {
            let bodies = both!(ChangedText, ChangedHtml, { url: url, to: to, at: &day_and_time(*at) });
            ("Your password was changed".to_owned(), bodies)
        }
        Mail::KeyExpiring { org, user, name, id, until } => {
            let (org, name, until) = (one_line(org), one_line(name), day_and_time(*until));
            let bodies = both!(ExpiringText, ExpiringHtml, {
                url: url, to: to, org: &org, user: user, name: &name, id: id, until: &until
            });
            (format!("The API key {name} ends on {until}"), bodies)
        }
        Mail::KeyMade { org, by, name, id } => {
            let (org, by, name) = (one_line(org), one_line(by), one_line(name));
            let bodies = both!(KeyMadeText, KeyMadeHtml, {
                url: url, to: to, org: &org, by: &by, name: &name, id: id
            });
            (format!("An API key was made for you in {org}"), bodies)
        }
        Mail::Factor { change, at, from } => {
            let (what, at) = (what(change), day_and_time(*at));
            let bodies = both!(FactorText, FactorHtml, { url: url, to: to, what: &what, at: &at, from: from });
            (title(change).to_owned(), bodies)
        }
        Mail::MfaReset { org, by, at } => {
            let whose = match org {
                Some(org) => format!("{}, an administrator of {},", one_line(by), one_line(org)),
                None => "Whoever runs this server".to_owned(),
            };
            let bodies = both!(MfaResetText, MfaResetHtml, {
                url: url, to: to, whose: &whose, at: &day_and_time(*at)
            });
            ("Your second factor was taken off".to_owned(), bodies)
        }
        Mail::Locked { until } => {
            let bodies = both!(LockedText, LockedHtml, { url: url, to: to, until: &day_and_time(*until) });
            ("Log-ins with your password are locked".to_owned(), bodies)
        }
    };
    Ok(Parts { subject: one_line(&subject).chars().take(MAX_SUBJECT).collect(), text, html })
}

fn title(change: &FactorChange<'_>) -> &'static str {
    match change {
        FactorChange::AppAdded => "An authenticator app was added to your account",
        FactorChange::AppRemoved => "The authenticator app was removed from your account",
        FactorChange::PasskeyAdded(_) => "A passkey was added to your account",
        FactorChange::PasskeyRemoved { .. } => "A passkey was removed from your account",
        FactorChange::CodesRenewed => "New recovery codes were made for your account",
    }
}

/// What was changed, as far as the user's name.
fn what(change: &FactorChange<'_>) -> String {
    match change {
        FactorChange::AppAdded => "An authenticator app was added to".to_owned(),
        FactorChange::AppRemoved => "The authenticator app was removed from".to_owned(),
        FactorChange::PasskeyAdded(name) => format!("The passkey \"{}\" was added to", one_line(name)),
        FactorChange::PasskeyRemoved { name, .. } => format!("The passkey \"{}\" was removed from", one_line(name)),
        FactorChange::CodesRenewed => "New recovery codes were made, and the old ones ended, for".to_owned(),
    }
}

/// Text without line breaks or other controls: nothing that a name holds begins a header, or looks like text of ours.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') { ' ' } else { c }).collect()
}

/// `2026-11-24 10:00 UTC`
fn day_and_time(unix: i64) -> String {
    let text = rfc3339(unix);
    match (text.get(..10), text.get(11..16)) {
        (Some(day), Some(time)) => format!("{day} {time} UTC"),
        _ => text,
    }
}
