//! Where our answers differ from the peers' that the traces were taken from, and why.
//! An entry that no trace needs any more fails the replay.

/// One justified difference.
#[derive(Debug)]
pub(super) struct Difference {
    /// The trace, or the beginning of its name.
    pub(super) trace: &'static str,
    pub(super) method: &'static str,
    /// A part of the request's target.
    pub(super) target: &'static str,
    /// `status`, or the name of a header.
    pub(super) field: &'static str,
    /// What the trace says.
    pub(super) theirs: &'static str,
    /// What we say.
    pub(super) ours: &'static str,
    pub(super) why: &'static str,
}

const fn status(
    trace: &'static str,
    method: &'static str,
    target: &'static str,
    theirs: &'static str,
    ours: &'static str,
    why: &'static str,
) -> Difference {
    Difference { trace, method, target, field: "status", theirs, ours, why }
}

pub(super) const DIFFERENCES: &[Difference] = &[
    status(
        "ctr-pull-post404",
        "POST",
        "/token",
        "404",
        "200",
        "that token service had no OAuth2 door; ours has one, so the client's way around it is not needed",
    ),
    status(
        "crane-delete",
        "DELETE",
        "/manifests/v1",
        "400",
        "202",
        "that registry could not delete tags; end-9 asks for 202",
    ),
    status(
        "oras-discover-noref",
        "GET",
        "/referrers/",
        "404",
        "200",
        "that registry had no referrers API; end-12 forbids the 404",
    ),
    status(
        "skopeo-delete",
        "GET",
        "/manifests/v",
        "401",
        "200",
        "that token service did not understand `*`; ours grants all that the user may do, so the client's retry is not needed",
    ),
    status("skopeo-delete", "DELETE", "/manifests/", "401", "202", "as above: `*` covers delete"),
    status(
        "skopeo-delete",
        "DELETE",
        "/manifests/",
        "202",
        "404",
        "the client's retry of a delete that has been done by now",
    ),
    status(
        "regctl-repo-ls",
        "GET",
        "/v2/_catalog",
        "404",
        "200",
        "that registry has no catalog; ours lists what the caller may see",
    ),
];
