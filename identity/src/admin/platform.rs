//! The life of organizations, as the platform's operators lead it: suspended and resumed, deleted with a time of grace,
//! and taken away when that is over. No function here reads what is in one.

use serde_json::json;
use storage::orgs::{self, Org};
use storage::{Tx, removal};

use super::{AdminError, checked_org_name};
use crate::audit::{Caller, Entry};
use crate::core::Identity;

/// Days between the wish to delete an organization and its end, where nobody says.
pub const GRACE_DAYS: i64 = 7;
/// Most days that can be asked for.
const MAX_GRACE_DAYS: i64 = 90;

impl Identity {
    /// Gives an organization another name; its slug never changes.
    ///
    /// # Errors
    /// [`AdminError::Field`] for a name that cannot be; [`AdminError::Storage`] where it changed meanwhile.
    pub async fn rename_org(
        &self,
        by: &Caller,
        org_id: &str,
        name: &str,
        expected: Option<i64>,
    ) -> Result<Org, AdminError> {
        let name = checked_org_name(name)?;
        let mut tx = self.db().begin().await?;
        let before = orgs::lock(&mut tx, org_id).await?;
        let org = orgs::rename(&mut tx, org_id, name, expected).await?;
        let detail = json!({"before": {"name": before.name}, "after": {"name": org.name}});
        let entry = Entry { org_id, action: "org.update", target: &org.slug, detail, ..Entry::default() };
        self.record(&mut tx, by, &entry).await?;
        tx.commit().await?;
        Ok(org)
    }

    /// Closes every door of an organization, to tokens that were already given too.
    ///
    /// # Errors
    /// [`storage::Error::Conflict`] where it does not live, else those of the database.
    pub async fn suspend_org(&self, by: &Caller, org_id: &str) -> storage::Result<Org> {
        self.lead(
            by,
            org_id,
            &Turn { from: &[orgs::ACTIVE], to: orgs::SUSPENDED, delete_after: None, action: "org.suspend" },
        )
        .await
    }

    /// Opens the doors of a suspended organization again.
    ///
    /// # Errors
    /// [`storage::Error::Conflict`] where it is not suspended, else those of the database.
    pub async fn resume_org(&self, by: &Caller, org_id: &str) -> storage::Result<Org> {
        self.lead(
            by,
            org_id,
            &Turn { from: &[orgs::SUSPENDED], to: orgs::ACTIVE, delete_after: None, action: "org.resume" },
        )
        .await
    }

    /// Closes every door of an organization, and lets everything of it go after `grace_days`. Until then it can be had back.
    ///
    /// # Errors
    /// [`AdminError::Field`] for a time out of bounds; [`storage::Error::Conflict`] where it is being deleted already.
    pub async fn delete_org(&self, by: &Caller, org_id: &str, grace_days: i64) -> Result<Org, AdminError> {
        if !(0..=MAX_GRACE_DAYS).contains(&grace_days) {
            return Err(AdminError::Field { field: "grace_days", reason: "use 0 to 90" });
        }
        let turn = Turn {
            from: &[orgs::ACTIVE, orgs::SUSPENDED],
            to: orgs::DELETING,
            delete_after: Some(self.now() + grace_days * 86_400),
            action: "org.delete_request",
        };
        Ok(self.lead(by, org_id, &turn).await?)
    }

    /// Takes the wish to delete an organization back. It is what it was before: one that was suspended stays so.
    ///
    /// # Errors
    /// [`storage::Error::Conflict`] where it is not being deleted, or its time is over.
    pub async fn undelete_org(&self, by: &Caller, org_id: &str) -> storage::Result<Org> {
        let mut turn =
            Turn { from: &[orgs::DELETING], to: orgs::ACTIVE, delete_after: None, action: "org.delete_cancel" };
        let mut tx = self.db().begin().await?;
        removal::judge_members_again(&mut tx, org_id).await?;
        orgs::lock(&mut tx, org_id).await?;
        if orgs::status_before(&mut tx, org_id).await?.as_deref() == Some(orgs::SUSPENDED) {
            turn.to = orgs::SUSPENDED;
        }
        self.lead_in(tx, by, org_id, &turn).await
    }

    /// Makes organizations whose time is over ready to be taken away by [`removal::Remover`], from where there is no way
    /// back. Returns how many.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn end_due_orgs(&self) -> storage::Result<usize> {
        let due = orgs::list_due(&mut self.db().read().await?, self.now()).await?;
        for org in &due {
            let turn = Turn { from: &[orgs::DELETING], to: orgs::REMOVING, delete_after: None, action: "org.delete" };
            match self.lead(&Caller::server(), &org.id, &turn).await {
                // Somebody took the wish back, or another process was faster.
                Ok(_) | Err(storage::Error::Conflict(_) | storage::Error::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(due.len())
    }

    async fn lead(&self, by: &Caller, org_id: &str, turn: &Turn<'_>) -> storage::Result<Org> {
        let mut tx = self.db().begin().await?;
        removal::judge_members_again(&mut tx, org_id).await?;
        self.lead_in(tx, by, org_id, turn).await
    }

    /// As [`Identity::lead`], in a transaction in which all members are to be judged again.
    async fn lead_in(&self, mut tx: Tx, by: &Caller, org_id: &str, turn: &Turn<'_>) -> storage::Result<Org> {
        let org = orgs::set_status(&mut tx, org_id, turn.from, turn.to, turn.delete_after).await?;
        self.record_twice(&mut tx, by, &org, turn).await?;
        tx.commit().await?;
        self.forget_everything();
        Ok(org)
    }

    /// In the platform's chain, and in the organization's own.
    async fn record_twice(&self, tx: &mut Tx, by: &Caller, org: &Org, turn: &Turn<'_>) -> storage::Result<()> {
        let detail = match turn.delete_after {
            Some(at) => json!({"status": turn.to, "delete_after": at}),
            None => json!({"status": turn.to}),
        };
        let entry = Entry { action: turn.action, target: &org.slug, detail, ..Entry::default() };
        self.record(tx, by, &entry).await?;
        self.record(tx, by, &Entry { org_id: &org.id, ..entry }).await
    }
}

/// A step in an organization's life.
struct Turn<'a> {
    from: &'a [&'a str],
    to: &'a str,
    delete_after: Option<i64>,
    action: &'a str,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use storage::removal::Remover;
    use storage::{audit, users};

    use super::*;
    use crate::core::testing;

    #[tokio::test]
    async fn one_that_was_suspended_is_so_again_when_the_wish_to_delete_it_is_taken_back() {
        let t = testing::identity().await;
        let org = t.org("main").await;
        let by = Caller::server();
        t.identity.suspend_org(&by, &org).await.unwrap();
        t.identity.delete_org(&by, &org, 1).await.unwrap();
        assert_eq!(t.identity.undelete_org(&by, &org).await.unwrap().status, orgs::SUSPENDED);
        assert!(t.identity.resume_org(&by, &org).await.unwrap().is_active());
        t.identity.delete_org(&by, &org, 1).await.unwrap();
        assert!(t.identity.undelete_org(&by, &org).await.unwrap().is_active());
    }

    #[tokio::test]
    async fn a_deleted_organization_goes_when_its_grace_is_over_and_the_platform_remembers() {
        let t = testing::identity().await;
        let org = t.org("main").await;
        t.add("ann@acme.example").await;
        let by = Caller::server();
        assert!(matches!(
            t.identity.delete_org(&by, &org, MAX_GRACE_DAYS + 1).await,
            Err(AdminError::Field { field: "grace_days", .. })
        ));
        t.identity.delete_org(&by, &org, 1).await.unwrap();
        assert!(t.identity.undelete_org(&by, &org).await.unwrap().is_active());
        t.identity.delete_org(&by, &org, 1).await.unwrap();
        t.advance(86_399);
        assert_eq!(t.identity.end_due_orgs().await.unwrap(), 0);
        t.advance(1);
        assert_eq!(t.identity.end_due_orgs().await.unwrap(), 1);
        assert!(t.identity.undelete_org(&by, &org).await.unwrap_err().is_conflict());
        let remover = Remover::new(t.db.clone(), t.options.clock.clone());
        let removed = remover.run().await.unwrap();
        assert_eq!((removed.orgs, removed.users), (1, 2));
        let mut session = t.db.read().await.unwrap();
        assert!(orgs::find_by_slug(&mut session, "main").await.unwrap().is_none());
        assert!(users::find_by_name(&mut session, "ann@acme.example").await.unwrap().is_none());
        assert!(users::find_by_name(&mut session, "operator@localhost").await.unwrap().is_some());
        assert!(audit::read(&mut session, &org, 0, 9).await.unwrap().is_empty());
        let events = audit::read(&mut session, "", 0, 99).await.unwrap();
        let actions: Vec<&str> = events.iter().map(|event| event.event.action.as_str()).collect();
        assert_eq!(
            actions[actions.len() - 4..],
            ["org.delete_request", "org.delete_cancel", "org.delete_request", "org.delete"]
        );
    }
}
