//! `/password/forgot`, `/password/reset`

use axum::extract::State as Shared;
use http::StatusCode;
use identity::Secret;
use identity::audit::Client;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::State;
use crate::actor::Visitor;
use crate::error::Result;
use crate::extract;

/// Whoever forgot their password.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Forgotten {
    /// Their e-mail.
    #[schema(example = "dev@example.com")]
    pub(crate) email: String,
}

/// A new password by means of a mailed link.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"token": "<64 hexadecimal>", "new": "a quiet harbour at night"}))]
pub(crate) struct Reset {
    /// What follows `#token=` in the link.
    #[schema(value_type = String, format = Password)]
    pub(crate) token: Secret,
    /// The password to be.
    #[schema(value_type = String, format = Password)]
    pub(crate) new: Secret,
}

/// Ask for a link to choose a new password
///
/// It is mailed to the address if somebody goes by it, works once, and ends after 72 hours. The answer is the same whether
/// or not there is somebody.
#[utoipa::path(post, path = "/password/forgot", tag = "session", request_body = Forgotten,
    responses((status = 202, description = "If somebody goes by that address, a mail is on its way")))]
pub(crate) async fn forgot_password(
    visitor: Visitor,
    Shared(state): Shared<State>,
    extract::Json(given): extract::Json<Forgotten>,
) -> Result<StatusCode> {
    state.identity().forgot_password(&visitor.origin(Client::Browser), &given.email)?;
    Ok(StatusCode::ACCEPTED)
}

/// Choose a new password by means of a mailed link
///
/// Every session and every token of the user ends, a lock of the name too.
#[utoipa::path(post, path = "/password/reset", tag = "session", request_body = Reset,
    responses((status = 204, description = "Changed")))]
pub(crate) async fn reset_password(
    visitor: Visitor,
    Shared(state): Shared<State>,
    extract::Json(given): extract::Json<Reset>,
) -> Result<StatusCode> {
    state.identity().reset_password_by_link(&visitor.origin(Client::Browser), &given.token, &given.new).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use crate::testing::{ADMIN, Caller, Controller, PASSWORD, Reply, token};

    const NEW: &str = "an entirely new one";

    async fn forgot(controller: &Controller, email: &str) -> Reply {
        controller.post(&Caller::Nobody, "/password/forgot", &json!({"email": email})).await
    }

    async fn reset(controller: &Controller, token: &str, new: &str) -> Reply {
        controller.post(&Caller::Nobody, "/password/reset", &json!({"token": token, "new": new})).await
    }

    #[tokio::test]
    async fn a_link_works_once_and_ends_what_was_had_before() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        for _ in 0..5 {
            controller.try_login(ADMIN, "wrong").await.expect(401);
        }
        assert_eq!(controller.mail_to(ADMIN).await.subject, "Log-ins with your password are locked");
        forgot(&controller, " Admin@Localhost ").await.expect(202);
        let other = token(&controller.mail_to(ADMIN).await);
        forgot(&controller, ADMIN).await.expect(202);
        let letter = controller.mail_to(ADMIN).await;
        assert!(letter.text.contains("/password-reset#token=") && letter.html.contains("/password-reset#token="));
        let token = token(&letter);
        reset(&controller, &token, "short").await.expect(422);
        reset(&controller, &"0".repeat(64), NEW).await.expect(422);
        reset(&controller, &token, NEW).await.expect(204);
        assert_eq!(controller.mail_to(ADMIN).await.subject, "Your password was changed");
        reset(&controller, &token, "yet another one").await.expect(422);
        reset(&controller, &other, "yet another one").await.expect(422);
        controller.get(&admin, "/session").await.expect(401);
        // The lock of those who guessed is lifted.
        controller.try_login(ADMIN, PASSWORD).await.expect(401);
        controller.try_login(ADMIN, NEW).await.expect(200);
    }

    #[tokio::test]
    async fn a_link_ends_after_three_days_and_with_a_change_of_the_password() {
        let controller = Controller::start().await;
        forgot(&controller, ADMIN).await.expect(202);
        let late = token(&controller.mail_to(ADMIN).await);
        controller.clock.advance(72 * 3600);
        reset(&controller, &late, NEW).await.expect(422);
        forgot(&controller, ADMIN).await.expect(202);
        let void = token(&controller.mail_to(ADMIN).await);
        let admin = controller.login(ADMIN).await;
        let change = json!({"current": PASSWORD, "new": "changed meanwhile"});
        controller.post(&admin, "/password", &change).await.expect(200);
        reset(&controller, &void, NEW).await.expect(422);
    }

    #[tokio::test]
    async fn known_and_unknown_addresses_are_answered_alike() {
        let controller = Controller::start().await;
        let known = forgot(&controller, ADMIN).await.expect(202);
        let unknown = forgot(&controller, "nobody@example.com").await.expect(202);
        assert_eq!((known.body, known.headers), (unknown.body, unknown.headers));
        controller.mail_to(ADMIN).await;
        forgot(&controller, "no address").await.expect(422);
        forgot(&controller, "ci").await.expect(422);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        assert!(controller.mails().await.is_empty());
    }
}
