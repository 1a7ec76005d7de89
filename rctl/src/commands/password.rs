//! Passwords: the change that a temporary one asks for, and the reset by e-mail. Passwords come from a prompt or standard
//! input, never from the command line.

use clap::{Args, Subcommand};
use serde_json::json;

use crate::client::{Call, Reply};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::secret::{Secret, ask};

/// What to do with passwords.
#[derive(Debug, Subcommand)]
pub(crate) enum Password {
    /// Choose a new password, also in place of a temporary one
    #[command(
        after_help = "All other sessions end. Without a terminal, standard input has a line each: the current password, the\n\
        code of the second factor if there is one, the new password.\n\n\
        Examples:\n  rctl password change --user bob@acme.example"
    )]
    Change(Change),
    /// Have a link sent with which to choose a new password
    #[command(
        after_help = "The answer is the same whether or not there is such an account.\n\nExamples:\n  rctl password forgot bob@acme.example"
    )]
    Forgot {
        /// The e-mail address
        email: String,
    },
    /// Choose a new password with the token of that link
    #[command(
        after_help = "Without a terminal, standard input has a line each: the token, the new password.\n\nExamples:\n  rctl password reset"
    )]
    Reset,
}

/// Change a password.
#[derive(Debug, Args)]
pub(crate) struct Change {
    /// Whose: the name that you log in with
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
}

impl Password {
    /// Does it.
    ///
    /// # Errors
    /// The server's.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        match self {
            Self::Change(change) => change.run(context).await,
            Self::Forgot { email } => {
                let call = Call::post(&["password", "forgot"]).body(json!({"email": email})).anonymous();
                context.act(&call, "If there is such an account, a mail with a link is on its way.").await
            }
            Self::Reset => {
                let token = ask("Token of the link")?;
                let new = new_password()?;
                let body = json!({"token": token_of(token.expose()), "new": new.expose()});
                let call = Call::post(&["password", "reset"]).body(body).anonymous();
                context.act(&call, "The password is changed; all sessions have ended.").await
            }
        }
    }
}

/// The token, where the whole link was given.
fn token_of(text: &str) -> &str {
    let text = text.trim();
    let after = text.rsplit_once("token=").map(|(_, token)| token);
    let token = after.or_else(|| text.rsplit_once('#').map(|(_, token)| token)).unwrap_or(text);
    token.split('&').next().unwrap_or(token)
}

fn new_password() -> Result<Secret> {
    let new = ask("New password")?;
    if std::io::IsTerminal::is_terminal(&std::io::stdin()) && ask("Once more")? != new {
        return Err(Error::Usage("the two are not the same".into()));
    }
    Ok(new)
}

impl Change {
    async fn run(&self, context: &Context) -> Result<()> {
        let user = self.user.clone().or_else(|| context.settings.user.clone());
        let user = user.ok_or_else(|| Error::Usage("whose? --user NAME".into()))?;
        let client = context.client()?;
        let current = ask("Current password")?;
        let login = json!({"username": user, "password": current.expose()});
        let mut reply = client.send(&Call::post(&["login"]).body(login).anonymous()).await?;
        if let Some(token) = reply.body["second_factor"]["token"].as_str() {
            let code = ask("Code of the second factor")?;
            let body = json!({"token": token, "code": code.expose().trim()});
            reply = client.send(&Call::post(&["login", "second-factor"]).body(body).anonymous()).await?;
        }
        let session = Session::of(&reply).ok_or_else(|| client.foreign("a login without a session".into()))?;
        let changed = match new_password() {
            Ok(new) => {
                let body = json!({"current": current.expose(), "new": new.expose()});
                client.send(&session.call(&["password"]).body(body)).await
            }
            Err(error) => Err(error),
        };
        // This session was for the change alone; if it does not end now, it ends by itself. It may have a new cookie.
        let session = changed.as_ref().ok().and_then(Session::of).unwrap_or(session);
        let _ = client.send(&session.call(&["logout"])).await;
        changed?;
        context.out.say("The password is changed; all other sessions have ended.")
    }
}

/// A browser's kind of session, for as long as the change takes.
struct Session {
    cookie: String,
    csrf: String,
}

impl Session {
    fn of(reply: &Reply) -> Option<Self> {
        let cookie = reply.cookies.iter().map(Secret::expose).find(|cookie| cookie.contains("session"))?;
        Some(Self { cookie: cookie.to_owned(), csrf: reply.body["csrf_token"].as_str()?.to_owned() })
    }

    fn call<'a>(&self, segments: &[&'a str]) -> Call<'a> {
        Call::post(segments).anonymous().header("cookie", self.cookie.clone()).header("x-csrf-token", self.csrf.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::token_of;

    #[test]
    fn a_link_will_do_for_its_token() {
        for text in [
            "abc",
            " abc ",
            "https://x/password-reset?token=abc",
            "https://x/password-reset#abc",
            "https://x/r#token=abc",
        ] {
            assert_eq!(token_of(text), "abc", "{text}");
        }
    }
}
