//! The public REST API over HTTP: one call in, one JSON answer or a typed failure out. What may be repeated is repeated when
//! the connection is lost; redirects are never followed, so that credentials go to one server only.

pub(crate) mod problem;

use std::time::Duration;

use reqwest::{Certificate, Method, Response, StatusCode, header, redirect};
use serde_json::Value;
use url::Url;

use crate::config::{Credential, Settings};
use crate::error::{Error, Result};
use crate::secret::Secret;
use problem::Problem;

/// Largest answer that is read whole, in bytes.
const MAX_ANSWER: usize = 32 << 20;
/// Largest file of certificates.
const MAX_CA: u64 = 1 << 20;
/// How long to wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a server may say nothing.
const SILENCE: Duration = Duration::from_secs(60);
/// How often a call is made before giving up.
const TRIES: u32 = 4;
/// The pause before the first repetition; it doubles.
const PAUSE: Duration = Duration::from_millis(200);
/// Longest pause that a server can ask for.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// Items asked for in one page: no list of the API gives fewer.
const PAGE: usize = 100;
/// Most items of a list that are fetched where the caller sets no limit.
pub(crate) const MAX_ITEMS: usize = 50_000;

/// How this program names itself.
pub(crate) const AGENT: &str = concat!("rctl/", env!("CARGO_PKG_VERSION"));

/// A request to be.
#[derive(Debug, Clone)]
pub(crate) struct Call<'a> {
    method: Method,
    segments: Vec<&'a str>,
    query: Vec<(&'a str, String)>,
    body: Option<Value>,
    headers: Vec<(&'static str, Secret)>,
    anonymous: bool,
    repeatable: bool,
}

impl<'a> Call<'a> {
    fn new(method: Method, segments: &[&'a str]) -> Self {
        let repeatable = matches!(method, Method::GET | Method::PUT | Method::DELETE);
        Self {
            method,
            segments: segments.to_vec(),
            query: Vec::new(),
            body: None,
            headers: Vec::new(),
            anonymous: false,
            repeatable,
        }
    }

    /// Reads; `segments` are the path below `/api/v1`, not yet encoded.
    pub(crate) fn get(segments: &[&'a str]) -> Self {
        Self::new(Method::GET, segments)
    }

    /// Does something that a repetition would do again.
    pub(crate) fn post(segments: &[&'a str]) -> Self {
        Self::new(Method::POST, segments)
    }

    /// Changes.
    pub(crate) fn patch(segments: &[&'a str], body: Value) -> Self {
        Self::new(Method::PATCH, segments).body(body)
    }

    /// Deletes.
    pub(crate) fn delete(segments: &[&'a str]) -> Self {
        Self::new(Method::DELETE, segments)
    }

    /// Creates, under an `Idempotency-Key`: repeated, it is still made once.
    ///
    /// # Errors
    /// Where the system has no randomness.
    pub(crate) fn create(segments: &[&'a str], body: Value) -> Result<Self> {
        let mut key = [0; 16];
        aws_lc_rs::rand::fill(&mut key).map_err(|_| Error::Other("the system gives no random bytes".into()))?;
        let call = Self::post(segments).body(body).header("idempotency-key", hex::encode(key));
        Ok(Self { repeatable: true, ..call })
    }

    /// Adds a parameter.
    pub(crate) fn query(mut self, name: &'a str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    /// Adds a parameter, if there is one.
    pub(crate) fn maybe(self, name: &'a str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.query(name, value),
            None => self,
        }
    }

    /// Sets the body.
    pub(crate) fn body(self, body: Value) -> Self {
        Self { body: Some(body), ..self }
    }

    /// Adds a header.
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, Secret::new(value)));
        self
    }

    /// Sends no credentials.
    pub(crate) fn anonymous(self) -> Self {
        Self { anonymous: true, ..self }
    }
}

/// An answer that says yes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reply {
    /// Its body; null where there is none.
    pub(crate) body: Value,
    /// Its `ETag`.
    pub(crate) etag: Option<String>,
    /// The `name=value` of its cookies.
    pub(crate) cookies: Vec<Secret>,
}

/// The API of one server, as one caller.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    endpoint: Url,
    credential: Option<Credential>,
    /// Whether requests are told on standard error.
    verbose: bool,
}

impl Client {
    /// Makes one; nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::Usage`] where no server is named, [`Error::File`] for the CA's certificate.
    pub(crate) fn new(settings: &Settings, verbose: bool) -> Result<Self> {
        let mut builder = reqwest::Client::builder()
            .user_agent(AGENT)
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE);
        if let Some(path) = &settings.ca_file {
            builder = builder.tls_certs_merge(certificates(path)?);
        }
        if settings.insecure {
            builder = builder.tls_danger_accept_invalid_certs(true).tls_danger_accept_invalid_hostnames(true);
        }
        let http = builder.build().map_err(|error| Error::Other(chain(&error)))?;
        let endpoint = settings.endpoint()?.clone();
        Ok(Self { http, endpoint, credential: settings.credential.clone(), verbose })
    }

    /// The server.
    pub(crate) fn endpoint(&self) -> &str {
        self.endpoint.as_str().trim_end_matches('/')
    }

    /// Whether there is something to log in with.
    pub(crate) fn has_credential(&self) -> bool {
        self.credential.is_some()
    }

    /// Whether that is a session.
    pub(crate) fn has_session(&self) -> bool {
        matches!(self.credential, Some(Credential::Session(_)))
    }

    /// The public part of the API key, if that is what there is.
    pub(crate) fn key_id(&self) -> Option<String> {
        match &self.credential {
            Some(Credential::ApiKey(key)) => key.expose().split('.').nth(1).map(str::to_owned),
            _ => None,
        }
    }

    /// The same server as somebody else.
    pub(crate) fn with_credential(self, credential: Option<Credential>) -> Self {
        Self { credential, ..self }
    }

    /// Makes a call.
    ///
    /// # Errors
    /// [`Error::Refused`] with the server's words, [`Error::Unreachable`], [`Error::NotLoggedIn`].
    pub(crate) async fn send(&self, call: &Call<'_>) -> Result<Reply> {
        let (response, repeated) = self.response(call).await?;
        let status = response.status();
        // A deletion whose first answer got lost finds nothing the second time: that is what was asked for.
        if repeated && call.method == Method::DELETE && status == StatusCode::NOT_FOUND {
            return Ok(Reply::default());
        }
        let text = |name| response.headers().get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
        let etag = text(header::ETAG).map(str::to_owned);
        let retry_after = text(header::RETRY_AFTER).and_then(|value| value.parse().ok());
        let location = text(header::LOCATION).map(str::to_owned);
        let cookies = response.headers().get_all(header::SET_COOKIE).iter().filter_map(|value| value.to_str().ok());
        let cookies = cookies.filter_map(|value| value.split(';').next()).map(Secret::new).collect();
        let body = self.bounded(response).await?;
        if status.is_redirection() {
            let what = format!("it redirects to {}", location.as_deref().unwrap_or("somewhere else"));
            return Err(self.foreign(what));
        }
        let parsed = if body.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(&body) };
        if !status.is_success() {
            let body = parsed.unwrap_or_default();
            return Err(Error::Refused(Box::new(Problem::read(status.as_u16(), &body, retry_after))));
        }
        let body = parsed.map_err(|_| self.foreign("not JSON".into()))?;
        Ok(Reply { body, etag, cookies })
    }

    /// Makes a call whose answer is not read whole.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub(crate) async fn stream(&self, call: &Call<'_>) -> Result<Response> {
        let (response, _) = self.response(call).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let body = serde_json::from_slice(&self.bounded(response).await?).unwrap_or_default();
        Err(Error::Refused(Box::new(Problem::read(status, &body, None))))
    }

    /// All items of a list, page by page, at most `limit`; and whether there are more.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub(crate) async fn list(
        &self,
        call: &Call<'_>,
        limit: usize,
        progress: impl Fn(usize),
    ) -> Result<(Vec<Value>, bool)> {
        let mut items = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = PAGE.min(limit.saturating_sub(items.len()).max(1));
            let paged = call.clone().query("limit", page.to_string()).maybe("after", after.as_deref());
            let mut body = self.send(&paged).await?.body;
            let Some(Value::Array(page)) = body.get_mut("items").map(Value::take) else {
                return Err(self.foreign("a list without items".into()));
            };
            let empty = page.is_empty();
            items.extend(page);
            progress(items.len());
            let next = match body.get("next") {
                Some(Value::String(next)) => Some(next.clone()),
                Some(Value::Number(next)) => Some(next.to_string()),
                _ => None,
            };
            let full = items.len() >= limit;
            items.truncate(limit);
            if next.is_none() || full {
                return Ok((items, next.is_some()));
            }
            if empty || next == after {
                return Err(self.foreign("a list that does not end".into()));
            }
            after = next;
        }
    }

    /// Changes a thing as it is now: the change is refused if somebody else was faster.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub(crate) async fn update(&self, segments: &[&str], body: Value) -> Result<Value> {
        let etag = self.send(&Call::get(segments)).await?.etag;
        let mut call = Call::patch(segments, body);
        if let Some(etag) = etag {
            call = call.header("if-match", etag);
        }
        Ok(self.send(&call).await?.body)
    }

    fn url(&self, call: &Call<'_>) -> Result<Url> {
        // `Url` drops dots: `delete user ..` would become something else entirely.
        if let Some(bad) = call.segments.iter().find(|part| part.is_empty() || **part == "." || **part == "..") {
            return Err(Error::Usage(format!("{bad:?} is no name")));
        }
        let mut url = self.endpoint.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["api", "v1"]).extend(&call.segments);
        }
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&call.query);
        }
        Ok(url)
    }

    fn request(&self, call: &Call<'_>, url: Url) -> Result<reqwest::RequestBuilder> {
        let mut request = self.http.request(call.method.clone(), url).header(header::ACCEPT, "application/json");
        if !call.anonymous {
            let Some(Credential::ApiKey(secret) | Credential::Session(secret)) = &self.credential else {
                return Err(Error::NotLoggedIn("you are not logged in".into()));
            };
            request = request.bearer_auth(secret.expose());
        }
        for (name, value) in &call.headers {
            request = request.header(*name, value.expose());
        }
        Ok(if let Some(body) = &call.body { request.json(body) } else { request })
    }

    /// The answer, and whether it took more than one try.
    async fn response(&self, call: &Call<'_>) -> Result<(Response, bool)> {
        let url = self.url(call)?;
        let mut pause = PAUSE;
        for attempt in 1.. {
            let last = attempt == TRIES;
            let outcome = self.request(call, url.clone())?.send().await;
            self.tell(call, &url, &outcome);
            match outcome {
                Ok(response) if !last && call.repeatable && is_passing(response.status()) => {
                    let asked = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
                    let asked = asked.and_then(|value| value.parse().ok()).map(Duration::from_secs);
                    tokio::time::sleep(asked.unwrap_or(pause).min(MAX_PAUSE)).await;
                }
                Ok(response) => return Ok((response, attempt > 1)),
                // What was never sent may be sent again, whatever it is.
                Err(error) if !last && !is_untrusted(&error) && (call.repeatable || error.is_connect()) => {
                    tokio::time::sleep(pause).await;
                }
                Err(error) => return Err(self.unreachable(&error)),
            }
            pause *= 2;
        }
        Err(self.foreign("no answer".into()))
    }

    fn tell(&self, call: &Call<'_>, url: &Url, outcome: &std::result::Result<Response, reqwest::Error>) {
        if self.verbose {
            let outcome = match outcome {
                Ok(response) => response.status().to_string(),
                Err(error) => chain(&error),
            };
            eprintln!("{} {url} → {outcome}", call.method);
        }
    }

    async fn bounded(&self, mut response: Response) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(&error))? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(self.foreign("it is larger than 32 MiB".into()));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// A connection that failed.
    pub(crate) fn unreachable(&self, error: &reqwest::Error) -> Error {
        let untrusted = is_untrusted(error);
        Error::Unreachable { endpoint: self.endpoint().to_owned(), cause: chain(error), untrusted }
    }

    /// An answer that is not Wharfinger's.
    pub(crate) fn foreign(&self, what: String) -> Error {
        Error::Foreign { endpoint: self.endpoint().to_owned(), what }
    }
}

/// What passes by itself.
fn is_passing(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
}

fn is_untrusted(error: &reqwest::Error) -> bool {
    let text = chain(error);
    text.contains("invalid peer certificate") || text.contains("UnknownIssuer") || text.contains("certificate verif")
}

/// What an error says, with its causes; not the URL, whose query may be long.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    let mut said: Vec<String> = causes.map(ToString::to_string).collect();
    said.dedup();
    if said.is_empty() { error.to_string() } else { said.join(": ") }
}

/// The certificates of a PEM file.
///
/// # Errors
/// [`Error::File`], also where it holds none.
pub(crate) fn certificates(path: &str) -> Result<Vec<Certificate>> {
    use std::io::Read;
    let mut pem = Vec::new();
    let file = std::fs::File::open(path).map_err(Error::file(path))?;
    file.take(MAX_CA).read_to_end(&mut pem).map_err(Error::file(path))?;
    let found = Certificate::from_pem_bundle(&pem).unwrap_or_default();
    if found.is_empty() {
        return Err(Error::file(path)(std::io::Error::other("holds no certificate in PEM")));
    }
    Ok(found)
}
