//! What is attached to an image, as the tools write it: signatures of cosign, a provenance, and lists of packages in both forms.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

/// Of a real key: for ann@example.com, logged in by `https://accounts.example`, as Sigstore's authority writes them.
const CERTIFICATE: &str = include_str!("../../controller/src/manifests/contents/keyless.pem");

/// What an image of Debian comes with: name, version, licence.
const DEBIAN: [(&str, &str, &str); 12] = [
    ("base-files", "12.4+deb12u9", "GPL-2.0-or-later"),
    ("ca-certificates", "20230311", "GPL-2.0-or-later AND MPL-2.0"),
    ("dash", "0.5.12-2", "BSD-3-Clause"),
    ("gcc-12-base", "12.2.0-14", "GPL-3.0-or-later WITH GCC-exception-3.1"),
    ("libc6", "2.36-9+deb12u9", "LGPL-2.1-or-later"),
    ("libgcc-s1", "12.2.0-14", "GPL-3.0-or-later WITH GCC-exception-3.1"),
    ("libssl3", "3.0.15-1~deb12u1", "Apache-2.0"),
    ("libstdc++6", "12.2.0-14", "GPL-3.0-or-later WITH GCC-exception-3.1"),
    ("netbase", "6.4", "GPL-2.0-only"),
    ("openssl", "3.0.15-1~deb12u1", "Apache-2.0"),
    ("tzdata", "2024b-0+deb12u1", "NOASSERTION"),
    ("zlib1g", "1:1.2.13.dfsg-1", "Zlib"),
];

/// A manifest's layer, and what the manifest says of itself.
pub(super) struct Attached {
    /// Under which name its screen is asked for.
    pub(super) screen: &'static str,
    /// The manifest's type.
    pub(super) kind: &'static str,
    /// The layer's type.
    pub(super) layer: &'static str,
    /// What is said of the layer beside it.
    pub(super) annotations: Value,
    /// The layer.
    pub(super) text: String,
}

/// All that is attached to the image of a name and a digest.
pub(super) fn to(name: &str, digest: &str) -> [Attached; 6] {
    let (cosign, signing) =
        ("application/vnd.dev.cosign.artifact.sig.v1+json", "application/vnd.dev.cosign.simplesigning.v1+json");
    let signature = json!({"dev.cosignproject.cosign/signature": "MEUCIQDc2lnbmVkIGJ5IGFubg=="});
    let mut keyless = signature.clone();
    keyless["dev.sigstore.cosign/certificate"] = json!(CERTIFICATE);
    keyless["dev.sigstore.cosign/bundle"] = json!("{\"SignedEntryTimestamp\": \"MEQC\"}");
    let envelope = "application/vnd.dsse.envelope.v1+json";
    let built = json!({"predicateType": "https://slsa.dev/provenance/v1"});
    let (spdx_type, cyclonedx_type) = ("application/spdx+json", "application/vnd.cyclonedx+json");
    let one = |screen, kind, layer, annotations, text: String| Attached { screen, kind, layer, annotations, text };
    [
        one("says-signature", cosign, signing, signature, signed(name, digest).to_string()),
        one("says-keyless", cosign, signing, keyless, signed(name, digest).to_string()),
        one("says-provenance", "application/vnd.in-toto+json", envelope, built, provenance(name, digest).to_string()),
        one("says-spdx", spdx_type, spdx_type, json!({}), spdx(name).to_string()),
        one("says-cyclonedx", cyclonedx_type, cyclonedx_type, json!({}), cyclonedx().to_string()),
        one("says-nothing", spdx_type, "text/spdx", json!({}), "SPDXVersion: SPDX-2.3\nPackageName: shop\n".to_owned()),
    ]
}

/// What cosign signs.
fn signed(name: &str, digest: &str) -> Value {
    json!({"critical": {"identity": {"docker-reference": format!("registry.example.com/{name}")},
        "image": {"docker-manifest-digest": digest}, "type": "cosign container image signature"}, "optional": null})
}

/// Who built it and from what, in the envelope that it is signed in.
fn provenance(name: &str, digest: &str) -> Value {
    let hex = digest.trim_start_matches("sha256:");
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1", "predicateType": "https://slsa.dev/provenance/v1",
        "subject": [{"name": format!("registry.example.com/{name}"), "digest": {"sha256": hex}}],
        "predicate": {
            "buildDefinition": {
                "buildType": "https://actions.github.io/buildtypes/workflow/v1",
                "externalParameters": {"workflow": {"ref": "refs/tags/v1", "path": ".github/workflows/release.yml"}},
                "resolvedDependencies": [
                    {"uri": "git+https://example.com/shop@refs/tags/v1", "digest": {"gitCommit": "5f3c1b2a9d8e7f60"}},
                    {"uri": "pkg:docker/debian@bookworm-slim?platform=linux%2Famd64"},
                ],
            },
            "runDetails": {
                "builder": {"id": "https://github.com/actions/runner/github-hosted"},
                "metadata": {"invocationId": "https://example.com/shop/runs/1", "finishedOn": "2026-03-01T08:02:00Z"},
            },
        },
    });
    json!({"payloadType": "application/vnd.in-toto+json", "payload": BASE64.encode(statement.to_string()),
        "signatures": [{"keyid": "", "sig": "MEUCIQCc2lnbmVk"}]})
}

/// The packages of an image, as syft lists them in SPDX.
fn spdx(name: &str) -> Value {
    let package = |(number, (name, version, licence)): (usize, &(&str, &str, &str))| {
        json!({"SPDXID": format!("SPDXRef-Package-deb-{number}"), "name": name, "versionInfo": version,
            "licenseConcluded": "NOASSERTION", "licenseDeclared": licence, "downloadLocation": "NOASSERTION",
            "supplier": "Organization: Debian", "filesAnalyzed": false,
            "externalRefs": [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl",
                "referenceLocator": format!("pkg:deb/debian/{name}@{version}?arch=amd64&distro=debian-12")}]})
    };
    json!({
        "spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT", "name": name,
        "documentNamespace": "https://anchore.com/syft/image/shop-5a3d",
        "creationInfo": {"licenseListVersion": "3.25", "created": "2026-03-01T08:03:00Z",
            "creators": ["Organization: Anchore, Inc", "Tool: syft-1.18.1"]},
        "packages": DEBIAN.iter().enumerate().map(package).collect::<Vec<_>>(),
        "relationships": [{"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES",
            "relatedSpdxElement": "SPDXRef-Package-deb-0"}],
    })
}

/// The packages of a program, more than a page shows, as a plugin of its builder lists them in `CycloneDX`.
fn cyclonedx() -> Value {
    let component = |number: usize| {
        let (group, name) = (["@shop", "@babel", "@types", "@aws-sdk"][number % 4], format!("part-{number:03}"));
        let licence = ["MIT", "Apache-2.0", "ISC"][number % 3];
        json!({"type": "library", "bom-ref": format!("{group}/{name}"), "group": group, "name": name,
            "version": format!("{}.{}.0", number % 9, number), "licenses": [{"license": {"id": licence}}],
            "purl": format!("pkg:npm/{group}/{name}@{number}")})
    };
    json!({
        "bomFormat": "CycloneDX", "specVersion": "1.5", "serialNumber": "urn:uuid:3e671687-395b-41f5-a30f-a58921a69b79",
        "version": 1,
        "metadata": {"timestamp": "2026-03-01T08:03:00Z",
            "tools": {"components": [{"type": "application", "name": "cyclonedx-npm", "version": "1.19.3"}]},
            "component": {"type": "application", "name": "shop", "version": "1.0.0", "bom-ref": "shop"}},
        "components": (0..140).map(component).collect::<Vec<_>>(),
    })
}
