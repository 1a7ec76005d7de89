//! The spool in which mails are left while no mail server is configured, and enough of MIME to read them.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;

/// Words of the mail that brings a temporary password.
pub(crate) const INVITED: &str = "Temporary password";
/// Words of the mail to somebody who has an account already.
pub(crate) const ADDED: &str = "You were added to";
/// Words of the mail with a link that resets a password.
pub(crate) const RESET: &str = "password-reset#token=";

/// A mail as its recipient sees it.
#[derive(Clone, Debug)]
pub(crate) struct Mail {
    /// The file it was left in; empty where it came another way.
    pub(crate) file: PathBuf,
    pub(crate) headers: Vec<(String, String)>,
    /// The `text/plain` part, decoded.
    pub(crate) text: String,
    /// The `text/html` part, decoded.
    pub(crate) html: String,
}

impl Mail {
    /// Reads a message (RFC 5322) with its parts (RFC 2045, RFC 2046).
    pub(crate) fn parse(raw: &str) -> Self {
        let raw = raw.replace("\r\n", "\n");
        let (headers, body) = split(&raw);
        let mut mail = Self { file: PathBuf::new(), headers, text: String::new(), html: String::new() };
        let headers = mail.headers.clone();
        mail.take(&headers, body);
        mail
    }

    fn take(&mut self, headers: &[(String, String)], body: &str) {
        let kind = find(headers, "content-type").unwrap_or("text/plain").to_owned();
        if let Some(boundary) = boundary(&kind) {
            for part in body.split(&format!("--{boundary}")).skip(1).take_while(|part| !part.starts_with("--")) {
                let (headers, body) = split(part.strip_prefix('\n').unwrap_or(part));
                self.take(&headers, body);
            }
            return;
        }
        let encoding = find(headers, "content-transfer-encoding").unwrap_or("7bit").to_ascii_lowercase();
        let text = match encoding.as_str() {
            "base64" => {
                let packed: String = body.split_whitespace().collect();
                let bytes = base64::engine::general_purpose::STANDARD.decode(packed).expect("base64");
                String::from_utf8(bytes).expect("UTF-8").replace("\r\n", "\n")
            }
            "quoted-printable" => quoted_printable(body),
            _ => body.to_owned(),
        };
        if kind.to_ascii_lowercase().starts_with("text/html") {
            self.html = text;
        } else {
            self.text = text;
        }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        find(&self.headers, name).unwrap_or_default()
    }

    /// The password that the mail tells: four groups of five characters.
    #[track_caller]
    pub(crate) fn temporary_password(&self) -> String {
        self.try_temporary_password().unwrap_or_else(|| panic!("no temporary password in: {}", self.text))
    }

    pub(crate) fn try_temporary_password(&self) -> Option<String> {
        let groups = |word: &str| {
            let parts: Vec<&str> = word.split('-').collect();
            parts.len() == 4 && parts.iter().all(|part| part.len() == 5 && part.chars().all(char::is_alphanumeric))
        };
        self.text.split_whitespace().find(|word| groups(word)).map(str::to_owned)
    }

    /// The first link of the mail whose path has `part` in it.
    #[track_caller]
    pub(crate) fn link(&self, part: &str) -> String {
        let mut links = self.text.split_whitespace().filter(|word| word.starts_with("http"));
        let found = links.find(|link| link.contains(part));
        found.unwrap_or_else(|| panic!("no link with {part} in: {}", self.text)).to_owned()
    }

    /// The one-time token of the link that resets a password.
    #[track_caller]
    pub(crate) fn reset_token(&self) -> String {
        let link = self.link("password-reset");
        let token = link.split("token=").nth(1).unwrap_or_else(|| panic!("no token in {link}"));
        token.split(['&', '#']).next().unwrap_or_default().to_owned()
    }
}

fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// The headers, unfolded, and the body.
fn split(text: &str) -> (Vec<(String, String)>, &str) {
    let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
    let mut headers: Vec<(String, String)> = Vec::new();
    for line in head.lines() {
        if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = headers.last_mut() {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
    }
    (headers, body)
}

fn boundary(kind: &str) -> Option<String> {
    let at = kind.to_ascii_lowercase().find("boundary=")?;
    let value = kind[at + "boundary=".len()..].trim_start();
    Some(match value.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next().unwrap_or_default().to_owned(),
        None => value.split([';', ' ']).next().unwrap_or_default().to_owned(),
    })
}

fn quoted_printable(text: &str) -> String {
    let text = text.replace("=\n", "");
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = (*first == b'=').then(|| after.get(..2)).flatten();
        let code =
            code.and_then(|code| std::str::from_utf8(code).ok()).and_then(|code| u8::from_str_radix(code, 16).ok());
        match code {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).expect("UTF-8")
}

/// The folder that a server leaves its mails in.
#[derive(Clone, Debug)]
pub(crate) struct Spool {
    dir: PathBuf,
}

impl Spool {
    pub(crate) fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Every mail to `recipient`, the oldest first.
    pub(crate) fn to(&self, recipient: &str) -> Vec<Mail> {
        let files = fs::read_dir(&self.dir).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
        let mut files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|end| end == "eml")).collect();
        files.sort();
        let read = |file: PathBuf| {
            let mut mail = Mail::parse(&fs::read_to_string(&file).ok()?);
            mail.file = file;
            Some(mail)
        };
        let addressed = |mail: &Mail| mail.header("to").to_lowercase().contains(&recipient.to_lowercase());
        files.into_iter().filter_map(read).filter(addressed).collect()
    }

    /// How many mails with `words` in their text came to `recipient`.
    pub(crate) fn count(&self, recipient: &str, words: &str) -> usize {
        self.to(recipient).iter().filter(|mail| mail.text.contains(words)).count()
    }

    /// The mail to `recipient` with `words` in its text that comes after `seen` others of the kind; waits for it.
    #[track_caller]
    pub(crate) fn next(&self, recipient: &str, words: &str, seen: usize) -> Mail {
        let found = self.try_next(recipient, words, seen, Duration::from_secs(20));
        found.unwrap_or_else(|| panic!("no mail to {recipient} with {words:?} after {seen} in {}", self.dir.display()))
    }

    pub(crate) fn try_next(&self, recipient: &str, words: &str, seen: usize, patience: Duration) -> Option<Mail> {
        let deadline = Instant::now() + patience;
        loop {
            let found = self.to(recipient).into_iter().filter(|mail| mail.text.contains(words)).nth(seen);
            if found.is_some() || Instant::now() > deadline {
                return found;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn mails_of_two_parts_are_read() {
    let raw = "To: dev@localhost\r\nContent-Type: multipart/alternative;\r\n boundary=\"b\"\r\n\r\n--b\r\n\
               Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
               caf=C3=A9 abcde-=\r\nfghij-kmnop-qrstu http://x/password-reset?token=3Dt1\r\n--b\r\n\
               Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\nPGI+\r\n--b--\r\n";
    let mail = Mail::parse(raw);
    assert_eq!(mail.temporary_password(), "abcde-fghij-kmnop-qrstu");
    assert_eq!((mail.reset_token().as_str(), mail.html.as_str()), ("t1", "<b>"));
}
