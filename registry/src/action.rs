//! A request becomes one [`Action`]. Routing, the scopes it needs, its metric label and its audit verb all read that value.
//!
//! Paths are read from their end, since a repository's name may hold any of the words `blobs`, `manifests`, `tags` or
//! `uploads`. Endpoint numbers are those of distribution-spec 1.1.1, "Endpoints", and of its main branch.

use std::borrow::Cow;

use http::Method;
use storage::names::{Algorithm, Digest, NameError, Reference, RepoName, Tag};

use crate::error::{Code, Error, Result};

/// Most tags that one manifest push may set; above, 414 (end-7b).
pub const MAX_TAGS_PER_PUSH: usize = 100;

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // Fields are what their names say.
pub enum Action {
    /// end-1.
    Version,
    /// The catalog, which Docker's specification has.
    ListRepositories { page: Page },
    /// end-8.
    ListTags { repo: RepoName, page: Page },
    /// end-12.
    ListReferrers { repo: RepoName, subject: Digest, artifact_type: Option<String>, page: Page },
    /// end-3.
    GetManifest { repo: RepoName, reference: Reference },
    /// end-7a, end-7b.
    PutManifest { repo: RepoName, reference: Reference, tags: Vec<Tag> },
    /// end-9.
    DeleteManifest { repo: RepoName, reference: Reference },
    /// end-2.
    GetBlob { repo: RepoName, digest: Digest },
    /// end-10.
    DeleteBlob { repo: RepoName, digest: Digest },
    /// end-4a, end-4b, end-4c, end-11.
    BeginUpload { repo: RepoName, algorithm: Algorithm, start: Start },
    /// end-13.
    UploadStatus { repo: RepoName, session: String },
    /// end-5.
    AppendUpload { repo: RepoName, session: String },
    /// end-6.
    FinishUpload { repo: RepoName, session: String, digest: Digest },
    /// end-14.
    CancelUpload { repo: RepoName, session: String },
}

/// How an upload begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// With a session only (end-4a).
    Session,
    /// With the whole blob in the request (end-4b).
    Monolithic(Digest),
    /// From a blob that another repository has, or any of the organization's that the caller may read (end-11).
    Mount {
        /// The blob.
        digest: Digest,
        /// The repository that has it.
        from: Option<RepoName>,
    },
}

/// `n` and `last` of a list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// Most entries wanted; no bound where absent.
    pub n: Option<u64>,
    /// The entry after which to begin; empty for the first.
    pub last: String,
    /// Id of the repository that the catalog's page before stopped looking at.
    pub seen: Option<String>,
}

impl Action {
    /// Reads a request. `query` is undecoded.
    ///
    /// # Errors
    /// 404 for a path that is not of this API, 405 with `Allow`, 400 for a name that cannot be.
    pub fn parse(method: &Method, path: &str, query: Option<&str>) -> Result<Self> {
        let query = Query::parse(query);
        let rest = match path.strip_prefix("/v2") {
            Some("" | "/") => return Self::version(method),
            Some(rest) => rest.strip_prefix('/').ok_or_else(not_here)?,
            None => return Err(not_here()),
        };
        if rest == "_catalog" || rest == "_catalog/" {
            return read_only(method, || Ok(Self::ListRepositories { page: query.page()? }));
        }
        if let Some(name) = rest.strip_suffix("/tags/list").or_else(|| rest.strip_suffix("/tags/list/")) {
            return read_only(method, || Ok(Self::ListTags { repo: name.parse()?, page: query.page()? }));
        }
        if let Some(name) = rest.strip_suffix("/blobs/uploads/").or_else(|| rest.strip_suffix("/blobs/uploads")) {
            return Self::begin_upload(method, name, &query);
        }
        let (rest, last) = rest.rsplit_once('/').ok_or_else(not_here)?;
        let last = decode(last)?;
        let (name, kind) = rest.rsplit_once('/').ok_or_else(not_here)?;
        match kind {
            "manifests" => Self::manifest(method, name, &last, &query),
            "blobs" => Self::blob(method, name, &last),
            "referrers" => read_only(method, || {
                Ok(Self::ListReferrers {
                    repo: name.parse()?,
                    subject: last.parse()?,
                    artifact_type: query.get("artifactType").map(ToOwned::to_owned),
                    page: query.page()?,
                })
            }),
            "uploads" => {
                let name = name.strip_suffix("/blobs").ok_or_else(not_here)?;
                Self::upload(method, name, &last, &query)
            }
            _ => Err(not_here()),
        }
    }

    fn version(method: &Method) -> Result<Self> {
        read_only(method, || Ok(Self::Version))
    }

    fn manifest(method: &Method, name: &str, reference: &str, query: &Query<'_>) -> Result<Self> {
        let repo: RepoName = name.parse()?;
        let parsed = reference.parse::<Reference>();
        match *method {
            // A tag that cannot be does not exist: clients that probe expect 404.
            Method::GET | Method::HEAD => match parsed {
                Err(NameError::Tag) => Err(Error::missing(Code::ManifestUnknown, NameError::Tag.to_string())),
                other => Ok(Self::GetManifest { repo, reference: other? }),
            },
            Method::PUT => {
                let tags = query.all("tag").map(|tag| Ok(tag.parse()?)).collect::<Result<Vec<Tag>>>()?;
                if tags.len() > MAX_TAGS_PER_PUSH {
                    let message = format!("at most {MAX_TAGS_PER_PUSH} tags can be set by one push");
                    return Err(Error::new(http::StatusCode::URI_TOO_LONG, Code::Unsupported, message));
                }
                Ok(Self::PutManifest { repo, reference: parsed?, tags })
            }
            Method::DELETE => Ok(Self::DeleteManifest { repo, reference: parsed? }),
            _ => Err(Error::method_not_allowed("GET, HEAD, PUT, DELETE")),
        }
    }

    fn blob(method: &Method, name: &str, digest: &str) -> Result<Self> {
        let repo = name.parse()?;
        match *method {
            Method::GET | Method::HEAD => Ok(Self::GetBlob { repo, digest: digest.parse()? }),
            Method::DELETE => Ok(Self::DeleteBlob { repo, digest: digest.parse()? }),
            _ => Err(Error::method_not_allowed("GET, HEAD, DELETE")),
        }
    }

    fn begin_upload(method: &Method, name: &str, query: &Query<'_>) -> Result<Self> {
        if *method != Method::POST {
            return Err(Error::method_not_allowed("POST"));
        }
        let repo = name.parse()?;
        let mut algorithm = query.get("digest-algorithm").map_or(Ok(Algorithm::Sha256), str::parse)?;
        let start = if let Some(digest) = query.get("digest") {
            Start::Monolithic(digest.parse()?)
        } else if let Some(digest) = query.get("mount") {
            match query.get("from").filter(|from| !from.is_empty()).map(str::parse).transpose() {
                Ok(from) => Start::Mount { digest: digest.parse()?, from },
                // A name that no repository of ours has, as from a copy between registries: nothing to mount.
                Err(_) => Start::Session,
            }
        } else {
            Start::Session
        };
        if let Start::Monolithic(digest) | Start::Mount { digest, .. } = &start {
            algorithm = digest.algorithm();
        }
        Ok(Self::BeginUpload { repo, algorithm, start })
    }

    fn upload(method: &Method, name: &str, session: &str, query: &Query<'_>) -> Result<Self> {
        let repo = name.parse()?;
        let session = session.to_owned();
        match *method {
            Method::GET | Method::HEAD => Ok(Self::UploadStatus { repo, session }),
            Method::PATCH => Ok(Self::AppendUpload { repo, session }),
            Method::PUT => {
                let digest = query.get("digest").ok_or_else(|| {
                    Error::bad(Code::DigestInvalid, "closing an upload needs ?digest=<algorithm>:<hex>")
                })?;
                Ok(Self::FinishUpload { repo, session, digest: digest.parse()? })
            }
            Method::DELETE => Ok(Self::CancelUpload { repo, session }),
            _ => Err(Error::method_not_allowed("GET, HEAD, PATCH, PUT, DELETE")),
        }
    }

    /// A short, constant name for metrics and logs.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::ListRepositories { .. } => "catalog",
            Self::ListTags { .. } => "tags",
            Self::ListReferrers { .. } => "referrers",
            Self::GetManifest { .. } => "manifest_get",
            Self::PutManifest { .. } => "manifest_put",
            Self::DeleteManifest { .. } => "manifest_delete",
            Self::GetBlob { .. } => "blob_get",
            Self::DeleteBlob { .. } => "blob_delete",
            Self::BeginUpload { .. } => "upload_begin",
            Self::UploadStatus { .. } => "upload_status",
            Self::AppendUpload { .. } => "upload_append",
            Self::FinishUpload { .. } => "upload_finish",
            Self::CancelUpload { .. } => "upload_cancel",
        }
    }

    /// The repository that it is about.
    #[must_use]
    pub fn repo(&self) -> Option<&RepoName> {
        match self {
            Self::Version | Self::ListRepositories { .. } => None,
            Self::ListTags { repo, .. }
            | Self::ListReferrers { repo, .. }
            | Self::GetManifest { repo, .. }
            | Self::PutManifest { repo, .. }
            | Self::DeleteManifest { repo, .. }
            | Self::GetBlob { repo, .. }
            | Self::DeleteBlob { repo, .. }
            | Self::BeginUpload { repo, .. }
            | Self::UploadStatus { repo, .. }
            | Self::AppendUpload { repo, .. }
            | Self::FinishUpload { repo, .. }
            | Self::CancelUpload { repo, .. } => Some(repo),
        }
    }
}

fn read_only(method: &Method, action: impl FnOnce() -> Result<Action>) -> Result<Action> {
    if matches!(*method, Method::GET | Method::HEAD) { action() } else { Err(Error::method_not_allowed("GET, HEAD")) }
}

fn not_here() -> Error {
    Error::missing(Code::Unsupported, "there is nothing here; the registry's API lives below /v2/")
}

/// Percent-decodes one path segment; an encoded slash is refused, so that no proxy reads a path otherwise than we do.
fn decode(segment: &str) -> Result<Cow<'_, str>> {
    if !segment.contains('%') {
        return Ok(Cow::Borrowed(segment));
    }
    let refuse = || Error::bad(Code::NameInvalid, "the path holds an invalid percent-encoding");
    let mut out = Vec::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let hex = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16)).ok_or_else(refuse);
            let value = hex(bytes.next())? * 16 + hex(bytes.next())?;
            out.push(u8::try_from(value).map_err(|_| refuse())?);
        } else {
            out.push(byte);
        }
    }
    let text = String::from_utf8(out).map_err(|_| refuse())?;
    if text.contains('/') { Err(refuse()) } else { Ok(Cow::Owned(text)) }
}

/// Query parameters, decoded. Unknown ones are ignored, as the specification asks.
struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    fn parse(query: Option<&'a str>) -> Self {
        // More parameters than any client sends are not read.
        Self(url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()).take(1000).collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_ref())
    }

    fn page(&self) -> Result<Page> {
        let n = match self.get("n") {
            None | Some("") => None,
            // Larger than any number is still just "many".
            Some(n) if n.bytes().all(|b| b.is_ascii_digit()) => Some(n.parse().unwrap_or(u64::MAX)),
            Some(_) => return Err(Error::bad(Code::Unsupported, "n must be a whole number, 0 or more")),
        };
        let last = self.get("last").unwrap_or_default().to_owned();
        Ok(Page { n, last, seen: self.get("seen").map(ToOwned::to_owned) })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(method: &str, path: &str) -> Result<Action> {
        let (path, query) = path.split_once('?').map_or((path, None), |(p, q)| (p, Some(q)));
        Action::parse(&method.parse().unwrap(), path, query)
    }

    fn digest() -> String {
        format!("sha256:{}", "a".repeat(64))
    }

    #[test]
    fn every_endpoint_is_recognised() {
        let d = digest();
        for (method, path, label) in [
            ("GET", "/v2/".to_owned(), "version"),
            ("HEAD", "/v2".to_owned(), "version"),
            ("GET", "/v2/_catalog?n=5&last=x".to_owned(), "catalog"),
            ("GET", "/v2/a/b/tags/list".to_owned(), "tags"),
            ("GET", format!("/v2/a/b/referrers/{d}?artifactType=x"), "referrers"),
            ("HEAD", "/v2/a/b/manifests/latest".to_owned(), "manifest_get"),
            ("PUT", format!("/v2/a/b/manifests/{d}?tag=x&tag=y"), "manifest_put"),
            ("DELETE", "/v2/a/b/manifests/latest".to_owned(), "manifest_delete"),
            ("GET", format!("/v2/a/b/blobs/{d}"), "blob_get"),
            ("DELETE", format!("/v2/a/b/blobs/{d}"), "blob_delete"),
            ("POST", "/v2/a/b/blobs/uploads/".to_owned(), "upload_begin"),
            ("GET", "/v2/a/b/blobs/uploads/s".to_owned(), "upload_status"),
            ("PATCH", "/v2/a/b/blobs/uploads/s".to_owned(), "upload_append"),
            ("PUT", format!("/v2/a/b/blobs/uploads/s?digest={d}"), "upload_finish"),
            ("DELETE", "/v2/a/b/blobs/uploads/s".to_owned(), "upload_cancel"),
        ] {
            assert_eq!(parse(method, &path).unwrap().label(), label, "{method} {path}");
        }
    }

    #[test]
    fn reserved_words_may_be_parts_of_names() {
        for name in ["a/blobs", "a/manifests", "a/tags", "a/blobs/uploads", "a/manifests/tags", "tags/list"] {
            let action = parse("GET", &format!("/v2/{name}/manifests/v1")).unwrap();
            assert_eq!(action.repo().unwrap().as_spelled(), name);
            let action = parse("GET", &format!("/v2/{name}/tags/list")).unwrap();
            assert_eq!(action.repo().unwrap().as_spelled(), name);
            let action = parse("POST", &format!("/v2/{name}/blobs/uploads/")).unwrap();
            assert_eq!(action.repo().unwrap().as_spelled(), name);
        }
    }

    #[test]
    fn an_encoded_digest_is_read_and_an_encoded_slash_is_not() {
        let encoded = digest().replace(':', "%3A");
        assert_eq!(parse("GET", &format!("/v2/a/b/blobs/{encoded}")).unwrap().label(), "blob_get");
        for bad in ["/v2/a/b/manifests/x%2Fy", "/v2/a/b/manifests/%zz", "/v2/a%2Fb/manifests/x", "/v2/../b/manifests/x"]
        {
            assert_eq!(parse("GET", bad).unwrap_err().status(), 400, "{bad}");
        }
    }

    #[test]
    fn wrong_methods_and_paths_are_told_apart() {
        assert_eq!(parse("POST", "/v2/").unwrap_err().status(), 405);
        assert_eq!(parse("POST", "/v2/a/b/tags/list").unwrap_err().status(), 405);
        assert_eq!(parse("GET", "/v2/a/b/blobs/uploads/").unwrap_err().status(), 405);
        assert_eq!(parse("GET", "/v1/search").unwrap_err().status(), 404);
        assert_eq!(parse("GET", "/v2x").unwrap_err().status(), 404);
        assert_eq!(parse("GET", "/v2/a").unwrap_err().status(), 404);
        assert_eq!(parse("GET", "/v2/A/b/manifests/x").unwrap_err().status(), 400);
        assert_eq!(parse("PUT", "/v2/a/b/blobs/uploads/s").unwrap_err().status(), 400);
        assert_eq!(parse("GET", "/v2/a/b/manifests/.x").unwrap_err().status(), 404);
    }

    #[test]
    fn a_mount_from_what_cannot_be_ours_is_a_session() {
        let path = format!("/v2/a/b/blobs/uploads/?mount={}&from=pause&origin=registry.example", digest());
        assert!(matches!(parse("POST", &path), Ok(Action::BeginUpload { start: Start::Session, .. })));
    }

    #[test]
    fn pages_take_huge_numbers_and_refuse_others() {
        let page = |q: &str| match parse("GET", &format!("/v2/a/b/tags/list?{q}")) {
            Ok(Action::ListTags { page, .. }) => Ok(page),
            Ok(_) => unreachable!(),
            Err(error) => Err(error.status().as_u16()),
        };
        assert_eq!(page("n=0").unwrap().n, Some(0));
        assert_eq!(page("n=99999999999999999999999").unwrap().n, Some(u64::MAX));
        assert_eq!(page("last=x").unwrap(), Page { n: None, last: "x".into(), seen: None });
        assert_eq!(page("n=-1").unwrap_err(), 400);
        assert_eq!(page("n=many").unwrap_err(), 400);
    }

    proptest::proptest! {
        #[test]
        fn parsing_never_panics(path in "/v2/\\PC{0,60}", query in "\\PC{0,60}") {
            for method in [Method::GET, Method::PUT, Method::POST, Method::PATCH, Method::DELETE] {
                let _ = Action::parse(&method, &path, Some(&query));
            }
        }
    }
}
