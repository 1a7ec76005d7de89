//! cosign with a local key and no transparency log: signatures and attestations, as tags of the
//! older scheme and as bundles found by the referrers API.

use crate::crane::{append, login};
use crate::desk::Desk;

/// The flags that keep cosign from calling services of the public.
const OFFLINE: [&str; 3] = ["--yes", "--tlog-upload=false", "--use-signing-config=false"];

#[test]
fn cosign_signs_attests_and_verifies_in_both_schemes() {
    let desk = Desk::new();
    login(&desk);
    desk.run("cosign", &["generate-key-pair"]);
    desk.write("predicate.json", "{\"builder\": \"journey\"}");
    for bundle in [false, true] {
        let name = if bundle { "bundled" } else { "tagged" };
        let digest = append(&desk, &desk.reference(&format!("{name}:v1")), name);
        let image = desk.reference(&format!("{name}@{digest}"));
        let scheme = format!("--new-bundle-format={bundle}");
        let verify = ["--key", "cosign.pub", "--insecure-ignore-tlog=true", &scheme];
        let unsigned = desk.fails("cosign", &[&["verify"], &verify[..], &[&image]].concat());
        assert!(unsigned.contains("no signatures found") || unsigned.contains("no matching"), "{unsigned}");
        desk.run("cosign", &[&["sign", "--key", "cosign.key", &scheme], &OFFLINE[..], &[&image]].concat());
        let verified = desk.run("cosign", &[&["verify"], &verify[..], &[&image]].concat());
        assert!(verified.contains(&digest), "{verified}");

        let predicate = ["--type", "custom", "--predicate", "predicate.json"];
        let attest = [&["attest", "--key", "cosign.key", &scheme], &OFFLINE[..], &predicate[..], &[&image]].concat();
        desk.run("cosign", &attest);
        desk.run("cosign", &[&["verify-attestation", "--type", "custom"], &verify[..], &[&image]].concat());

        let tags = desk.run("crane", &["ls", &desk.reference(name)]);
        let hex = digest.trim_start_matches("sha256:");
        if bundle {
            assert_eq!(tags, "v1\n", "bundles are found by the referrers API, not by a tag");
        } else {
            assert!(
                tags.contains(&format!("sha256-{hex}.sig")) && tags.contains(&format!("sha256-{hex}.att")),
                "{tags}"
            );
        }
    }
}
