//! How long events are kept: what an organization decided, in whole months.

use serde_json::json;
use storage::audit::retention::{cut, limits};
use storage::clock::rfc3339;

use super::{Caller, Entry};
use crate::core::Identity;

/// Days that the platform's own events are kept.
const PLATFORM_DAYS: i64 = 400;
/// Organizations that are read at a time.
const ORGS: i64 = 200;

impl Identity {
    /// Takes away events that are older than their organization keeps them: what a process does now and then.
    ///
    /// # Errors
    /// Those of the database; the next call goes on.
    pub async fn cut_audit(&self) -> storage::Result<()> {
        self.cut_chain("", PLATFORM_DAYS).await?;
        let mut after = String::new();
        loop {
            let page = limits(&mut self.db().read().await?, &after, ORGS).await?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after.clone_from(last);
            for (org_id, days) in &page {
                self.cut_chain(org_id, *days).await?;
            }
        }
    }

    async fn cut_chain(&self, org_id: &str, days: i64) -> storage::Result<()> {
        let now_ms = self.now_ms();
        let cut = cut(self.db(), org_id, days, now_ms, |cut| {
            let older_than = rfc3339(cut.older_than_ms.div_euclid(1000));
            let detail =
                json!({ "from": cut.first_seq, "to": cut.until_seq - 1, "older_than": older_than, "days": days });
            Caller::server().event(&Entry { org_id, action: "audit.cut", detail, ..Entry::default() }, now_ms)
        });
        if let Some(cut) = cut.await? {
            tracing::info!(org.id = org_id, audit.cut = cut.until_seq - cut.first_seq, "old audit events taken away");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use storage::audit::{check::check, head};

    use crate::audit::{Caller, Entry};
    use crate::core::testing;

    #[tokio::test]
    async fn an_organization_keeps_its_events_as_long_as_it_says() {
        let t = testing::identity().await;
        let org = t.org("main").await;
        t.identity
            .note(&Caller::server(), &Entry { org_id: &org, action: "image.push", ..Entry::default() })
            .await
            .unwrap();
        t.identity.settle().await;
        let before = head(&mut t.db.read().await.unwrap(), &org).await.unwrap();
        t.advance(90 * 86_400);
        t.identity.cut_audit().await.unwrap();
        assert_eq!(head(&mut t.db.read().await.unwrap(), &org).await.unwrap(), before, "kept for ever");
        t.keep_audit_for(&org, 30).await;
        t.identity
            .note(&Caller::server(), &Entry { org_id: &org, action: "image.pull", ..Entry::default() })
            .await
            .unwrap();
        t.identity.settle().await;
        t.identity.cut_audit().await.unwrap();
        t.identity.cut_audit().await.unwrap();
        let after = head(&mut t.db.read().await.unwrap(), &org).await.unwrap();
        assert_eq!(
            (after.first_seq, after.seq),
            (before.seq + 1, before.seq + 2),
            "one event is young, one tells of the cut"
        );
        let checked = check(&t.db, &org).await.unwrap();
        assert_eq!((checked.events, checked.flaw), (2, None));
    }
}
