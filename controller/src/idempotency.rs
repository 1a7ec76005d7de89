//! `Idempotency-Key` on creates (draft-ietf-httpapi-idempotency-key-header): whoever repeats a request with the same key gets
//! the first answer again, and nothing is made twice.
//!
//! A key belongs to a caller's credential, a method and a path, for a day. The same key with another request is 422; while
//! the first one runs it is 409. Only success is kept, sealed, because it may hold a secret; whatever failed changed
//! nothing and may be tried again.

use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts, Request, State as Shared};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use identity::Identity;
use serde::{Deserialize, Serialize};
use storage::digest::digest_of;
use storage::idempotency::{self, Begun};
use storage::names::Algorithm;
use tracing::Instrument;

use crate::State;
use crate::actor::Actor;
use crate::error::{Error, Result};
use crate::extract::read_body;

/// The header.
pub(crate) const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// Tells that an answer is that of an earlier request.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// Longest key, in characters.
pub(crate) const MAX_KEY: usize = 255;
/// Largest answer that is kept: larger than any create's.
const MAX_ANSWER: usize = 256 << 10;
/// What the answers are sealed for.
const PURPOSE: &str = "idempotency";
/// Headers of an answer that are kept.
const KEPT: [HeaderName; 3] = [header::LOCATION, header::ETAG, header::CONTENT_TYPE];

/// An answer, as it is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

/// The middleware of creates.
pub(crate) async fn keep(Shared(state): Shared<State>, request: Request, next: Next) -> Response {
    match answer(state, request, next).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    }
}

async fn answer(state: State, request: Request, next: Next) -> Result<Response> {
    let Some(key) = key(request.headers())? else { return Ok(next.run(request).await) };
    let (mut parts, body) = request.into_parts();
    // Whoever may not even come in is told so by the handler.
    let Ok(actor) = Actor::from_request_parts(&mut parts, &state).await else {
        return Ok(next.run(Request::from_parts(parts, Body::empty())).await);
    };
    let body = read_body(body).await?;
    let who = format!("{}\n{}", actor.principal().user_id, actor.caller.credential.text());
    let scope = format!("{who}\n{} {}\n{key}", parts.method, parts.uri.path());
    let key_hash = hex(&state.identity().mac(PURPOSE, scope.as_bytes()));
    let request_hash = fingerprint(&parts.uri.to_string(), &parts.headers, &body);
    let mut tx = state.db().begin().await?;
    let begun = idempotency::begin(&mut tx, &key_hash, &request_hash, state.identity().now()).await?;
    tx.commit().await?;
    match begun {
        Begun::Answered(sealed) => replay(state.identity(), &key_hash, &sealed),
        Begun::Mismatch => {
            Err(Error::Unacceptable("that Idempotency-Key was used for another request: take a new one".into()))
        }
        Begun::Gone => {
            Err(Error::Conflict("what that request made was revoked since: take a new Idempotency-Key".into()))
        }
        Begun::Running => Err(Error::InProgress),
        Begun::New => {
            let request = Request::from_parts(parts, Body::from(body));
            // On its own: a client that goes away does not stop it halfway between the change and its answer.
            let run = first(state, request, next, key_hash).instrument(tracing::Span::current());
            match tokio::spawn(run).await {
                Ok(response) => response,
                Err(error) => Err(Error::internal(error)),
            }
        }
    }
}

async fn first(state: State, request: Request, next: Next, key_hash: String) -> Result<Response> {
    let response = next.run(request).await;
    if !response.status().is_success() {
        let mut tx = state.db().begin().await?;
        idempotency::abandon(&mut tx, &key_hash).await?;
        tx.commit().await?;
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, MAX_ANSWER).await.map_err(Error::internal)?;
    let answer = Answer {
        status: parts.status.as_u16(),
        headers: kept(&parts.headers),
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    let text = serde_json::to_vec(&answer).map_err(Error::internal)?;
    let sealed = state.identity().seal(PURPOSE, &key_hash, &text);
    let mut tx = state.db().begin().await?;
    // The whole API key is in the answer: it goes when the API key does.
    let at = parts.headers.get(header::LOCATION).and_then(|at| at.to_str().ok());
    let api_key = at.and_then(|at| at.rsplit_once("/apikeys/")).map(|(_, id)| id);
    idempotency::finish(&mut tx, &key_hash, i64::from(answer.status), &sealed, api_key).await?;
    tx.commit().await?;
    Ok(Response::from_parts(parts, Body::from(body)))
}

fn kept(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |name: &HeaderName| Some((name.to_string(), headers.get(name)?.to_str().ok()?.to_owned()));
    KEPT.iter().filter_map(text).collect()
}

fn replay(identity: &Identity, key_hash: &str, sealed: &str) -> Result<Response> {
    let text = identity.unseal(PURPOSE, key_hash, sealed).map_err(Error::internal)?;
    let answer: Answer = serde_json::from_slice(&text).map_err(Error::internal)?;
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() = StatusCode::from_u16(answer.status).map_err(Error::internal)?;
    for (name, value) in answer.headers {
        let name = HeaderName::try_from(name).map_err(Error::internal)?;
        response.headers_mut().insert(name, HeaderValue::try_from(value).map_err(Error::internal)?);
    }
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    Ok(response)
}

/// The key of a request: 1 to 255 printable ASCII characters.
fn key(headers: &HeaderMap) -> Result<Option<String>> {
    let mut values = headers.get_all(HEADER).into_iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    if values.next().is_some() || text.is_empty() || text.len() > MAX_KEY {
        return Err(Error::Malformed(format!("Idempotency-Key: one of 1 to {MAX_KEY} printable characters")));
    }
    Ok(Some(text.to_owned()))
}

fn fingerprint(uri: &str, headers: &HeaderMap, body: &Bytes) -> String {
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let text = [uri.as_bytes(), b"\n", kind, b"\n", body].concat();
    digest_of(Algorithm::Sha256, &text).hex().to_owned()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::{ADMIN, Caller, Controller, Reply};
    use serde_json::{Value, json};

    async fn post(controller: &Controller, caller: &Caller, key: &str, path: &str, body: &Value) -> Reply {
        controller.call_with(caller, http::Method::POST, path, body, &[("idempotency-key", key)]).await
    }

    #[tokio::test]
    async fn a_repeated_create_gets_the_first_answer_and_makes_nothing_twice() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let body = json!({"name": "ci"});
        let first = post(&controller, &admin, "k1", "/orgs/main/apikeys", &body).await.expect(201);
        let again = post(&controller, &admin, "k1", "/orgs/main/apikeys", &body).await.expect(201);
        assert_eq!(first.body, again.body);
        assert_eq!(first.headers.get(header::LOCATION), again.headers.get(header::LOCATION));
        assert_eq!((first.headers.get(&REPLAYED), again.headers[&REPLAYED].to_str().unwrap()), (None, "true"));
        let keys = controller.get(&admin, "/orgs/main/apikeys").await.expect(200);
        assert_eq!(keys.body["items"].as_array().unwrap().len(), 1);

        // Another request with the same key, then the same key of another caller.
        post(&controller, &admin, "k1", "/orgs/main/apikeys", &json!({"name": "other"})).await.expect(422);
        let other = controller.login(ADMIN).await;
        post(&controller, &other, "k1", "/orgs/main/apikeys", &json!({"name": "other"})).await.expect(201);
        // A day later the key is new.
        controller.clock.advance(idempotency::KEPT + 1);
        let other = controller.login(ADMIN).await;
        let later = post(&controller, &other, "k1", "/orgs/main/apikeys", &body).await.expect(201);
        assert_ne!(later.text("id"), first.text("id"));
    }

    #[tokio::test]
    async fn an_api_key_that_was_revoked_is_not_told_again() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let body = json!({"name": "ci"});
        let made = post(&controller, &admin, "k", "/orgs/main/apikeys", &body).await.expect(201);
        let path = format!("/orgs/main/apikeys/{}", made.text("id"));
        controller.call(&admin, http::Method::DELETE, &path, &Value::Null).await.expect(204);
        let again = post(&controller, &admin, "k", "/orgs/main/apikeys", &body).await.expect(409);
        assert!(!again.raw.contains(&made.text("key")), "{}", again.raw);
        let listed = controller.get(&admin, "/orgs/main/apikeys").await.expect(200);
        assert_eq!(listed.body["items"], json!([]));
    }

    #[tokio::test]
    async fn what_failed_may_be_tried_again_and_keys_are_bounded() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        post(&controller, &admin, "k", "/orgs/main/projects", &json!({"slug": "No Slug"})).await.expect(422);
        post(&controller, &admin, "k", "/orgs/main/projects", &json!({"slug": "yes"})).await.expect(201);
        let long = "k".repeat(MAX_KEY + 1);
        for bad in ["", long.as_str()] {
            post(&controller, &admin, bad, "/orgs/main/projects", &json!({"slug": "no"})).await.expect(400);
        }
        post(&controller, &Caller::Nobody, "k", "/orgs/main/projects", &json!({"slug": "yes"})).await.expect(401);
    }

    #[tokio::test]
    async fn a_request_that_runs_still_is_waited_for() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let body = json!({"slug": "twice"});
        let both = tokio::join!(
            post(&controller, &admin, "k", "/orgs/main/projects", &body),
            post(&controller, &admin, "k", "/orgs/main/projects", &body),
        );
        let mut statuses = [both.0.status.as_u16(), both.1.status.as_u16()];
        statuses.sort_unstable();
        assert!(statuses == [201, 409] || statuses == [201, 201], "{statuses:?}");
        for reply in [both.0, both.1].into_iter().filter(|reply| reply.status == 409) {
            assert_eq!(reply.body["type"], "urn:wharfinger:problem:in-progress");
            assert!(reply.headers.contains_key(header::RETRY_AFTER));
        }
    }
}
