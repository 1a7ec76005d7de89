//! What a manifest is: an image, a chart, a signature, … by the types that it and its parts say.

use serde::Serialize;
use utoipa::ToSchema;

use super::document::{Descriptor, Document, MAX_NAME, clip};

/// What the media type of what cosign signs in its older form begins with.
pub(crate) const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.";

/// What kind of thing a manifest is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ManifestKind)]
pub(crate) enum Kind {
    /// An image for one platform.
    Image,
    /// An index: an image for several platforms, or a list of manifests.
    Index,
    /// A Helm chart.
    HelmChart,
    /// A WebAssembly module or component.
    Wasm,
    /// A signature of another manifest.
    Signature,
    /// A signed or unsigned statement about another manifest, such as where and how it was built.
    Attestation,
    /// A list of what another manifest is made of.
    Sbom,
    /// Something else.
    Artifact,
}

/// Config media types of images.
const IMAGE_CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
/// The media type that says that there is nothing to say.
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// How the types of Sigstore bundles begin.
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";
const HELM: &str = "application/vnd.cncf.helm.config.v1+json";

/// Types whose meaning is known, by their beginning.
const KNOWN: &[(&str, Kind, &str)] = &[
    (HELM, Kind::HelmChart, "Helm chart"),
    ("application/vnd.wasm.", Kind::Wasm, "WebAssembly"),
    ("application/vnd.module.wasm.", Kind::Wasm, "WebAssembly"),
    ("application/wasm", Kind::Wasm, "WebAssembly"),
    (SIMPLE_SIGNING, Kind::Signature, "Signature (cosign)"),
    ("application/vnd.dev.cosign.artifact.sig.", Kind::Signature, "Signature (cosign)"),
    ("application/vnd.dev.cosign.artifact.sbom.", Kind::Sbom, "SBOM"),
    ("application/vnd.cncf.notary.signature", Kind::Signature, "Signature (Notation)"),
    ("application/spdx", Kind::Sbom, "SBOM (SPDX)"),
    ("text/spdx", Kind::Sbom, "SBOM (SPDX)"),
    ("application/vnd.cyclonedx", Kind::Sbom, "SBOM (CycloneDX)"),
    ("application/vnd.syft", Kind::Sbom, "SBOM (Syft)"),
    ("application/sarif", Kind::Artifact, "Scan report (SARIF)"),
    ("application/vnd.cncf.flux.", Kind::Artifact, "Flux configuration"),
    ("application/vnd.cncf.openpolicyagent.", Kind::Artifact, "Policies (Open Policy Agent)"),
    ("application/vnd.cncf.model.", Kind::Artifact, "Machine learning model"),
    ("application/vnd.cncf.helm.", Kind::Artifact, "Helm provenance"),
    ("application/vnd.docker.plugin.", Kind::Artifact, "Docker plugin"),
    ("application/vnd.sylabs.sif.", Kind::Artifact, "Singularity image"),
    ("application/vnd.tekton.", Kind::Artifact, "Tekton bundle"),
];

/// A kind, and what to call it.
pub(crate) type Named = (Kind, String);

fn named(kind: Kind, label: &str) -> Named {
    (kind, label.to_owned())
}

fn known(media_type: &str) -> Option<Named> {
    KNOWN.iter().find(|(begin, ..)| media_type.starts_with(begin)).map(|(_, kind, label)| named(*kind, label))
}

/// What a manifest is, called by a name that people know.
pub(crate) fn of(document: &Document) -> Named {
    if document.artifact_type().is_some_and(|t| t.starts_with(BUNDLE)) {
        return of_bundle(document);
    }
    let config = document.config().map(Descriptor::media_type).unwrap_or_default();
    if let Some(known) = document.artifact_type().and_then(known).or_else(|| known(config)) {
        return known;
    }
    if document.is_index() {
        return of_index(document);
    }
    let layers: Vec<&str> = document.layers().map(Descriptor::media_type).collect();
    if layers.iter().any(|t| is_statement(t)) || document.artifact_type().is_some_and(is_statement) {
        return of_statements(document);
    }
    if let Some(known) = layers.iter().find_map(|t| known(t)) {
        return known;
    }
    match document.artifact_type().or(Some(config)) {
        None | Some("" | EMPTY) => named(Kind::Artifact, "Artifact"),
        Some(config) if IMAGE_CONFIGS.contains(&config) => named(Kind::Image, "Image"),
        Some(other) => (Kind::Artifact, format!("Artifact ({})", clip(other, 100))),
    }
}

/// A guess for what is not at hand: only its artifact type, or its config's media type, is known.
pub(crate) fn of_type(artifact_type: Option<&str>) -> Named {
    match artifact_type {
        Some(config) if IMAGE_CONFIGS.contains(&config) => named(Kind::Image, "Image"),
        Some(bundle) if bundle.starts_with(BUNDLE) => named(Kind::Attestation, "Sigstore bundle"),
        Some(statement) if is_statement(statement) => named(Kind::Attestation, "Attestation"),
        Some(other) => known(other).unwrap_or_else(|| (Kind::Artifact, format!("Artifact ({})", clip(other, 100)))),
        None => named(Kind::Artifact, "Artifact"),
    }
}

/// The type that says most: the manifest's own, else the config's.
pub(crate) fn type_of(document: &Document) -> Option<String> {
    let config = document.config().map(Descriptor::media_type).filter(|text| !text.is_empty());
    document.artifact_type().or(config).map(|text| clip(text, MAX_NAME))
}

fn of_index(document: &Document) -> Named {
    let platforms = document.entries().filter(|entry| entry.platform().is_some()).count();
    match (platforms, document.artifact_type()) {
        (_, Some(other)) => (Kind::Index, format!("Index ({})", clip(other, 100))),
        (0, None) => named(Kind::Index, "Index"),
        (1, None) if document.entries().count() > 1 => named(Kind::Index, "Image with attestations"),
        (1, None) => named(Kind::Index, "Image"),
        (_, None) => named(Kind::Index, "Multi-platform image"),
    }
}

fn is_statement(media_type: &str) -> bool {
    media_type.starts_with("application/vnd.in-toto") || media_type.starts_with("application/vnd.dsse.envelope")
}

/// A Sigstore bundle, as cosign 3 attaches it: a signature or a statement.
fn of_bundle(document: &Document) -> Named {
    let predicate = document.annotation("dev.sigstore.bundle.predicateType");
    match (predicate, document.annotation("dev.sigstore.bundle.content")) {
        (Some(predicate), _) if predicate.contains("/cosign/sign/") => named(Kind::Signature, "Signature (cosign)"),
        (Some(predicate), _) => of_predicate(predicate),
        (None, Some("dsse-envelope")) => named(Kind::Attestation, "Attestation"),
        (None, _) => named(Kind::Signature, "Signature (Sigstore bundle)"),
    }
}

/// Statements of in-toto, one in each layer: of cosign, or of BuildKit.
fn of_statements(document: &Document) -> Named {
    let predicate = |layer: Descriptor<'_>| {
        Some(of_predicate(layer.annotation("in-toto.io/predicate-type").or(layer.annotation("predicateType"))?))
    };
    let mut found: Vec<Named> = document.layers().take(50).filter_map(predicate).collect();
    if found.is_empty() {
        found.extend(
            document.annotation("predicateType").or(document.annotation("in-toto.io/predicate-type")).map(of_predicate),
        );
    }
    found.sort();
    found.dedup();
    match found.as_slice() {
        [] => named(Kind::Attestation, "Attestation"),
        [one] => one.clone(),
        several => {
            let kind = if several.iter().all(|(kind, _)| *kind == Kind::Sbom) { Kind::Sbom } else { Kind::Attestation };
            let labels: Vec<&str> = several.iter().take(3).map(|(_, label)| label.as_str()).collect();
            (kind, labels.join(", "))
        }
    }
}

fn of_predicate(predicate: &str) -> Named {
    let has = |part: &str| predicate.to_ascii_lowercase().contains(part);
    match () {
        () if has("spdx") => named(Kind::Sbom, "SBOM (SPDX)"),
        () if has("cyclonedx") => named(Kind::Sbom, "SBOM (CycloneDX)"),
        () if has("slsa.dev/provenance") || has("slsaprovenance") => named(Kind::Attestation, "Provenance (SLSA)"),
        () if has("slsa.dev/verification_summary") => named(Kind::Attestation, "Verification summary (SLSA)"),
        () if has("/vuln") => named(Kind::Attestation, "Vulnerability scan"),
        () if has("openvex") => named(Kind::Attestation, "VEX (OpenVEX)"),
        () if has("/test-result") => named(Kind::Attestation, "Test result"),
        () => (Kind::Attestation, format!("Attestation ({})", clip(predicate, 100))),
    }
}

impl Kind {
    /// What a badge looks like that says it.
    pub(crate) fn tone(self) -> &'static str {
        match self {
            Self::Image | Self::Index => "deed",
            Self::Signature => "good",
            Self::HelmChart | Self::Wasm | Self::Attestation | Self::Sbom | Self::Artifact => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(json: &str) -> (Kind, String) {
        of(&Document::read(json.as_bytes()))
    }

    #[test]
    fn artifacts_are_what_they_are() {
        let image = r#"{"config":{"mediaType":"application/vnd.oci.image.config.v1+json"},"layers":[]}"#;
        let sig = r#"{"config":{"mediaType":"application/vnd.oci.image.config.v1+json"},"layers":[{"mediaType":"application/vnd.dev.cosign.simplesigning.v1+json"}]}"#;
        let provenance = r#"{"config":{"mediaType":"application/vnd.oci.image.config.v1+json"},"layers":[
            {"mediaType":"application/vnd.in-toto+json","annotations":{"in-toto.io/predicate-type":"https://slsa.dev/provenance/v1"}}]}"#;
        let both = r#"{"layers":[
            {"mediaType":"application/vnd.in-toto+json","annotations":{"in-toto.io/predicate-type":"https://slsa.dev/provenance/v0.2"}},
            {"mediaType":"application/vnd.in-toto+json","annotations":{"in-toto.io/predicate-type":"https://spdx.dev/Document"}}]}"#;
        let attested = r#"{"layers":[{"mediaType":"application/vnd.dsse.envelope.v1+json","annotations":{"predicateType":"https://cyclonedx.org/bom"}}]}"#;
        let bundle = |more: &str| {
            format!(
                r#"{{"artifactType":"application/vnd.dev.sigstore.bundle.v0.3+json","config":{{"mediaType":"{EMPTY}"}},"annotations":{{{more}}}}}"#
            )
        };
        for (json, expected, label) in [
            (image, Kind::Image, "Image"),
            (sig, Kind::Signature, "Signature (cosign)"),
            (provenance, Kind::Attestation, "Provenance (SLSA)"),
            (both, Kind::Attestation, "Provenance (SLSA), SBOM (SPDX)"),
            (attested, Kind::Sbom, "SBOM (CycloneDX)"),
            (
                &bundle(r#""dev.sigstore.bundle.content":"message-signature""#),
                Kind::Signature,
                "Signature (Sigstore bundle)",
            ),
            (
                &bundle(r#""dev.sigstore.bundle.predicateType":"https://sigstore.dev/cosign/sign/v1""#),
                Kind::Signature,
                "Signature (cosign)",
            ),
            (
                &bundle(r#""dev.sigstore.bundle.predicateType":"https://slsa.dev/provenance/v1""#),
                Kind::Attestation,
                "Provenance (SLSA)",
            ),
            (r#"{"config":{"mediaType":"application/vnd.cncf.helm.config.v1+json"}}"#, Kind::HelmChart, "Helm chart"),
            (
                r#"{"config":{"mediaType":"application/vnd.wasm.config.v0+json"},"layers":[{"mediaType":"application/wasm"}]}"#,
                Kind::Wasm,
                "WebAssembly",
            ),
            (
                r#"{"artifactType":"application/spdx+json","config":{"mediaType":"application/vnd.oci.empty.v1+json"}}"#,
                Kind::Sbom,
                "SBOM (SPDX)",
            ),
            (
                r#"{"artifactType":"application/vnd.acme.rocket","layers":[]}"#,
                Kind::Artifact,
                "Artifact (application/vnd.acme.rocket)",
            ),
            ("not json", Kind::Artifact, "Artifact"),
            (
                r#"{"manifests":[{"platform":{"os":"linux","architecture":"amd64"}},{"platform":{"os":"linux","architecture":"arm64"}}]}"#,
                Kind::Index,
                "Multi-platform image",
            ),
            (
                r#"{"manifests":[{"platform":{"os":"linux","architecture":"amd64"}},{"platform":{"os":"unknown","architecture":"unknown"}}]}"#,
                Kind::Index,
                "Image with attestations",
            ),
            (r#"{"manifests":[{"platform":{"os":"linux","architecture":"amd64"}}]}"#, Kind::Index, "Image"),
            (r#"{"manifests":[]}"#, Kind::Index, "Index"),
        ] {
            assert_eq!(kind(json), (expected, label.to_owned()), "{json}");
        }
    }
}
