//! A server of a few lines: it answers from a script, in order, and remembers what it was asked.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) line: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Value,
    /// What it was answered with, where that was a yes.
    pub(crate) answer: Value,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// An answer to be.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// Status, headers, body.
    Say(u16, Vec<(&'static str, String)>, String),
    /// The connection is cut once the request is read.
    Cut,
}

/// JSON with a status.
pub(crate) fn say(status: u16, body: &Value) -> Answer {
    Answer::Say(status, vec![("content-type", "application/json".into())], body.to_string())
}

/// An answer without a body.
pub(crate) fn nothing() -> Answer {
    Answer::Say(204, Vec::new(), String::new())
}

/// A failure as the server words it.
pub(crate) fn problem(status: u16, kind: &str, detail: &str) -> Answer {
    let uri = format!("urn:wharfinger:problem:{kind}");
    let body = serde_json::json!({"type": uri, "title": "x", "status": status, "detail": detail});
    Answer::Say(status, vec![("content-type", "application/problem+json".into())], body.to_string())
}

impl Answer {
    pub(crate) fn with(self, name: &'static str, value: &str) -> Self {
        match self {
            Self::Say(status, mut headers, body) => {
                headers.push((name, value.into()));
                Self::Say(status, headers, body)
            }
            Self::Cut => Self::Cut,
        }
    }
}

/// The server.
pub(crate) struct Server {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// Answers in that order, and 500 when the script is over.
    pub(crate) fn start(script: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, mut script) = (Arc::clone(&asked), VecDeque::from(script));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let Some(mut request) = read(&stream) else { continue };
                let answer = script.pop_front().unwrap_or_else(|| problem(500, "internal", "the script is over"));
                if let Answer::Say(200 | 201, _, body) = &answer {
                    request.answer = serde_json::from_str(body).unwrap_or_default();
                }
                log.lock().expect("the log").push(request);
                match answer {
                    Answer::Cut => drop(stream),
                    Answer::Say(status, headers, body) => write(&stream, status, &headers, &body),
                }
            }
        });
        Self { url, asked }
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("the log").clone()
    }

    /// Method and path of every request.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.line).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let flaws: Vec<String> = self.asked().iter().filter_map(crate::contract::flaw).collect();
            assert!(flaws.is_empty(), "not in the API's document: {flaws:#?}");
        }
    }
}

fn read(stream: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|size| *size > 0)?;
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        match header.trim_end().split_once(':') {
            Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.trim().to_owned())),
            None => break,
        }
    }
    let length = headers.iter().find(|(name, _)| name == "content-length").and_then(|(_, value)| value.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    let line = line.rsplit_once(' ').map(|(asked, _)| asked.to_owned())?;
    Some(Asked { line, headers, body: serde_json::from_slice(&body).unwrap_or_default(), answer: Value::Null })
}

fn write(mut stream: &TcpStream, status: u16, headers: &[(&str, String)], body: &str) {
    let mut head = format!("HTTP/1.1 {status} X\r\nconnection: close\r\n");
    if status != 204 {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let _ = stream.write_all(format!("{head}\r\n{body}").as_bytes());
}

/// The key that tests log in with; no output may hold its secret.
pub(crate) const KEY_ID: &str = "0123456789012345678901234567890123456789";
pub(crate) const KEY_SECRET: &str = "5ec7e75ec7e75ec7e75ec7e75ec7e75ec7e75ec7e75ec7e75ec7e75ec7e75ec7";

/// A home directory, and the program in it.
pub(crate) struct Desk {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) env: Vec<(String, String)>,
}

/// What a run of the program came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Desk {
    /// Knows no server.
    pub(crate) fn bare() -> Self {
        Self { dir: tempfile::tempdir().expect("a home"), env: Vec::new() }
    }

    /// Talks to that server with the key, in the organization `acme`.
    pub(crate) fn at(server: &Server) -> Self {
        Self::bare()
            .env("RCTL_REST_ENDPOINT", &server.url)
            .env("RCTL_API_KEY", KEY_ID)
            .env("RCTL_API_SECRET", KEY_SECRET)
            .env("RCTL_ORG", "acme")
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.into(), value.into()));
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rctl"));
        command
            .args(args)
            .env_clear()
            .env("HOME", self.dir.path())
            .env("PATH", "/nowhere")
            .current_dir(self.dir.path());
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        self.run_with(args, "")
    }

    pub(crate) fn run_with(&self, args: &[&str], input: &str) -> Ran {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("rctl");
        let _ = child.stdin.take().expect("its input").write_all(input.as_bytes());
        let ran = ran(child.wait_with_output().expect("its end"));
        for text in [&ran.out, &ran.err] {
            assert!(!text.contains(KEY_SECRET), "{args:?} shows the secret: {text}");
        }
        ran
    }
}

pub(crate) fn ran(output: Output) -> Ran {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Ran { status: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

impl Ran {
    /// Expects a status; shows everything where it is another.
    pub(crate) fn expect(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }
}

/// Compares with a golden file, or writes it where `BLESS=1`.
pub(crate) fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder");
        std::fs::write(&path, text).expect("the golden file");
        return;
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(known == text, "{} is not what it was; BLESS=1 accepts it:\n{text}", path.display());
}
