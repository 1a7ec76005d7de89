//! Forms: their fields, their token, and what was wrong with them.

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::de::DeserializeOwned;

use crate::actor::CSRF_TOKEN;
use crate::error::{Error, Result};
use crate::extract::read_body;

/// The field in which every form of a session repeats the session's token.
const FIELD: &str = "csrf";

/// The fields of a form; one that may be given several times is a `Vec`.
#[derive(Debug)]
pub(crate) struct Form<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Form<T> {
    type Rejection = Error;

    async fn from_request(request: Request, _: &S) -> Result<Self> {
        if !is_form(request.headers()) {
            return Err(Error::Malformed("send the fields of the form".into()));
        }
        let body = read_body(request.into_body()).await?;
        // No name has a NUL, and not every database takes one.
        if body.windows(3).any(|part| part == b"%00") || body.contains(&0) {
            return Err(Error::Malformed("the form holds a NUL".into()));
        }
        serde_html_form::from_bytes(&body).map(Self).map_err(|error| Error::Malformed(format!("the form: {error}")))
    }
}

fn is_form(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// The middleware that reads the session's token from a form's field, where HTML cannot send the header. Whoever extracts the
/// session compares it, as for the API.
pub(crate) async fn token_from_field(request: Request, next: Next) -> Response {
    if request.method() != Method::POST || !is_form(request.headers()) || request.headers().contains_key(CSRF_TOKEN) {
        return next.run(request).await;
    }
    let (mut parts, body) = request.into_parts();
    let body = match read_body(body).await {
        Ok(body) => body,
        Err(error) => return error.into_response(),
    };
    let token = url::form_urlencoded::parse(&body).find(|(name, _)| name == FIELD).map(|(_, value)| value);
    if let Some(Ok(token)) = token.map(|token| HeaderValue::from_str(&token)) {
        parts.headers.insert(CSRF_TOKEN, token);
    }
    next.run(Request::from_parts(parts, Body::from(body))).await
}

/// What was wrong with a form, to be said above it and at the field.
#[derive(Debug, Clone, Default)]
pub(crate) struct FormProblem {
    /// The field, as the API names it; empty where it is none.
    pub(crate) field: &'static str,
    /// What would be accepted.
    pub(crate) message: String,
}

impl FormProblem {
    /// What is to be said at a field.
    pub(crate) fn at(&self, field: &str) -> Option<&str> {
        (self.field == field).then_some(self.message.as_str())
    }

    /// What a failure says to whoever filled the form in, and the status to show it with.
    ///
    /// # Errors
    /// The failure itself, where filling in something else would not help.
    pub(crate) fn of(error: Error) -> Result<(StatusCode, Self)> {
        let status = error.status();
        match &error {
            Error::Invalid { field, reason } => Ok((status, Self { field, message: sentence(reason) })),
            Error::Changed => Ok((status, Self { field: "", message: CHANGED.into() })),
            Error::Moved => Ok((status, Self { field: "", message: MOVED.into() })),
            Error::Unacceptable(_)
            | Error::Conflict(_)
            | Error::TryLater { .. }
            | Error::BadCredentials
            | Error::WrongFactor
            | Error::Forbidden(_)
            | Error::Denied(_) => Ok((status, Self { field: "", message: sentence(&error.to_string()) })),
            _ => Err(error),
        }
    }
}

/// What somebody hears who changed something that another did meanwhile; the form that says so is of the newer version.
const CHANGED: &str = "Somebody else changed this while you were looking at it, and nothing was saved. Look at what is there \
                       now in another tab; if you still mean it, save again.";

/// What somebody hears for whom something else would go now than they were told.
const MOVED: &str = "Somebody pushed or deleted here while you were looking at this, and nothing was deleted. Below is what \
                     would go now; if you still mean it, delete once more.";

/// What is to be said at a field of a template's form.
pub(crate) fn wrong<'a>(problem: &'a Option<FormProblem>, field: &str) -> Option<&'a str> {
    problem.as_ref().and_then(|problem| problem.at(field))
}

/// What a field holds, if anything.
pub(crate) fn given(text: &str) -> Option<String> {
    Some(text.trim()).filter(|text| !text.is_empty()).map(ToOwned::to_owned)
}

/// Text of the API as a sentence. What it begins with stays as it is where it is a name: of a permission, of a user.
pub(crate) fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let named = text.split_once(' ').is_some_and(|(word, _)| word.contains(['.', '@']));
    let upper = |first: char| if named { first.to_string() } else { first.to_uppercase().to_string() };
    let first: String = chars.next().map(upper).unwrap_or_default();
    let end = if text.ends_with(['.', '?', '!']) { "" } else { "." };
    format!("{first}{}{end}", chars.as_str())
}

/// Words of a field that holds several, with commas or blanks between.
pub(crate) fn several(text: &str) -> Vec<String> {
    let parts = text.split(|c: char| c == ',' || c.is_whitespace());
    parts.filter(|part| !part.is_empty()).map(ToOwned::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::sentence;

    #[test]
    fn sentences_begin_with_a_capital_but_names_stay() {
        assert_eq!(sentence("nothing was chosen"), "Nothing was chosen.");
        assert_eq!(
            sentence("apikey.manage on organization main is missing"),
            "apikey.manage on organization main is missing."
        );
        assert_eq!(sentence("ann@example.com is locked."), "ann@example.com is locked.");
    }
}
