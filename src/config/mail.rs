//! How mails go out: by an SMTP server, or as files.

use std::fmt;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use lettre::Address;
use lettre::message::Mailbox;
use lettre::transport::smtp::client::Certificate;
use url::Url;

use super::{MAX_PEM, Secret};

/// How mails go out.
#[derive(Debug, Clone)]
pub(crate) struct Mailer {
    /// The SMTP server; without one, mails are written to a folder.
    pub(crate) smtp: Option<Smtp>,
    /// The sender.
    pub(crate) from: Mailbox,
    /// The folder.
    pub(crate) dir: PathBuf,
}

/// How a connection to an SMTP server is kept private.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Security {
    /// It begins in the clear and must become TLS before anything is said (STARTTLS, RFC 3207).
    StartTls,
    /// TLS from the first byte (RFC 8314).
    Tls,
    /// Not at all: for a relay on this machine. Never with a password.
    None,
}

/// An SMTP server.
#[derive(Debug, Clone)]
pub(crate) struct Smtp {
    /// Its name or address.
    pub(crate) host: String,
    /// Its port.
    pub(crate) port: u16,
    /// How the connection is kept private.
    pub(crate) security: Security,
    /// User name and password, where it wants some.
    pub(crate) credentials: Option<(String, Secret)>,
    /// CA certificates besides the system's.
    pub(crate) ca_file: Option<PathBuf>,
}

impl Smtp {
    /// Reads `smtp://[USER:PASSWORD@]HOST[:PORT][?tls=required|none]` or `smtps://…`.
    ///
    /// # Errors
    /// Says what is wrong, without the URL: it may hold a password.
    pub(super) fn parse(url: &Secret, ca_file: Option<PathBuf>) -> Result<Self> {
        const EXPECTED: &str = "smtp_url: expected smtp://USER:PASSWORD@HOST:PORT or smtps://USER:PASSWORD@HOST:PORT";
        let url = Url::parse(url.expose()).ok().context(EXPECTED)?;
        let implicit = match url.scheme() {
            "smtps" => true,
            "smtp" => false,
            _ => bail!(EXPECTED),
        };
        let host = url.host_str().filter(|host| !host.is_empty()).context(EXPECTED)?;
        ensure!(matches!(url.path(), "" | "/") && url.fragment().is_none(), EXPECTED);
        let mut security = if implicit { Security::Tls } else { Security::StartTls };
        for (name, value) in url.query_pairs() {
            security = match (&*name, &*value) {
                ("tls", "required") => security,
                ("tls", "none") if !implicit => Security::None,
                _ => bail!("smtp_url: the only options are tls=required (the default) and, with smtp://, tls=none"),
            };
        }
        let credentials = match (decode(url.username())?, url.password().map(decode).transpose()?) {
            (user, Some(password)) if !user.is_empty() => Some((user, Secret::new(password))),
            (user, None) if user.is_empty() => None,
            _ => bail!("smtp_url: a user name and a password belong together"),
        };
        ensure!(
            credentials.is_none() || security != Security::None,
            "smtp_url: a password is not sent without TLS: drop tls=none, or the user name and password"
        );
        let port = url.port().unwrap_or(match security {
            Security::Tls => 465,
            Security::StartTls => 587,
            Security::None => 25,
        });
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { host, port, security, credentials, ca_file })
    }

    /// Reads the CA certificates besides the system's.
    ///
    /// # Errors
    /// Where the file cannot be read or holds none.
    pub(crate) fn ca(&self) -> Result<Vec<Certificate>> {
        let Some(path) = &self.ca_file else { return Ok(Vec::new()) };
        let pem = crate::files::read_bounded(path, MAX_PEM)?;
        ensure!(pem.windows(10).any(|w| w == b"-----BEGIN"), "{} holds no certificate (PEM)", path.display());
        let certificate = Certificate::from_pem(&pem).ok();
        Ok(vec![certificate.with_context(|| format!("{} holds no certificate (PEM)", path.display()))?])
    }
}

impl fmt::Display for Smtp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.security == Security::Tls { "smtps" } else { "smtp" };
        let user = self.credentials.as_ref().map_or(String::new(), |(user, _)| format!("{user}:***@"));
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let tls = if self.security == Security::None { "?tls=none" } else { "" };
        write!(f, "{scheme}://{user}{host}:{}{tls}", self.port)
    }
}

/// Undoes percent-encoding.
fn decode(text: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let pair = [rest.next().unwrap_or(b'x'), rest.next().unwrap_or(b'x')];
        let value = std::str::from_utf8(&pair).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(value.context("smtp_url: user name or password are not percent-encoded")?);
    }
    String::from_utf8(bytes).ok().context("smtp_url: user name or password are not UTF-8")
}

/// The sender of mails.
///
/// # Errors
/// Where it is no address.
pub(super) fn sender(said: Option<&str>, hostname: &str) -> Result<Mailbox> {
    if let Some(said) = said {
        return said
            .parse()
            .ok()
            .with_context(|| format!("mail_from: {said:?} is neither an address nor `Name <address>`"));
    }
    let address = Address::new("wharfinger", hostname).or_else(|_| Address::new("wharfinger", "localhost"))?;
    Ok(Mailbox::new(Some("Wharfinger".into()), address))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(url: &str) -> Result<Smtp> {
        Smtp::parse(&Secret::new(url), None)
    }

    #[test]
    fn tls_is_required_unless_it_is_switched_off_without_a_password() {
        let smtp = parse("smtp://ann%40acme:p%3Ass@mail.acme.example").unwrap();
        assert_eq!((smtp.host.as_str(), smtp.port, smtp.security), ("mail.acme.example", 587, Security::StartTls));
        let (user, password) = smtp.credentials.clone().unwrap();
        assert_eq!((user.as_str(), password.expose()), ("ann@acme", "p:ss"));
        assert_eq!(smtp.to_string(), "smtp://ann@acme:***@mail.acme.example:587");
        assert!(!format!("{smtp:?}").contains("p:ss"));
        let smtp = parse("smtps://[::1]/?tls=required").unwrap();
        assert_eq!((smtp.host.as_str(), smtp.port, smtp.security), ("::1", 465, Security::Tls));
        let smtp = parse("smtp://127.0.0.1:2525?tls=none").unwrap();
        assert_eq!((smtp.port, smtp.security, smtp.credentials.is_none()), (2525, Security::None, true));
        for bad in [
            "smtp://u:hush@h?tls=none",
            "smtp://hush@h",
            "smtp://:hush@h",
            "smtps://u:hush@h?tls=none",
            "smtp://u:hush@h?tls=maybe",
            "smtp://u:hush@h?x=y",
            "http://u:hush@h",
            "smtp://u:hush%@h",
            "smtp://u:hush@h/path",
            "hush",
        ] {
            let error = format!("{:#}", parse(bad).unwrap_err());
            assert!(error.starts_with("smtp_url: ") && !error.contains("hush"), "{bad}: {error}");
        }
    }

    #[test]
    fn there_is_always_a_sender() {
        assert_eq!(sender(None, "hub.example").unwrap().to_string(), "Wharfinger <wharfinger@hub.example>");
        assert!(sender(None, "::1").is_ok() && sender(None, "10.0.0.1").is_ok());
        assert_eq!(sender(Some("Hub <hub@acme.example>"), "x").unwrap().email.to_string(), "hub@acme.example");
        assert!(sender(Some("nobody"), "x").is_err());
        assert!(sender(Some("a@b\r\nBcc: c@d"), "x").is_err());
    }
}
