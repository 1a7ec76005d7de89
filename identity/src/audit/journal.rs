//! Events without a change: pulls, token grants, denials. A bounded queue takes them, and a task writes them in batches,
//! each within a fifth of a second, so that reading costs no commit of its own.
//!
//! Nothing is dropped: where the queue is full, requests wait, and are refused rather than answered without a note; where the
//! database does not answer, the task tries again. What a process has not written when it is killed is lost; an orderly end
//! writes it ([`Identity::close_journal`]), or tells the log of the process what the database would not take.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use storage::audit::{NewEvent, append_all};
use storage::pulls::Pull;
use storage::{Db, activity, orgs, pulls};
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::folding::{Folding, PullEvents, pull_of};
use super::{Caller, Entry, Outcome};
use crate::core::Identity;

/// Events that wait to be written.
const QUEUE: usize = if cfg!(test) { 16 } else { 8192 };
/// Most events of one transaction: what came together while a slow database took the one before.
const BATCH: usize = if cfg!(test) { 8 } else { 2048 };
/// Events that do not wait for more. So many take a millisecond or two of a core, which requests wait for.
const ENOUGH: usize = if cfg!(test) { 8 } else { 384 };
/// How long the first event of a batch waits for others.
const GATHER: Duration = Duration::from_millis(100);
/// How often it is looked, meanwhile, whether there are enough: to be woken by each would cost more than to write it.
const LOOK: Duration = Duration::from_millis(5);
/// How long a request waits for room in the queue.
const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 2 } else { 10 });
/// How long the log of the process has, at the end, for what the database did not take.
const LAST: Duration = Duration::from_secs(2);
/// How long the task waits after a failure, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Denials of strangers that a process records one by one in a minute; the rest is counted.
const STRANGERS: u64 = if cfg!(test) { 5 } else { 600 };

/// What goes through the queue.
enum Note {
    Event(Box<NewEvent>),
    /// To be answered once everything before it is written.
    Settle(oneshot::Sender<()>),
}

/// The queue's end that requests see.
#[derive(Default)]
pub(crate) struct Journal {
    /// The task begins with the first event.
    queue: OnceLock<mpsc::Sender<Note>>,
    /// Somebody waits for what is in the queue.
    hurry: Arc<Notify>,
    /// True once the database is not waited for any more.
    over: watch::Sender<bool>,
    /// When it was last said that requests are refused (unix seconds): once a second is enough.
    behind: AtomicI64,
    strangers: Strangers,
}

/// How many denials of strangers the current minute has seen.
#[derive(Default)]
struct Strangers {
    minute: AtomicI64,
    seen: AtomicU64,
}

impl Strangers {
    /// Counts one; whether it is recorded by itself, and how many of the minute before were not.
    fn count(&self, now: i64) -> (bool, u64) {
        let minute = now / 60;
        let mut skipped = 0;
        if self.minute.swap(minute, Ordering::Relaxed) != minute {
            skipped = self.seen.swap(0, Ordering::Relaxed).saturating_sub(STRANGERS);
        }
        (self.seen.fetch_add(1, Ordering::Relaxed) < STRANGERS, skipped)
    }
}

impl Identity {
    /// Notes what changed nothing, before it is given out. Waits only where the queue is full.
    ///
    /// # Errors
    /// [`storage::Error::Busy`] where that goes on for long: then it must not be given out.
    pub async fn note(&self, by: &Caller, entry: &Entry<'_>) -> storage::Result<()> {
        match self.offer(by, entry).await {
            Ok(()) => Ok(()),
            // The runtime ends: what is in the log is all that is left.
            Err(SendTimeoutError::Closed(note)) => {
                log_lost(&note);
                Ok(())
            }
            Err(SendTimeoutError::Timeout(_)) => {
                let now = self.now();
                if self.0.journal.behind.swap(now, Ordering::Relaxed) != now {
                    tracing::error!("the audit log is so far behind that requests are refused");
                }
                Err(storage::Error::Busy("the audit log"))
            }
        }
    }

    /// Notes what was refused, as [`Identity::note`] does. It stays refused where there is no room for it; then the log of the
    /// process tells of it.
    pub async fn note_refused(&self, by: &Caller, entry: &Entry<'_>) {
        if let Err(SendTimeoutError::Closed(note) | SendTimeoutError::Timeout(note)) = self.offer(by, entry).await {
            log_lost(&note);
        }
    }

    async fn offer(&self, by: &Caller, entry: &Entry<'_>) -> Result<(), SendTimeoutError<Note>> {
        self.queue().send_timeout(Note::Event(Box::new(by.event(entry, self.now_ms()))), PATIENCE).await
    }

    /// Notes that something was denied, in the chain of the organization of that slug where the caller belongs to it, else
    /// in the platform's: no organization learns of other people by it. `entry.org_id` is not read.
    pub async fn note_denial(&self, by: &Caller, org: &str, entry: &Entry<'_>) {
        let theirs = match self.chain_of_member(by, org).await {
            Ok(theirs) => theirs,
            Err(error) => {
                tracing::warn!(%error, "cannot look up whose audit log a denial belongs to; it goes to the platform's");
                None
            }
        };
        match theirs {
            Some(org_id) => {
                let entry = Entry { org_id: &org_id, outcome: Outcome::Denied, ..entry.clone() };
                self.note_refused(by, &entry).await;
            }
            None => self.note_stranger(by, entry).await,
        }
    }

    /// Notes a denial in the platform's chain: one by one as long as they are few, else by their number. Anybody can cause
    /// any number of them.
    pub async fn note_stranger(&self, by: &Caller, entry: &Entry<'_>) {
        if self.admit_stranger() {
            self.note_refused(by, &Entry { org_id: "", outcome: Outcome::Denied, ..entry.clone() }).await;
        }
    }

    /// Whether a denial that goes to the platform's chain is to be recorded by itself. Where not, it is counted, and the
    /// number is recorded once the minute is over and another comes. Never waits: callers may hold a transaction, which the
    /// queue's other end waits for.
    pub(crate) fn admit_stranger(&self) -> bool {
        let (recorded, skipped) = self.0.journal.strangers.count(self.now());
        if skipped > 0 {
            let detail = serde_json::json!({ "events": skipped });
            let reason = "too many in a minute to be recorded one by one";
            let entry = Entry { action: "access.denied", outcome: Outcome::Denied, reason, detail, ..Entry::default() };
            let event = Caller::server().event(&entry, self.now_ms());
            let this = self.clone();
            tokio::spawn(async move {
                if let Err(refused) = this.queue().send(Note::Event(Box::new(event))).await {
                    log_lost(&refused.0);
                }
            });
        }
        recorded
    }

    /// Id of the organization of that slug, where the caller belongs to it; or of the one that the caller's API key is of.
    async fn chain_of_member(&self, by: &Caller, slug: &str) -> storage::Result<Option<String>> {
        if by.principal.user_id.is_empty() {
            return Ok(None);
        }
        let org = orgs::find_by_slug(&mut self.db().read().await?, slug).await?;
        let subject = self.subject(&by.principal.user_id).await?;
        let member = org.filter(|org| subject.is_some_and(|subject| subject.orgs.contains(&org.id)));
        Ok(match (&by.principal.key_org, member) {
            (Some(key_org), _) => Some(key_org.clone()),
            (None, member) => member.map(|org| org.id),
        })
    }

    /// Waits until everything that was noted before is written.
    pub async fn settle(&self) {
        let (done, written) = oneshot::channel();
        let Some(queue) = self.0.journal.queue.get() else { return };
        if queue.send(Note::Settle(done)).await.is_ok() {
            self.0.journal.hurry.notify_one();
            // An error means that the runtime ends: nothing waits any more.
            let _ = written.await;
        }
    }

    /// Writes what is still to be written, for no longer than `patience`; returns whether that was enough. What is left goes
    /// to the log of the process. To be called at the end, when no request runs any more and the database is still open.
    pub async fn close_journal(&self, patience: Duration) -> bool {
        if timeout(patience, self.settle()).await.is_ok() {
            return true;
        }
        self.0.journal.over.send_replace(true);
        // An error means that even the log takes too long.
        let _ = timeout(LAST, self.settle()).await;
        false
    }

    /// How many noted events wait to be written.
    #[must_use]
    pub fn events_waiting(&self) -> usize {
        self.0.journal.queue.get().map_or(0, |queue| queue.max_capacity() - queue.capacity())
    }

    fn queue(&self) -> &mpsc::Sender<Note> {
        let journal = &self.0.journal;
        journal.queue.get_or_init(|| {
            let (sender, receiver) = mpsc::channel(QUEUE);
            let writer = Journalist {
                db: self.db().clone(),
                queue: receiver,
                hurry: Arc::clone(&journal.hurry),
                over: journal.over.subscribe(),
                folding: (self.0.options.pull_events == PullEvents::Minute).then(Folding::default),
            };
            tokio::spawn(writer.run());
            sender
        })
    }
}

/// Tells the log of the process what is in no chain.
fn log_lost(note: &Note) {
    let Note::Event(event) = note else { return };
    log_lost_event(event);
}

fn log_lost_event(event: &NewEvent) {
    let text = serde_json::to_string(event).unwrap_or_default();
    tracing::error!(audit.event = text, "an audit event could not be written");
}

/// The queue's other end.
struct Journalist {
    db: Db,
    queue: mpsc::Receiver<Note>,
    hurry: Arc<Notify>,
    over: watch::Receiver<bool>,
    /// Pulls that are told together, where they are.
    folding: Option<Folding>,
}

impl Journalist {
    /// Writes batches until the queue's senders are gone and it is empty.
    async fn run(mut self) {
        let mut notes = Vec::with_capacity(BATCH);
        while self.gather(&mut notes).await {
            let mut waiting = Vec::new();
            let mut events = Vec::with_capacity(notes.len());
            for note in notes.drain(..) {
                match note {
                    Note::Event(event) => events.extend(match &mut self.folding {
                        Some(folding) => folding.take(*event),
                        None => Some(*event),
                    }),
                    Note::Settle(done) => waiting.push(done),
                }
            }
            if let Some(folding) = &mut self.folding
                && (!waiting.is_empty() || folding.due().is_some_and(|due| due <= Instant::now()))
            {
                events.extend(folding.drain());
            }
            if !events.is_empty() {
                write(&self.db, by_org(events), &mut self.over).await;
            }
            for done in waiting {
                let _ = done.send(());
            }
        }
        if let Some(mut folding) = self.folding {
            write(&self.db, by_org(folding.drain()), &mut self.over).await;
        }
    }

    /// Waits for what is to be written next: nothing, where counted pulls are due. False at the end.
    async fn gather(&mut self, notes: &mut Vec<Note>) -> bool {
        let due = self.folding.as_ref().and_then(Folding::due);
        let first = async {
            match due {
                Some(due) => timeout_at(due, self.queue.recv_many(notes, BATCH)).await,
                None => Ok(self.queue.recv_many(notes, BATCH).await),
            }
        };
        match first.await {
            Ok(0) => return false,
            Ok(_) => {}
            Err(_) => return true,
        }
        let deadline = Instant::now() + GATHER;
        // Whoever waits for the end waits for no one else.
        while notes.len() < ENOUGH
            && Instant::now() < deadline
            && !notes.iter().any(|note| matches!(note, Note::Settle(_)))
        {
            tokio::select! {
                () = sleep(LOOK) => {}
                () = self.hurry.notified() => {}
            }
            if self.queue.is_empty() {
                continue;
            }
            let room = BATCH - notes.len();
            self.queue.recv_many(notes, room).await;
        }
        true
    }
}

/// Batches of several organizations lock their chains in the order of the ids, as everybody does.
fn by_org(events: Vec<NewEvent>) -> BTreeMap<String, Vec<NewEvent>> {
    let mut batches: BTreeMap<String, Vec<NewEvent>> = BTreeMap::new();
    for event in events {
        batches.entry(event.org_id.clone()).or_default().push(event);
    }
    batches
}

/// Writes a batch in one transaction, or event by event where the database refuses one of them; what is not written once
/// it is over goes to the log of the process.
async fn write(db: &Db, batch: BTreeMap<String, Vec<NewEvent>>, over: &mut watch::Receiver<bool>) {
    match until(over, write_batch(db, &batch)).await {
        Some(Written::All) => return,
        Some(Written::Refused(error)) => {
            tracing::error!(%error, "a batch of audit events cannot be written; trying them one by one");
        }
        None => {}
    }
    for event in batch.into_values().flatten() {
        let one = by_org(vec![event.clone()]);
        match until(over, write_batch(db, &one)).await {
            Some(Written::All) => {}
            // The database will never take this one: it must not keep the others out.
            Some(Written::Refused(_)) | None => log_lost_event(&event),
        }
    }
}

/// What came of a batch.
enum Written {
    All,
    /// It is wrong in itself.
    Refused(storage::Error),
}

/// Writes a batch in one transaction, again and again until that worked or cannot work. Where it is not known whether a commit
/// took place the batch is written again: better twice than never.
async fn write_batch(db: &Db, batch: &BTreeMap<String, Vec<NewEvent>>) -> Written {
    let mut pause = RETRY.0;
    loop {
        match try_write(db, batch).await {
            Ok(()) => return Written::All,
            Err(error @ storage::Error::Database(_)) => return Written::Refused(error),
            Err(error) => tracing::error!(%error, "audit events cannot be written at this moment; trying again"),
        }
        sleep(pause).await;
        pause = (pause * 2).min(RETRY.1);
    }
}

/// What comes of something, unless it is over before.
async fn until<T>(over: &mut watch::Receiver<bool>, done: impl Future<Output = T>) -> Option<T> {
    let over = async {
        // Whoever could say so is gone: then nothing ends what is left but itself.
        if over.wait_for(|over| *over).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        biased;
        () = over => None,
        done = done => Some(done),
    }
}

async fn try_write(db: &Db, batch: &BTreeMap<String, Vec<NewEvent>>) -> storage::Result<()> {
    let mut tx = db.begin().await?;
    // Before the chains, which come last in every transaction.
    let pulled: Vec<Pull<'_>> = batch.values().flatten().filter_map(pull_of).collect();
    pulls::note(&mut tx, &pulled).await?;
    activity::count_pulls(&mut tx, &pulled).await?;
    for events in batch.values() {
        append_all(&mut tx, events).await?;
    }
    tx.commit().await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use storage::audit::{self, Direction, Event, Filter};
    use storage::repositories;

    use super::{BATCH, NewEvent, QUEUE, STRANGERS, pull_of};
    use crate::audit::{Caller, Entry, Outcome, PullEvents};
    use crate::core::testing::{self, Testing};

    async fn events(t: &Testing, org_id: &str, action: &str) -> Vec<Event> {
        let mut session = t.db.read().await.unwrap();
        let filter = Filter { action, ..Filter::default() };
        audit::list(&mut session, org_id, &filter, Direction::Oldest, None, 500).await.unwrap().events
    }

    /// Somebody holds an organization's chain: as long as this lasts nothing can be written.
    async fn held(t: &Testing, org_id: &str) -> storage::Tx {
        let mut tx = t.db.begin().await.unwrap();
        audit::append(&mut tx, NewEvent { org_id: org_id.to_owned(), ..Default::default() }).await.unwrap();
        tx
    }

    #[tokio::test]
    async fn what_is_noted_is_in_the_chain_within_a_fifth_of_a_second() {
        let t = testing::identity().await;
        let org = t.org("main").await;
        let entry = Entry { org_id: &org, action: "image.pull", target: "main/app:v1", ..Entry::default() };
        t.identity.note(&Caller::server(), &entry).await.unwrap();
        let begun = std::time::Instant::now();
        while events(&t, &org, "image.pull").await.is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(5));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let checked = audit::check::check(&t.db, &org).await.unwrap();
        assert!(checked.flaw.is_none() && checked.events > 0);
    }

    #[tokio::test]
    async fn a_pull_is_the_last_of_its_image_and_repository() {
        let t = testing::identity().await;
        let org = t.org("main").await;
        let name = "main/app".parse().unwrap();
        let mut tx = t.db.begin().await.unwrap();
        let project = storage::projects::find_by_slug(&mut tx, &org, "defaultproject").await.unwrap().unwrap();
        let repository = repositories::ensure(&mut tx, &org, &project.id, &name, 1).await.unwrap();
        tx.commit().await.unwrap();
        for (target, digest) in [("main/app:v1", "sha256:a"), ("main/app@sha256:b", "sha256:b"), ("main/gone:v1", "x")]
        {
            let detail = serde_json::json!({ "digest": digest });
            let entry = Entry { org_id: &org, action: "image.pull", target, detail, ..Entry::default() };
            t.identity.note(&Caller::server(), &entry).await.unwrap();
        }
        let refused = Entry {
            org_id: &org,
            action: "image.pull",
            target: "main/app:v1",
            outcome: Outcome::Denied,
            detail: serde_json::json!({"digest": "sha256:c"}),
            ..Entry::default()
        };
        t.identity.note(&Caller::server(), &refused).await.unwrap();
        t.identity.settle().await;
        let mut session = t.db.read().await.unwrap();
        let of = [repository.id.as_str()];
        let summary = repositories::summaries(&mut session, of.into_iter()).await.unwrap().remove(of[0]).unwrap();
        assert_eq!((summary.pulled_at, summary.pulled_by.as_deref()), (Some(t.identity.now()), Some("server")));
    }

    #[tokio::test]
    async fn a_full_queue_makes_callers_wait_and_nothing_is_lost() {
        let t = testing::identity().await;
        let org = t.org("main").await;
        let tx = held(&t, &org).await;
        let all = QUEUE + BATCH + 10;
        let (identity, id) = (t.identity.clone(), org.clone());
        let noting = tokio::spawn(async move {
            for n in 0..all {
                let target = n.to_string();
                let entry = Entry { org_id: &id, action: "image.pull", target: &target, ..Entry::default() };
                identity.note(&Caller::server(), &entry).await.unwrap();
            }
        });
        tokio::time::sleep(Duration::from_millis(400)).await;
        assert!(!noting.is_finished(), "the queue has no room for so many");
        drop(tx);
        noting.await.unwrap();
        assert!(t.identity.close_journal(Duration::from_secs(30)).await);
        let targets: Vec<String> = events(&t, &org, "image.pull").await.into_iter().map(|e| e.event.target).collect();
        assert_eq!(targets, (0..all).map(|n| n.to_string()).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn where_there_is_no_room_for_long_nothing_is_given_out() {
        let t = testing::identity().await;
        let org = t.org("main").await;
        let tx = held(&t, &org).await;
        let entry = Entry { org_id: &org, action: "image.pull", target: "main/app:v1", ..Entry::default() };
        let mut noted = 0;
        let refused = loop {
            match t.identity.note(&Caller::server(), &entry).await {
                Ok(()) => noted += 1,
                Err(error) => break error,
            }
            assert!(noted < 1000, "nothing bounds what waits");
        };
        assert!(matches!(refused, storage::Error::Busy(_)), "{refused}");
        // What is denied stays denied, and does not wait for ever either.
        t.identity.note_refused(&Caller::server(), &entry).await;
        drop(tx);
        t.identity.settle().await;
        assert!(noted >= QUEUE);
        assert_eq!(events(&t, &org, "image.pull").await.len(), noted);
    }

    #[tokio::test]
    async fn an_end_is_not_put_off_for_ever() {
        let t = testing::identity().await;
        let org = t.org("main").await;
        assert!(t.identity.close_journal(Duration::from_millis(1)).await, "there was nothing to write");
        let tx = held(&t, &org).await;
        for _ in 0..QUEUE {
            let entry = Entry { org_id: &org, action: "image.pull", ..Entry::default() };
            t.identity.note(&Caller::server(), &entry).await.unwrap();
        }
        assert!(!t.identity.close_journal(Duration::from_millis(200)).await);
        assert_eq!(t.identity.events_waiting(), 0, "what the database did not take went to the log");
        drop(tx);
        assert!(t.identity.close_journal(Duration::from_secs(30)).await);
    }

    #[tokio::test]
    async fn an_event_that_no_database_takes_does_not_keep_the_others_out() {
        let t = testing::identity().await;
        let org = t.org("main").await;
        for target in ["a", "b"] {
            // `PostgreSQL` takes no NUL; where a database does, it is just another event.
            let action = if target == "a" { "image.\0" } else { "image.pull" };
            t.identity
                .note(&Caller::server(), &Entry { org_id: &org, action, target, ..Entry::default() })
                .await
                .unwrap();
        }
        t.identity.settle().await;
        assert_eq!(events(&t, &org, "image.pull").await.len(), 1);
    }

    #[tokio::test]
    async fn pulls_of_a_minute_are_told_together_where_an_operator_wants_it() {
        let mut t = testing::identity().await;
        t.options.pull_events = PullEvents::Minute;
        let identity = t.another_process().await;
        let org = t.org("main").await;
        let pull = |target: &'static str, digest: &str| Entry {
            org_id: &org,
            action: "image.pull",
            target,
            detail: serde_json::json!({ "digest": digest }),
            ..Entry::default()
        };
        for _ in 0..5 {
            identity.note(&Caller::server(), &pull("main/app:v1", "sha256:a")).await.unwrap();
        }
        identity.note(&Caller::server(), &pull("main/app:v2", "sha256:a")).await.unwrap();
        let other = Entry { org_id: &org, action: "token.grant", ..Entry::default() };
        identity.note(&Caller::server(), &other).await.unwrap();
        identity.note(&Caller::server(), &other).await.unwrap();
        identity.settle().await;
        assert_eq!(events(&t, &org, "token.grant").await.len(), 2);
        let told = events(&t, &org, "image.pull").await;
        let mut told: Vec<_> = told.iter().map(|e| (e.event.target.as_str(), e.event.detail.as_str())).collect();
        told.sort_unstable();
        assert_eq!(
            told,
            [("main/app:v1", "{\"digest\":\"sha256:a\",\"pulls\":5}"), ("main/app:v2", "{\"digest\":\"sha256:a\"}")]
        );
        assert_eq!(told.len(), 2);
        // Without anybody asking, they are written when their time is over.
        identity.note(&Caller::server(), &pull("main/app:v3", "sha256:b")).await.unwrap();
        let begun = std::time::Instant::now();
        while events(&t, &org, "image.pull").await.len() < 3 {
            assert!(begun.elapsed() < Duration::from_secs(20));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    #[test]
    fn counted_pulls_count_as_many() {
        let event = |detail: &str| NewEvent {
            action: "image.pull".into(),
            outcome: "ok".into(),
            target: "main/app:v1".into(),
            detail: detail.into(),
            at_ms: 5_000,
            ..NewEvent::default()
        };
        let several = event("{\"digest\":\"sha256:a\",\"pulls\":5}");
        let counted = pull_of(&several).unwrap();
        assert_eq!((counted.repository, counted.at, counted.count), ("main/app", 5, 5));
        assert_eq!(pull_of(&event("{\"digest\":\"sha256:a\"}")).unwrap().count, 1);
        assert!(pull_of(&event("")).is_none());
    }

    #[tokio::test]
    async fn a_denial_at_a_path_of_any_length_is_in_the_chain() {
        let t = testing::identity().await;
        let member = t.add("new@example.com").await;
        let member = Caller::of(t.identity.principal(&member, None).await.unwrap().unwrap());
        // Nothing that a database could make shorter: an index takes no more than some.
        let long: String = (0..400_u64).map(|n| format!("{:x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
        let entry = Entry { action: "access.denied", target: &long, project: &long, reason: &long, ..Entry::default() };
        t.identity.note_denial(&member, "main", &entry).await;
        t.identity.settle().await;
        let told = events(&t, &t.org("main").await, "access.denied").await;
        assert_eq!((told.len(), told[0].event.project.as_str()), (1, &long[..super::super::MAX_TEXT]));
    }

    #[tokio::test]
    async fn strangers_go_to_the_platforms_chain_and_cannot_fill_it() {
        let t = testing::identity().await;
        let member = t.add("new@example.com").await;
        let member = Caller::of(t.identity.principal(&member, None).await.unwrap().unwrap());
        let entry = Entry { action: "access.denied", target: "x", ..Entry::default() };
        t.identity.note_denial(&member, "main", &entry).await;
        t.identity.note_denial(&member, "nowhere", &entry).await;
        for _ in 0..STRANGERS + 20 {
            t.identity.note_denial(&Caller::server(), "main", &entry).await;
        }
        t.advance(60);
        t.identity.note_denial(&Caller::server(), "main", &entry).await;
        tokio::task::yield_now().await;
        t.identity.settle().await;
        assert_eq!(events(&t, &t.org("main").await, "access.denied").await.len(), 1);
        let platform = events(&t, "", "access.denied").await;
        assert_eq!(platform.len() as u64, STRANGERS + 2);
        assert_eq!(platform.iter().filter(|e| e.event.detail == "{\"events\":21}").count(), 1);
        assert!(platform.iter().all(|e| e.event.outcome == "denied"));
    }
}
