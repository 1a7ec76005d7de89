//! Tag lists and the catalog: order, pages, and limits that make no sense.

use crate::support::http::Endpoint;
use crate::support::oci::{Image, fresh, path_of, put_manifest};
use crate::support::server::{ADMIN, ADMIN_PASSWORD, ORG};
use crate::support::{Call, Reply, Server, Setup, oci};

const REPOSITORY: &str = "main/listings";

fn tags(registry: &Endpoint, token: &str, query: &str) -> Reply {
    Call::get(format!("/v2/{REPOSITORY}/tags/list{query}")).bearer(token).send(registry)
}

fn names(reply: &Reply) -> Vec<String> {
    let list = reply.json()["tags"].as_array().unwrap_or_else(|| panic!("no array: {}", reply.text())).clone();
    list.iter().map(|tag| tag.as_str().unwrap().to_owned()).collect()
}

/// The path and query in `Link: <…>; rel="next"`.
fn next(reply: &Reply) -> Option<String> {
    let link = reply.header("link")?;
    assert!(link.contains("rel=\"next\""), "{link}");
    Some(path_of(&link[link.find('<')? + 1..link.find('>')?]))
}

fn push_tags(server: &Server, wanted: &[&str]) -> (Endpoint, String) {
    let (registry, token) = (server.registry(), server.admin_token(REPOSITORY));
    let image = Image::new(fresh(), 100);
    image.push(&registry, REPOSITORY, &token, wanted[0]);
    for tag in &wanted[1..] {
        put_manifest(&registry, REPOSITORY, &token, tag, oci::OCI_MANIFEST, &image.manifest).expect(201);
    }
    (registry, token)
}

#[test]
fn d01_a_tag_that_begins_another_is_on_some_page() {
    let server = Setup::plain().start();
    let wanted = ["1", "1.0", "1.0.0", "1.0.0-rc", "10", "A", "a", "a-b", "a.b", "a_b", "aa", "v1", "v10", "v2"];
    let (registry, token) = push_tags(&server, &wanted);
    let mut sorted: Vec<String> = wanted.iter().map(|tag| (*tag).to_owned()).collect();
    sorted.sort();
    assert_eq!(names(&tags(&registry, &token, "").expect(200)), sorted);
    for size in 1..=5 {
        let mut all = Vec::new();
        let mut target = Some(format!("/v2/{REPOSITORY}/tags/list?n={size}"));
        while let Some(path) = target {
            let page = Call::get(path).bearer(&token).send(&registry).expect(200);
            let found = names(&page);
            assert!(found.len() <= size);
            all.extend(found);
            target = next(&page);
        }
        assert_eq!(all, sorted, "in pages of {size}");
    }
}

#[test]
fn d02_empty_pages_are_arrays_and_n_may_be_anything() {
    let server = Setup::plain().start();
    let (registry, token) = push_tags(&server, &["a", "b"]);
    let none = tags(&registry, &token, "?n=0").expect(200);
    assert_eq!(names(&none), Vec::<String>::new());
    assert_eq!(next(&none), None);
    assert_eq!(names(&tags(&registry, &token, "?last=b").expect(200)), Vec::<String>::new());
    for huge in ["1000000", "4294967296", "99999999999999999999999999"] {
        let reply = tags(&registry, &token, &format!("?n={huge}"));
        assert!(matches!(reply.status, 200 | 400), "{huge}: {}", reply.status);
        if reply.status == 200 {
            assert_eq!(names(&reply), ["a", "b"]);
        }
    }
    for nonsense in ["-1", "x", "1e3", ""] {
        let reply = tags(&registry, &token, &format!("?n={nonsense}"));
        assert!(matches!(reply.status, 200 | 400), "{nonsense}: {}", reply.status);
    }
    let full = tags(&registry, &token, "?n=2").expect(200);
    assert_eq!(names(&full), ["a", "b"]);
    if let Some(rest) = next(&full) {
        assert_eq!(names(&Call::get(rest).bearer(&token).send(&registry).expect(200)), Vec::<String>::new());
    }
}

#[test]
fn d03_last_may_name_a_tag_that_never_was() {
    let server = Setup::plain().start();
    let (registry, token) = push_tags(&server, &["a", "c", "e"]);
    assert_eq!(names(&tags(&registry, &token, "?last=b").expect(200)), ["c", "e"]);
    Call::delete(format!("/v2/{REPOSITORY}/manifests/c")).bearer(&token).send(&registry).expect(202);
    assert_eq!(names(&tags(&registry, &token, "?last=c&n=1").expect(200)), ["e"]);
}

#[test]
fn tags_of_an_unknown_repository_are_a_404() {
    let server = Setup::plain().start();
    let token = server.admin_token("main/nowhere");
    let reply = Call::get("/v2/main/nowhere/tags/list").bearer(&token).send(&server.registry());
    reply.expect_error(404, "NAME_UNKNOWN");
}

#[test]
fn d01_the_catalog_is_ordered_and_paged() {
    let server = Setup::plain().start();
    let registry = server.registry();
    let wanted = ["a", "a-b", "a.b", "a/b", "a/b/c", "ab", "a0"].map(|name| format!("{ORG}/team/{name}"));
    server.api().create_project(ORG, "team", false);
    for name in &wanted {
        Image::new(fresh(), 10).push(&registry, name, &server.admin_token(name), "v1");
    }
    let token = server.token(ADMIN, ADMIN_PASSWORD, &["registry:catalog:*"]);
    let page = |target: &str| Call::get(target).bearer(&token).send(&registry).expect(200);
    let list = |reply: &Reply| -> Vec<String> {
        reply.json()["repositories"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
    };
    let mut sorted = wanted.to_vec();
    sorted.sort();
    assert_eq!(list(&page("/v2/_catalog")), sorted);
    let (mut all, mut target) = (Vec::new(), Some("/v2/_catalog?n=2".to_owned()));
    while let Some(path) = target {
        let reply = page(&path);
        all.extend(list(&reply));
        target = next(&reply);
    }
    assert_eq!(all, sorted);
    let nothing = page("/v2/_catalog?n=0");
    assert_eq!(list(&nothing), Vec::<String>::new());
    assert_eq!(next(&nothing), None);
}
