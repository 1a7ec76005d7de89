//! Tags, referrers and the catalog, page by page.

use super::world::{INDEX, OCI, World, sha256};

async fn tagged(w: &World, tags: &[&str]) {
    let manifest = w.image("acme/app", &[]).await;
    for tag in tags {
        assert_eq!(w.put(&format!("/v2/acme/app/manifests/{tag}")).manifest(&manifest).send().await.status, 201);
    }
}

#[tokio::test]
async fn a_tag_that_is_a_prefix_of_another_is_listed_across_pages() {
    let w = World::new().await;
    tagged(&w, &["v1", "v1.0", "v10", "V1", "v1-a", "_x"]).await;
    let mut seen = Vec::new();
    let mut path = "/v2/acme/app/tags/list?n=2".to_owned();
    loop {
        let reply = w.get(&path).send().await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.json()["name"], "acme/app");
        seen.extend(reply.json()["tags"].as_array().unwrap().iter().map(|t| t.as_str().unwrap().to_owned()));
        let link = reply.header("link");
        let Some(next) = link.strip_prefix('<').and_then(|l| l.split_once(">; rel=\"next\"")) else { break };
        path = next.0.to_owned();
    }
    assert_eq!(seen, ["V1", "_x", "v1", "v1-a", "v1.0", "v10"]);
}

#[tokio::test]
async fn odd_pages_are_empty_lists_or_clear_refusals() {
    let w = World::new().await;
    tagged(&w, &["a", "b"]).await;
    let list = |query: &str| w.get(&format!("/v2/acme/app/tags/list?{query}"));
    let none = list("n=0").send().await;
    assert_eq!((none.status, none.json()["tags"].to_string().as_str(), none.header("link").as_str()), (200, "[]", ""));
    let after = list("last=zzz").send().await;
    assert_eq!((after.status, after.json()["tags"].to_string()), (200, "[]".into()));
    // A tag that never was is a place in the order like any other.
    assert_eq!(list("last=a-never").send().await.json()["tags"].to_string(), r#"["b"]"#);
    assert_eq!(list("n=99999999999999999999").send().await.json()["tags"].to_string(), r#"["a","b"]"#);
    for bad in ["n=-1", "n=many", "n=1.5"] {
        assert_eq!(list(bad).send().await.status, 400, "{bad}");
    }
    let missing = w.get("/v2/acme/never/tags/list").send().await;
    assert_eq!((missing.status, missing.code()), (404, "NAME_UNKNOWN".into()));
    w.delete("/v2/acme/app/manifests/a").send().await;
    w.delete("/v2/acme/app/manifests/b").send().await;
    assert_eq!(list("").send().await.json()["tags"].to_string(), "[]");
}

fn about(subject: &str, kind: &str, n: u32) -> String {
    let empty = sha256(b"{}");
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI}","artifactType":"{kind}","config":{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{empty}","size":2}},"layers":[],"subject":{{"mediaType":"{OCI}","digest":"{subject}","size":1}},"annotations":{{"n":"{n}"}}}}"#
    )
}

#[tokio::test]
async fn referrers_are_listed_filtered_and_paged() {
    let w = World::new().await;
    let subject = sha256(b"some image");
    let path = format!("/v2/acme/app/referrers/{subject}");
    let none = w.get(&path).send().await;
    assert_eq!((none.status, none.header("content-type").as_str()), (200, INDEX));
    assert_eq!((none.json()["schemaVersion"].as_u64(), none.json()["manifests"].to_string()), (Some(2), "[]".into()));
    w.push_blob("acme/app", b"{}").await;
    for n in 0..5 {
        let kind = if n % 2 == 0 { "a/sbom" } else { "a/signature" };
        let manifest = about(&subject, kind, n);
        let put = w.put(&format!("/v2/acme/app/manifests/{}", sha256(manifest.as_bytes()))).manifest(&manifest);
        assert_eq!(put.send().await.header("oci-subject"), subject);
    }
    let all = w.get(&path).send().await.json();
    assert_eq!(all["manifests"].as_array().unwrap().len(), 5);
    assert_eq!(all["manifests"][0]["mediaType"], OCI);
    assert!(all["manifests"][0]["annotations"]["n"].is_string());
    let filtered = w.get(&format!("{path}?artifactType=a/sbom")).send().await;
    assert_eq!(filtered.json()["manifests"].as_array().unwrap().len(), 3);
    assert_eq!(filtered.header("oci-filters-applied"), "artifactType");
    let mut seen = 0;
    let mut next = format!("{path}?artifactType=a/sbom&n=2");
    loop {
        let reply = w.get(&next).send().await;
        seen += reply.json()["manifests"].as_array().unwrap().len();
        match reply.header("link").strip_prefix('<').and_then(|l| l.split_once('>')) {
            Some((url, _)) => next = url.to_owned(),
            None => break,
        }
    }
    assert_eq!(seen, 3);
    // Gone with the manifest, at once.
    let first = all["manifests"][0]["digest"].as_str().unwrap();
    w.delete(&format!("/v2/acme/app/manifests/{first}")).send().await;
    assert_eq!(w.get(&path).send().await.json()["manifests"].as_array().unwrap().len(), 4);
    assert_eq!(w.get("/v2/acme/app/referrers/sha256:bad").send().await.status, 400);
    assert_eq!(w.get(&format!("/v2/acme/never/referrers/{subject}")).send().await.status, 200);
}

/// Pushes manifests about one subject, of these artifact types and with an annotation of so many bytes; the list's path.
async fn push_about(w: &World, kinds: &[&str], annotation: usize) -> String {
    let subject = sha256(b"some image");
    w.push_blob("acme/app", b"{}").await;
    for kind in kinds {
        let mut manifest: serde_json::Value = serde_json::from_str(&about(&subject, "", 0)).unwrap();
        manifest["artifactType"] = (*kind).into();
        manifest["annotations"]["n"] = "\n\"".repeat(annotation / 2).into();
        let manifest = manifest.to_string();
        let put = w.put(&format!("/v2/acme/app/manifests/{}", sha256(manifest.as_bytes()))).manifest(&manifest);
        assert_eq!(put.send().await.status, 201);
    }
    format!("/v2/acme/app/referrers/{subject}")
}

#[tokio::test]
async fn referrers_of_any_texts_are_json() {
    let w = World::new().await;
    let mut kinds = ["a/\"quoted\"", "back\\slash", "two\nlines\r\n", "{\"digest\":\"", "é\u{2028}\u{7f}\u{1}%s"];
    let path = push_about(&w, &kinds, 20).await;
    let list = w.get(&path).send().await.json();
    let mut listed: Vec<_> =
        list["manifests"].as_array().unwrap().iter().map(|m| m["artifactType"].as_str().unwrap()).collect();
    listed.sort_unstable();
    kinds.sort_unstable();
    assert_eq!(listed, kinds);
    for entry in list["manifests"].as_array().unwrap() {
        assert_eq!(entry["annotations"]["n"], "\n\"".repeat(10));
        assert_eq!(entry["mediaType"], OCI);
        assert!(entry["size"].as_u64().unwrap() > 300);
    }
}

#[tokio::test]
async fn an_answer_of_referrers_has_at_most_as_many_bytes_as_clients_read() {
    let w = World::new().await;
    let kinds: Vec<String> = (0..100).map(|n| format!("a/b{n}")).collect();
    let kinds: Vec<&str> = kinds.iter().map(String::as_str).collect();
    // Twice as many bytes in JSON.
    let path = push_about(&w, &kinds, 30_000).await;
    let mut next = path;
    let (mut pages, mut seen) = (0, std::collections::BTreeSet::new());
    loop {
        let reply = w.get(&next).send().await;
        assert!(reply.body.len() <= 4_000_100, "{}", reply.body.len());
        pages += 1;
        for entry in reply.json()["manifests"].as_array().unwrap() {
            assert_eq!(entry["annotations"]["n"].as_str().unwrap().len(), 30_000);
            assert!(seen.insert(entry["digest"].as_str().unwrap().to_owned()), "listed twice");
        }
        match reply.header("link").strip_prefix('<').and_then(|l| l.split_once('>')) {
            Some((url, _)) => next = url.to_owned(),
            None => break,
        }
    }
    assert_eq!((pages, seen.len()), (2, 100));
}

#[tokio::test]
async fn what_clients_kept_under_the_referrers_tag_is_folded_in() {
    let w = World::new().await;
    let subject = sha256(b"some image");
    w.push_blob("acme/app", b"{}").await;
    let known = about(&subject, "a/sbom", 1);
    w.put(&format!("/v2/acme/app/manifests/{}", sha256(known.as_bytes()))).manifest(&known).send().await;
    let long_ago = w.image("acme/app", &[]).await;
    assert_eq!(w.put("/v2/acme/app/manifests/old").manifest(&long_ago).send().await.status, 201);
    let old = sha256(long_ago.as_bytes());
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{{"mediaType":"{OCI}","digest":"{old}","size":1,"artifactType":"a/old"}},{{"mediaType":"{OCI}","digest":"{}","size":1}},{{"mediaType":"{OCI}","digest":"{}","size":1}}]}}"#,
        sha256(known.as_bytes()),
        sha256(b"deleted since"),
    );
    let tag = subject.replace(':', "-");
    assert_eq!(w.put(&format!("/v2/acme/app/manifests/{tag}")).typed(INDEX, &index).send().await.status, 201);
    let list = w.get(&format!("/v2/acme/app/referrers/{subject}")).send().await.json();
    let manifests = list["manifests"].as_array().unwrap();
    assert_eq!(manifests.len(), 2);
    assert!(manifests.iter().any(|m| m["digest"] == old.as_str()));
    // The row knows better than the tag.
    assert!(manifests.iter().any(|m| m["artifactType"] == "a/sbom"));
    let filtered = w.get(&format!("/v2/acme/app/referrers/{subject}?artifactType=a/old")).send().await.json();
    assert_eq!(filtered["manifests"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn the_catalog_shows_what_the_caller_may_pull_page_by_page() {
    let w = World::new().await;
    for repo in ["acme/b", "acme/a", "acme/a-b", "acme/web/x"] {
        w.push_blob(repo, b"x").await;
    }
    let catalog = |query: &str| w.get(&format!("/v2/_catalog{query}"));
    let all = catalog("").send().await;
    assert_eq!(all.json()["repositories"].to_string(), r#"["acme/a","acme/a-b","acme/b","acme/web/x"]"#);
    let page = catalog("?n=1&last=acme/a").send().await;
    assert_eq!(page.json()["repositories"].to_string(), r#"["acme/a-b"]"#);
    assert!(page.header("link").contains("last=acme%2Fa-b"));
    assert_eq!(catalog("?n=0").send().await.json()["repositories"].to_string(), "[]");
}
