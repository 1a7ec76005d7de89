#![allow(clippy::unwrap_used)]
use super::{ClaimedMail, FactorChange, Mail, letter};
use crate::core::testing::{self, Testing};
use crate::secret::Secret;

const TO: &str = "o'brien+x&y@acme.example";
const URL: &str = "https://hub.example";
const EVIL: &str = "<b>Acme</b>\r\nBcc: all@evil.example\u{2028}\"&'";

/// Writes a mail and checks what holds for all of them.
fn written(mail: &Mail<'_>) -> letter::Parts {
    let parts = letter::write(mail, URL, TO).unwrap();
    assert!(!parts.subject.is_empty() && !parts.subject.chars().any(char::is_control), "{:?}", parts.subject);
    assert!(parts.text.contains(URL) && parts.html.contains(URL));
    assert!(parts.text.contains(TO) && parts.text.ends_with('\n'), "{}", parts.text);
    assert!(parts.html.contains("o&#39;brien+x&#38;y@acme.example"), "{}", parts.html);
    assert!(parts.html.starts_with("<!doctype html>") && parts.html.trim_end().ends_with("</html>"));
    for markup in ["<b>", "{{", "{%"] {
        assert!(!parts.html.contains(markup), "{markup} in {}", parts.html);
    }
    assert!(!parts.text.contains("{{") && !parts.text.lines().any(|line| line.starts_with("Bcc:")), "{}", parts.text);
    parts
}

fn both_say(parts: &letter::Parts, what: &str) {
    assert!(parts.text.contains(what), "{what} in {}", parts.text);
    assert!(parts.html.contains(what), "{what} in {}", parts.html);
}

#[test]
fn every_mail_says_what_it_is_about_in_text_and_in_escaped_html() {
    let secret = Secret::new("abcde-fghij");
    let until = 1_795_514_400;
    let parts = written(&Mail::Invitation { org: EVIL, password: &secret, until });
    both_say(&parts, "abcde-fghij");
    both_say(&parts, "https://hub.example/login");
    both_say(&parts, "2026-11-24 10:00 UTC");
    assert!(parts.html.contains("&#60;b&#62;Acme&#60;/b&#62;"), "{}", parts.html);
    assert!(parts.subject.starts_with("Invitation to <b>Acme</b>  Bcc: all@evil.example"), "{}", parts.subject);

    let parts = written(&Mail::Added { org: EVIL });
    assert!(parts.subject.starts_with("You were added to "));
    both_say(&parts, "https://hub.example/login");

    let parts = written(&Mail::Reset { token: &secret, until });
    both_say(&parts, "https://hub.example/password-reset#token=abcde-fghij");
    both_say(&parts, "2026-11-24 10:00 UTC");
    assert!(!parts.subject.contains("abcde"));

    let parts = written(&Mail::PasswordChanged { at: until });
    both_say(&parts, "2026-11-24 10:00 UTC");

    let parts = written(&Mail::KeyExpiring { org: "Acme", user: "ci", name: EVIL, id: "c0ffee", until });
    both_say(&parts, "c0ffee");
    both_say(&parts, "2026-11-24 10:00 UTC");
    assert!(parts.subject.chars().count() <= 150);

    let parts = written(&Mail::KeyMade { org: EVIL, by: "ann@acme.example", name: EVIL, id: "c0ffee" });
    both_say(&parts, "c0ffee");
    both_say(&parts, "ann@acme.example");

    for (change, what) in [
        (FactorChange::AppAdded, "authenticator app was added"),
        (FactorChange::AppRemoved, "authenticator app was removed"),
        (FactorChange::PasskeyAdded(EVIL), "was added"),
        (FactorChange::PasskeyRemoved { id: "c0ffee", name: EVIL }, "was removed"),
        (FactorChange::CodesRenewed, "ecovery codes were made"),
    ] {
        let parts = written(&Mail::Factor { change, at: until, from: "192.0.2.7" });
        both_say(&parts, what);
        both_say(&parts, "2026-11-24 10:00 UTC");
        both_say(&parts, "192.0.2.7");
        both_say(&parts, "https://hub.example/password-reset");
    }

    let parts = written(&Mail::MfaReset { org: Some(EVIL), by: "boss@acme.example", at: until });
    both_say(&parts, "second factor");
    both_say(&parts, "boss@acme.example, an administrator of");
    both_say(&parts, "2026-11-24 10:00 UTC");
    both_say(&written(&Mail::MfaReset { org: None, by: "server", at: until }), "Whoever runs this server");

    let parts = written(&Mail::Locked { until });
    both_say(&parts, "2026-11-24 10:00 UTC");
}

#[test]
fn a_subject_has_an_end() {
    let parts = letter::write(&Mail::Added { org: &"ü".repeat(500) }, URL, TO).unwrap();
    assert_eq!(parts.subject.chars().count(), 150);
}

async fn enqueue(t: &Testing, to: &str, mail: &Mail<'_>) {
    let mut tx = t.db.begin().await.unwrap();
    t.identity.enqueue_mail(&mut tx, to, None, mail).await.unwrap();
    tx.commit().await.unwrap();
}

async fn claim(t: &Testing) -> Vec<ClaimedMail> {
    t.identity.claim_mails(10).await.unwrap()
}

#[tokio::test]
async fn a_mail_waits_sealed_and_goes_out_once() {
    let t = testing::identity().await;
    let secret = Secret::new("abcde-fghij");
    enqueue(&t, "ann@acme.example", &Mail::Invitation { org: "Acme", password: &secret, until: 9 }).await;
    enqueue(&t, "ci:0123", &Mail::Added { org: "Acme" }).await;
    let mails = claim(&t).await;
    assert_eq!(mails.len(), 1, "a machine has no address");
    assert_eq!((mails[0].letter.to.as_str(), mails[0].kind.as_str()), ("ann@acme.example", "invitation"));
    assert!(mails[0].letter.text.contains("abcde-fghij") && !format!("{mails:?}").contains("abcde"));
    assert!(claim(&t).await.is_empty(), "it is somebody's already");
    assert!(t.another_process().await.claim_mails(10).await.unwrap().is_empty());
    t.advance(300);
    let again = claim(&t).await;
    assert_eq!((again[0].id.as_str(), again[0].attempts), (mails[0].id.as_str(), 2), "whoever had it died");
    t.identity.mail_delivered(&again[0].id).await.unwrap();
    t.advance(9999);
    assert!(claim(&t).await.is_empty());
}

#[tokio::test]
async fn a_mail_that_was_not_committed_does_not_go_out() {
    let t = testing::identity().await;
    let mut tx = t.db.begin().await.unwrap();
    t.identity.enqueue_mail(&mut tx, "ann@acme.example", None, &Mail::Added { org: "Acme" }).await.unwrap();
    drop(tx);
    assert!(claim(&t).await.is_empty());
}

#[tokio::test]
async fn what_does_not_get_through_is_tried_for_three_days_in_growing_pauses() {
    let t = testing::identity().await;
    enqueue(&t, "ann@acme.example", &Mail::Added { org: "Acme" }).await;
    let (mut tries, mut waited) = (0, 0);
    loop {
        let Some(mail) = claim(&t).await.pop() else {
            t.advance(15);
            waited += 15;
            continue;
        };
        tries += 1;
        if !t.identity.mail_failed(&mail, "451 later\r\n", false).await.unwrap() {
            break;
        }
    }
    assert!((70..90).contains(&tries), "{tries}");
    assert!((70 * 3600..72 * 3600).contains(&waited), "{waited}");

    enqueue(&t, "gone@acme.example", &Mail::Added { org: "Acme" }).await;
    let mail = claim(&t).await.pop().unwrap();
    assert!(!t.identity.mail_failed(&mail, "550 no such user", true).await.unwrap());
    t.advance(7 * 86_400);
    assert!(claim(&t).await.is_empty());
}
