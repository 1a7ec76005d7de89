//! Whoever looks at a page: a session's holder, with the organizations they can go to.

use axum::extract::FromRequestParts;
use http::request::Parts;
use identity::rbac::{Permission, Reach, Resource};
use identity::session::LiveSession;
use storage::orgs::{self, Org};

use super::frame::{Frame, OrgLink, Section};
use super::notice::{self, Notice};
use crate::State;
use crate::actor::{Actor, Holder, in_org};
use crate::error::{Error, Result};

/// Organizations that the menu offers; whoever has more finds the others by their address.
const MOST_ORGS: i64 = 100;

/// The holder of a browser's session who may do more than repair their own access.
#[derive(Debug, Clone)]
pub(crate) struct Viewer {
    /// Them, as the API's handlers know callers.
    pub(crate) actor: Actor,
    /// Their session.
    pub(crate) session: LiveSession,
    orgs: Vec<Org>,
    notice: Option<Notice>,
    now: i64,
}

impl FromRequestParts<State> for Viewer {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self> {
        let viewer = Self::of(parts, state).await?;
        // A session has rights in its chosen organization alone: a tab of another one would find nothing of it there.
        if let Some(other) = viewer.other_org(parts.uri.path()) {
            return Err(Error::OtherOrg(other));
        }
        Ok(viewer)
    }
}

impl Viewer {
    /// Whoever sends a request, wherever it goes.
    ///
    /// # Errors
    /// 401 without a session, 403 where something must be repaired first.
    pub(super) async fn of(parts: &mut Parts, state: &State) -> Result<Self> {
        let holder = Holder::from_request_parts(parts, state).await?;
        holder.full()?;
        let (actor, session) = holder.into_actor(parts, state).await;
        let user_id = &actor.principal().user_id;
        let orgs = orgs::list_of_user(&mut state.db().read().await?, user_id, "", MOST_ORGS).await?;
        let notice = notice::read(&parts.headers, state.settings().secure_cookies);
        Ok(Self { actor, session, orgs, notice, now: state.identity().now() })
    }

    /// The organization that a path names, where it is one of the viewer's, but not the chosen one.
    fn other_org(&self, path: &str) -> Option<String> {
        let named = path.strip_prefix("/orgs/")?.split('/').next()?;
        let org = self.orgs.iter().find(|org| org.slug == named)?;
        (self.session.org_id.as_ref() != Some(&org.id)).then(|| org.slug.clone())
    }

    /// The API's caller, for a call of one of its handlers.
    pub(crate) fn actor(&self) -> Actor {
        self.actor.clone()
    }

    /// The session's holder, for a call of one of the API's handlers that takes sessions alone.
    pub(crate) fn holder(&self) -> Holder {
        Holder { session: self.session.clone(), caller: self.actor.caller.clone() }
    }

    /// The chosen organization.
    pub(crate) fn org(&self) -> Option<&Org> {
        self.orgs.iter().find(|org| self.session.org_id.as_ref() == Some(&org.id))
    }

    /// The organizations that the viewer can go to.
    pub(crate) fn orgs(&self) -> &[Org] {
        &self.orgs
    }

    /// Whether the viewer has a permission on the chosen organization as a whole: for what a page offers. The handler that
    /// is called decides again.
    pub(crate) fn may(&self, permission: Permission) -> bool {
        self.org().is_some_and(|org| self.actor.may(permission, &in_org(org)))
    }

    /// Whether the viewer has a permission on the chosen organization, or on anything in it.
    pub(crate) fn may_anywhere(&self, permission: Permission) -> bool {
        let Reach { orgs, projects, partly } = self.actor.principal().reach(permission);
        self.org().is_some() && (self.may(permission) || !orgs.is_empty() || !projects.is_empty() || !partly.is_empty())
    }

    /// Whether the viewer has a permission on the platform.
    pub(crate) fn may_on_platform(&self, permission: Permission) -> bool {
        self.actor.may(permission, &Resource::Platform)
    }

    /// What surrounds a page of that section.
    pub(crate) fn frame(&self, section: Section) -> Frame {
        let link = |org: &Org| OrgLink { slug: org.slug.clone(), name: org.name.clone() };
        let chosen = self.org();
        Frame {
            user: self.actor.principal().name.clone(),
            org: chosen.map(link),
            others: self.orgs.iter().filter(|org| chosen.is_none_or(|chosen| chosen.id != org.id)).map(link).collect(),
            nav: super::frame::nav(self, section),
            csrf: self.session.csrf_token.expose().to_owned(),
            notice: self.notice.clone(),
            now: self.now,
        }
    }
}
