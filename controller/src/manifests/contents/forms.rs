//! The fields that are read of signatures, statements and SBOMs, by the names that they have there.

use serde::Deserialize;

use super::lenient::{List, Object, Pairs, Text};

/// Packages that are kept of an SBOM.
const MAX_KEPT: usize = 20_000;

/// What is around something: a signature of cosign, an envelope (DSSE), a bundle of Sigstore, or a statement of in-toto.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Around {
    pub(super) critical: Object<Critical>,
    pub(super) payload: Option<String>,
    pub(super) payload_type: Text,
    pub(super) verification_material: Object<Material>,
    pub(super) dsse_envelope: Object<Envelope>,
    pub(super) message_signature: Object<Message>,
    pub(super) predicate_type: Text,
    pub(super) subject: List<Object<Subject>, 20>,
    pub(super) predicate: Object<Body>,
}

/// What cosign signs ("simple signing").
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Critical {
    pub(super) identity: Object<Identity>,
    pub(super) image: Object<Image>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Identity {
    #[serde(rename = "docker-reference")]
    pub(super) reference: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Image {
    #[serde(rename = "docker-manifest-digest")]
    pub(super) digest: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Envelope {
    pub(super) payload: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Message {
    pub(super) message_digest: Object<Hash>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Hash {
    pub(super) algorithm: Text,
    pub(super) digest: Text,
}

/// What a bundle is to be verified by.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Material {
    pub(super) certificate: Object<RawCertificate>,
    pub(super) x509_certificate_chain: Object<Chain>,
    pub(super) public_key: Object<PublicKey>,
    pub(super) tlog_entries: List<Object<Nothing>, 0>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct RawCertificate {
    pub(super) raw_bytes: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Chain {
    pub(super) certificates: List<Object<RawCertificate>, 1>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PublicKey {
    pub(super) hint: Text,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Nothing {}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Subject {
    pub(super) name: Text,
    pub(super) digest: Pairs,
}

/// What is said: an SBOM (SPDX 2 or `CycloneDX`, as JSON), or a provenance (SLSA 0.2 or 1).
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Body {
    pub(super) spdx_version: Text,
    pub(super) name: Text,
    pub(super) creation_info: Object<CreationInfo>,
    pub(super) packages: List<Object<SpdxPackage>, MAX_KEPT>,

    pub(super) bom_format: Text,
    pub(super) spec_version: Text,
    pub(super) metadata: Object<Metadata>,
    pub(super) components: List<Object<Component>, MAX_KEPT>,

    pub(super) builder: Object<Builder>,
    pub(super) build_type: Text,
    pub(super) materials: List<Object<Source>, 20>,
    pub(super) build_definition: Object<BuildDefinition>,
    pub(super) run_details: Object<RunDetails>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct CreationInfo {
    pub(super) created: Text,
    pub(super) creators: List<Text, 20>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct SpdxPackage {
    pub(super) name: Text,
    pub(super) version_info: Text,
    pub(super) license_concluded: Text,
    pub(super) license_declared: Text,
}

/// Of a `CycloneDX` document, or of a provenance.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Metadata {
    pub(super) timestamp: Text,
    pub(super) component: Object<Named>,
    #[serde(deserialize_with = "tools")]
    pub(super) tools: Tools,
    pub(super) finished_on: Text,
    pub(super) build_finished_on: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Named {
    pub(super) name: Text,
    pub(super) version: Text,
}

pub(super) type Tools = List<Object<Named>, 20>;

/// A list, or since `CycloneDX` 1.5 an object with a list.
fn tools<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Tools, D::Error> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Held {
        components: Tools,
    }
    struct Either;
    impl<'de> serde::de::Visitor<'de> for Either {
        type Value = Tools;

        fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            formatter.write_str("tools")
        }

        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, list: A) -> Result<Tools, A::Error> {
            Tools::deserialize(serde::de::value::SeqAccessDeserializer::new(list))
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Tools, A::Error> {
            Held::deserialize(serde::de::value::MapAccessDeserializer::new(map)).map(|held| held.components)
        }

        fn visit_unit<E: serde::de::Error>(self) -> Result<Tools, E> {
            Ok(Tools::default())
        }
    }
    deserializer.deserialize_any(Either)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Component {
    pub(super) group: Text,
    pub(super) name: Text,
    pub(super) version: Text,
    pub(super) licenses: List<Object<Licence>, 8>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Licence {
    pub(super) expression: Text,
    pub(super) license: Object<LicenceId>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct LicenceId {
    pub(super) id: Text,
    pub(super) name: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Builder {
    pub(super) id: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Source {
    pub(super) uri: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct BuildDefinition {
    pub(super) build_type: Text,
    pub(super) resolved_dependencies: List<Object<Source>, 20>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RunDetails {
    pub(super) builder: Object<Builder>,
    pub(super) metadata: Object<Metadata>,
}
