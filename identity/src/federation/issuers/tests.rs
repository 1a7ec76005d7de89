#![allow(clippy::unwrap_used)]
use super::*;
use crate::federation::testing::{Key, Publisher};

const NOW: i64 = 1_800_000_000;

#[tokio::test]
async fn many_who_ask_at_once_cost_one_fetch_and_keys_are_kept() {
    let publisher = Publisher::of(Key::new("k1").set()).await;
    let issuers = Arc::new(Issuers::new(true));
    let asking = (0..20).map(|_| {
        let (issuers, url) = (Arc::clone(&issuers), publisher.url.clone());
        tokio::spawn(async move { issuers.keys(&url, "k1", NOW).await.unwrap().has("k1") })
    });
    for one in asking.collect::<Vec<_>>() {
        assert!(one.await.unwrap());
    }
    assert_eq!(publisher.asked(), 2);
    issuers.keys(&publisher.url, "k1", NOW + 299).await.unwrap();
    assert_eq!(publisher.asked(), 2);
    issuers.keys(&publisher.url, "k1", NOW + 300).await.unwrap();
    assert_eq!(publisher.asked(), 4);
}

#[tokio::test]
async fn unknown_keys_make_us_ask_once_a_minute() {
    let publisher = Publisher::of(Key::new("k1").set()).await;
    let issuers = Issuers::new(true);
    issuers.keys(&publisher.url, "k1", NOW).await.unwrap();
    for i in 0..100 {
        let keys = issuers.keys(&publisher.url, &format!("made-up-{i}"), NOW + 1 + i / 2).await.unwrap();
        assert!(!keys.has("made-up-0"));
    }
    assert_eq!(publisher.asked(), 2);
    issuers.keys(&publisher.url, "rotated", NOW + 61).await.unwrap();
    assert_eq!(publisher.asked(), 4);
}

#[tokio::test]
async fn an_issuer_that_is_down_is_believed_for_an_hour_and_tried_every_ten_seconds() {
    let publisher = Publisher::of(Key::new("k1").set()).await;
    let issuers = Issuers::new(true);
    let url = publisher.url.clone();
    issuers.keys(&url, "k1", NOW).await.unwrap();
    publisher.stop().await;
    assert!(issuers.keys(&url, "k1", NOW + 301).await.unwrap().has("k1"));
    assert!(issuers.keys(&url, "k1", NOW + 300 + STALE - 1).await.unwrap().has("k1"));
    let gone = issuers.keys(&url, "k1", NOW + 300 + STALE).await.unwrap_err();
    assert_eq!(gone, Refusal::Keys(FetchError::Unreachable));
    // An issuer that was never reached.
    let again = issuers.keys(&url, "k1", NOW + 300 + STALE + 1).await.unwrap_err();
    assert_eq!(again, Refusal::Keys(FetchError::Unreachable));
}
