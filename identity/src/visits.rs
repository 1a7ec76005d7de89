//! Last access: who came to which organization, by which door, and when.

use storage::memberships;

use crate::audit::Client;
use crate::core::Identity;

/// Seconds between two notes of the same visitor at the same door.
const EVERY: i64 = 60;

/// As profiles spell the door that a client comes by.
#[must_use]
pub fn door(client: Client) -> &'static str {
    match client {
        Client::Browser => "console",
        Client::Cli => "cli",
        Client::Docker => "registry",
        Client::Api | Client::Server => "api",
    }
}

impl Identity {
    /// Notes, to the minute, that a user came to an organization. A convenience for administrators: failing at it keeps
    /// nobody out.
    pub async fn note_visit(&self, org_id: &str, user_id: &str, client: Client) {
        let (now, door) = (self.now(), door(client));
        let key = (org_id.to_owned(), user_id.to_owned(), door);
        if self.0.visits.get(&key).is_some_and(|at| at + EVERY > now) {
            return;
        }
        self.0.visits.insert(key, now);
        let noted = async {
            let mut tx = self.db().begin().await?;
            memberships::update_last_access(&mut tx, org_id, user_id, door, now).await?;
            tx.commit().await
        };
        if let Err(error) = noted.await {
            tracing::warn!(%error, user.id = user_id, "cannot note a visit");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::core::testing;

    #[tokio::test]
    async fn a_visit_is_noted_to_the_minute() {
        let t = testing::identity().await;
        let (org, ann) = (t.org("main").await, t.add("ann@acme.example").await);
        let seen = async || {
            let member = memberships::find(&mut t.db.read().await.unwrap(), &org, &ann).await.unwrap().unwrap();
            (member.last_access_at, member.last_access_door)
        };
        assert_eq!(seen().await, (None, None));
        let first = t.now();
        t.identity.note_visit(&org, &ann, Client::Browser).await;
        assert_eq!(seen().await, (Some(first), Some("console".into())));
        t.advance(59);
        t.identity.note_visit(&org, &ann, Client::Browser).await;
        assert_eq!(seen().await.0, Some(first));
        t.identity.note_visit(&org, &ann, Client::Docker).await;
        assert_eq!(seen().await, (Some(first + 59), Some("registry".into())));
        t.advance(2);
        t.identity.note_visit(&org, &ann, Client::Browser).await;
        assert_eq!(seen().await, (Some(first + 61), Some("console".into())));
        t.identity.note_visit(&org, "nobody", Client::Api).await;
    }
}
