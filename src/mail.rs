//! Delivers the outbox: by SMTP, or to a folder where no server is configured.

use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result};
use identity::Identity;
use identity::mail::ClaimedMail;
use lettre::message::header::{Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp::PoolConfig;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use storage::clock::rfc3339;

use crate::config::{Mailer, Security, Smtp};
use crate::files::{private_dir, write_atomically};

/// Mails that are taken at a time: fewer than can be tried within their lease.
const BATCH: i64 = 8;
/// How long an SMTP server may take over one step.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long one delivery may take in all. A batch of these ends before its lease does.
const LONGEST: Duration = Duration::from_secs(35);

/// Delivers mails.
pub(crate) struct Postman {
    from: Mailbox,
    way: Way,
}

enum Way {
    Smtp(Box<AsyncSmtpTransport<Tokio1Executor>>),
    Folder(PathBuf),
}

/// Why a mail was not delivered.
#[derive(Debug)]
struct Undelivered {
    why: String,
    /// Trying again cannot help.
    lasting: bool,
}

/// Says that nobody answers these mails, so that nobody's absence does (RFC 3834 §5).
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

impl Postman {
    /// Makes ready to deliver, and says in the log which way mails go.
    ///
    /// # Errors
    /// Where the CA certificates cannot be read, or the folder cannot be made.
    pub(crate) fn new(config: &Mailer) -> Result<Self> {
        let way = match &config.smtp {
            Some(smtp) => {
                tracing::info!(mail.server = %smtp, mail.from = %config.from, "mails go out by SMTP");
                Way::Smtp(Box::new(transport(smtp).context("preparing to send mails (smtp_url, smtp_ca_file)")?))
            }
            None => {
                private_dir(&config.dir)?;
                tracing::warn!(
                    mail.dir = %config.dir.display(),
                    "no SMTP server is configured (smtp_url): mails are not sent but written to a folder"
                );
                Way::Folder(config.dir.clone())
            }
        };
        Ok(Self { from: config.from.clone(), way })
    }

    /// Delivers what is due.
    ///
    /// # Errors
    /// Those of the database; a mail that does not get through is none, but tried again later.
    pub(crate) async fn round(&self, identity: &Identity) -> Result<()> {
        loop {
            let mails = identity.claim_mails(BATCH).await?;
            if mails.is_empty() {
                return Ok(());
            }
            for mail in &mails {
                match self.deliver(mail).await {
                    Ok(()) => {
                        identity.mail_delivered(&mail.id).await?;
                        let action =
                            if matches!(self.way, Way::Smtp(_)) { "mail sent" } else { "mail written to the folder" };
                        tracing::info!(mail.id = mail.id, mail.kind = mail.kind, "{action}");
                    }
                    Err(Undelivered { why, lasting }) => {
                        let again = identity.mail_failed(mail, &why, lasting).await?;
                        tracing::warn!(
                            mail.id = mail.id,
                            mail.kind = mail.kind,
                            mail.attempts = mail.attempts,
                            error = why,
                            again,
                            "a mail was not delivered"
                        );
                    }
                }
            }
        }
    }

    async fn deliver(&self, mail: &ClaimedMail) -> Result<(), Undelivered> {
        let message =
            message(&self.from, mail).map_err(|error| Undelivered { why: error.to_string(), lasting: true })?;
        match &self.way {
            Way::Smtp(transport) => match tokio::time::timeout(LONGEST, transport.send(message)).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(Undelivered { why: chain(&error), lasting: is_lasting(&error) }),
                Err(_) => Err(Undelivered { why: "the SMTP server took too long".into(), lasting: false }),
            },
            Way::Folder(dir) => {
                let time = rfc3339(mail.created_at).replace([':', '-'], "");
                let path = dir.join(format!("{time}-{}.eml", mail.id));
                let written = tokio::task::spawn_blocking(move || write_atomically(&path, &message.formatted(), 0o600));
                let failed = |error: anyhow::Error| Undelivered { why: format!("{error:#}"), lasting: false };
                written.await.map_err(|error| failed(error.into()))?.map_err(failed)
            }
        }
    }
}

/// The mail as it goes over the wire. Its id is the same at every try, so that one delivered twice can be told.
fn message(from: &Mailbox, mail: &ClaimedMail) -> Result<Message> {
    let letter = &mail.letter;
    let to: Address = letter.to.parse()?;
    let at = UNIX_EPOCH + Duration::from_secs(u64::try_from(mail.created_at).unwrap_or(0));
    let body = MultiPart::alternative_plain_html(letter.text.clone(), letter.html.clone());
    let message = Message::builder()
        .from(from.clone())
        .to(Mailbox::new(None, to))
        .subject(letter.subject.clone())
        .date(at)
        .message_id(Some(format!("<{}@{}>", mail.id, from.email.domain())))
        .header(AutoSubmitted);
    Ok(message.multipart(body)?)
}

fn transport(smtp: &Smtp) -> Result<AsyncSmtpTransport<Tokio1Executor>> {
    let mut parameters = TlsParameters::builder(smtp.host.clone());
    for certificate in smtp.ca()? {
        parameters = parameters.add_root_certificate(certificate);
    }
    let tls = match smtp.security {
        Security::StartTls => Tls::Required(parameters.build_rustls()?),
        Security::Tls => Tls::Wrapper(parameters.build_rustls()?),
        Security::None => Tls::None,
    };
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&smtp.host)
        .port(smtp.port)
        .tls(tls)
        .timeout(Some(PATIENCE))
        .pool_config(PoolConfig::new().max_size(2).idle_timeout(Duration::from_secs(30)));
    if let Some((user, password)) = &smtp.credentials {
        builder = builder.credentials(Credentials::new(user.clone(), password.expose().to_owned()));
    }
    Ok(builder.build())
}

/// Whether the server refused this mail for good. A refused log-in is somebody's mistake in the configuration: the mail waits
/// until that is mended.
fn is_lasting(error: &lettre::transport::smtp::Error) -> bool {
    let code = error.status().map(|code| code.to_string()).unwrap_or_default();
    error.is_permanent() && !["530", "534", "535", "538"].contains(&code.as_str())
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use identity::mail::{Letter, Mail};
    use identity::{MasterKey, Options, Secret};

    use super::*;

    fn mail(subject: &str) -> ClaimedMail {
        ClaimedMail {
            id: "0123abcd".into(),
            kind: "added".into(),
            attempts: 1,
            created_at: 1_795_514_400,
            letter: Letter {
                to: "ann@acme.example".into(),
                subject: subject.into(),
                text: "Grüße\nfrom here\n.\n".into(),
                html: "<p>Grüße</p>".into(),
            },
        }
    }

    #[test]
    fn a_subject_cannot_become_a_header_and_every_part_is_there() {
        let from: Mailbox = "Hub <hub@acme.example>".parse().unwrap();
        for subject in ["a\r\nBcc: b@evil.example", "a\nBcc: b@evil.example", "ü\r\n\r\n<b>body</b>"] {
            let text = String::from_utf8(message(&from, &mail(subject)).unwrap().formatted()).unwrap();
            let head = text.split("\r\n\r\n").next().unwrap();
            assert!(!head.lines().any(|line| line.starts_with("Bcc")), "{head}");
            assert!(!head.contains("<b>"), "{head}");
            for header in [
                "From: Hub <hub@acme.example>",
                "To: ann@acme.example",
                "Date: Tue, 24 Nov 2026 10:00:00 +0000",
                "Message-ID: <0123abcd@acme.example>",
                "Auto-Submitted: auto-generated",
            ] {
                assert!(head.lines().any(|line| line == header), "{header} in {head}");
            }
            assert!(text.contains("Content-Type: text/plain") && text.contains("Content-Type: text/html"), "{text}");
        }
        let mut bad = mail("a");
        bad.letter.to = "ann@acme.example>\r\nRCPT TO:<b@evil.example".into();
        assert!(message(&from, &bad).is_err());
    }

    #[tokio::test]
    async fn without_a_server_mails_are_private_files_in_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        let db = storage::Db::connect(&format!("sqlite://{}", dir.path().join("db").display())).await.unwrap();
        db.migrate().await.unwrap();
        let mut options = Options::new("https://auth.test", "wharfinger");
        options.controller_url = "https://hub.example".into();
        options.clock = storage::Clock::manual(1_795_514_400);
        let identity = Identity::open(db.clone(), MasterKey::generate(), options).await.unwrap();
        let config = crate::config::testing::config(&["--mail-dir", dir.path().join("mail").to_str().unwrap()]);
        let postman = Postman::new(&config.mail).unwrap();
        let secret = Secret::new("abcde-fghij");
        for to in ["ann@acme.example", "bob@acme.example"] {
            let mut tx = db.begin().await.unwrap();
            let mail = Mail::Invitation { org: "Acme", password: &secret, until: 1_795_600_000 };
            identity.enqueue_mail(&mut tx, to, None, &mail).await.unwrap();
            tx.commit().await.unwrap();
        }
        postman.round(&identity).await.unwrap();
        postman.round(&identity).await.unwrap();
        let files: Vec<_> = std::fs::read_dir(&config.mail.dir).unwrap().map(|file| file.unwrap().path()).collect();
        assert_eq!(files.len(), 2);
        for file in &files {
            assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
            let name = file.file_name().unwrap().to_str().unwrap();
            assert!(name.starts_with("20261124T100000Z-") && name.ends_with(".eml"), "{name}");
            let text = std::fs::read_to_string(file).unwrap();
            assert!(text.contains("abcde-fghij") && text.contains("https://hub.example/login"), "{text}");
        }
        assert!(identity.claim_mails(9).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_server_that_does_not_answer_is_tried_again() {
        let config = Mailer {
            smtp: Some(Smtp {
                host: "127.0.0.1".into(),
                port: 1,
                security: Security::StartTls,
                credentials: Some(("u".into(), crate::config::Secret::new("hush"))),
                ca_file: None,
            }),
            from: "hub@acme.example".parse().unwrap(),
            dir: PathBuf::new(),
        };
        let undelivered = Postman::new(&config).unwrap().deliver(&mail("a")).await.unwrap_err();
        assert!(!undelivered.lasting && !undelivered.why.contains("hush"), "{undelivered:?}");
    }
}
