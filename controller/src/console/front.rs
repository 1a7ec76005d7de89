//! The way in: where `/` leads, and the choice of an organization.

use askama::Template;
use axum::extract::State as Shared;
use axum::response::Response;
use http::header;
use serde::Deserialize;

use super::{Form, Frame, Section, Viewer, page, see};
use crate::State;
use crate::actor::Holder;
use crate::error::Result;
use crate::etag::segment;
use crate::sessions;

/// A member of an organization whom nobody gave a role.
#[derive(Template)]
#[template(path = "console/waiting.html")]
struct WaitingPage {
    frame: Frame,
}

#[derive(Template)]
#[template(path = "console/choose.html")]
struct ChoosePage {
    frame: Frame,
}

#[derive(Template)]
#[template(path = "console/nowhere.html")]
struct NowherePage {
    frame: Frame,
}

/// Where a session begins to work.
#[derive(Debug, Deserialize)]
pub(crate) struct Switch {
    /// Slug of the organization.
    org: String,
    /// The page of ours to go on at; else the organization's home.
    #[serde(default)]
    next: String,
}

/// `/`: the home of the chosen organization, or of the platform; for whom nothing is open yet, a page that says why.
pub(crate) async fn front(viewer: Viewer) -> Result<Response> {
    if let Some(org) = viewer.org() {
        if viewer.actor.principal().grants.is_empty() {
            return page(&WaitingPage { frame: viewer.frame(Section::None) });
        }
        return Ok(see(&format!("/orgs/{}", segment(&org.slug))));
    }
    if viewer.actor.principal().operator {
        return Ok(see("/platform"));
    }
    choose(viewer).await
}

/// `/organization`: the choice, where there is one.
pub(crate) async fn choose(viewer: Viewer) -> Result<Response> {
    let frame = viewer.frame(Section::None);
    if viewer.orgs().is_empty() { page(&NowherePage { frame }) } else { page(&ChoosePage { frame }) }
}

/// Goes to another organization.
pub(crate) async fn switch(
    holder: Holder,
    Shared(state): Shared<State>,
    Form(wanted): Form<Switch>,
) -> Result<Response> {
    holder.full()?;
    let session = state.identity().switch_org(&holder.caller, &holder.session, &wanted.org).await?;
    let home = format!("/orgs/{}", segment(&wanted.org));
    let mut response = see(own_path(&wanted.next).unwrap_or(&home));
    if let Some(cookie) = sessions::api::new_cookie(&state, &session, holder.session.kind) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

/// A path of ours that somebody asked to be led to: nothing that a browser could take for another host (`//`, `/\`).
pub(crate) fn own_path(path: &str) -> Option<&str> {
    let rest = path.strip_prefix('/')?;
    let plain = path.len() <= 2048 && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    (plain && !rest.starts_with('/') && path != "/").then_some(path)
}

/// The address of a page of ours that leads on to another of ours when it is done.
pub(crate) fn then(page: &str, next: &str) -> String {
    own_path(next).map_or_else(|| page.to_owned(), |next| format!("{page}?next={}", query(next)))
}

/// A text as the value in an address's query.
pub(crate) fn query(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::own_path;
    use crate::testing::{ADMIN, Caller, Controller, OPERATOR};

    #[test]
    fn nobody_is_led_to_another_host() {
        for good in ["/orgs/main", "/orgs/main/audit?user=a%40b"] {
            assert_eq!(own_path(good), Some(good));
        }
        for bad in ["", "/", "//evil.example", "/\\evil.example", "https://evil.example", "evil", "/a\nb", "/a b", "/é"]
        {
            assert_eq!(own_path(bad), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn everybody_is_led_where_they_work_and_strangers_to_the_log_in() {
        let controller = Controller::start().await;
        let front = controller.page(&Caller::Nobody, "/orgs/main/groups?after=x&limit=9").await.expect(303);
        assert_eq!(front.headers["location"], "/login?next=%2Forgs%2Fmain%2Fgroups%3Fafter%3Dx%26limit%3D9");
        let admin = controller.login(ADMIN).await;
        assert_eq!(controller.page(&admin, "/").await.expect(303).headers["location"], "/orgs/main");
        let operator = controller.login(OPERATOR).await;
        assert_eq!(controller.page(&operator, "/").await.expect(303).headers["location"], "/platform");
        let lost = controller.page(&admin, "/nothing/here").await.expect(404);
        assert!(lost.raw.contains("no page at this address"), "{}", lost.raw);
    }

    #[tokio::test]
    async fn whoever_has_no_role_is_told_so_and_whom_to_ask() {
        let controller = Controller::start().await;
        let new = controller.member("new@example.com", None).await;
        let waiting = controller.page(&new, "/").await.expect(200);
        assert!(waiting.raw.contains("nobody gave you a role") && waiting.raw.contains("new@example.com"));
        let dev = controller.member("dev@example.com", Some(("PROJECT_ADMIN", Some("defaultproject")))).await;
        assert_eq!(controller.page(&dev, "/").await.expect(303).headers["location"], "/orgs/main");
    }

    #[tokio::test]
    async fn a_tab_of_another_organization_asks_before_it_goes_there() {
        let controller = Controller::start().await;
        controller.other_org().await;
        controller.add("other", ADMIN).await;
        let admin = controller.login(ADMIN).await;
        let asked = controller.page(&admin, "/orgs/other/groups").await.expect(409);
        assert!(
            asked.raw.contains("Switch to other") && asked.raw.contains("value=\"/orgs/other/groups\""),
            "{}",
            asked.raw
        );
        // A form of that tab does nothing either.
        controller.submit(&admin, "/orgs/other/groups", &[("name", "lost")]).await.expect(409);
        let switched = controller
            .submit(&admin, "/organization", &[("org", "other"), ("next", "/orgs/other/groups")])
            .await
            .expect(303);
        assert_eq!(switched.headers["location"], "/orgs/other/groups");
        // The session has another secret, and the old one is worth nothing.
        controller.page(&admin, "/orgs/other/groups").await.expect(303);
    }

    #[tokio::test]
    async fn a_form_without_the_sessions_token_changes_nothing() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let Caller::Session { cookie, .. } = admin.clone() else { panic!() };
        for csrf in ["", "0000"] {
            let forged = Caller::Session { cookie: cookie.clone(), csrf: csrf.to_owned() };
            let refused = controller.submit(&forged, "/orgs/main/groups", &[("name", "forged")]).await.expect(403);
            assert!(refused.raw.contains("Nothing was changed"), "{}", refused.raw);
        }
        assert!(!controller.page(&admin, "/orgs/main/groups").await.expect(200).raw.contains("forged"));
    }
}
