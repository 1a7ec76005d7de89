//! From the bytes of a layer to what is told of it.

use data_encoding::{BASE64, HEXLOWER};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::FromDer;

use super::forms::{Around, Body, Component, Critical, Material, Message, Source, SpdxPackage, Subject};
use super::lenient::{List, Object, Text};
use super::{
    CertificateView, ContentView, MAX_PACKAGES, PackageView, ProvenanceView, SbomView, SignatureView, StatementView,
    SubjectView,
};
use crate::manifests::describe::made_at;
use crate::manifests::document::{MAX_NAME, MAX_TEXT, clip};

/// Names of a certificate that are told.
const MAX_SUBJECTS: usize = 5;
/// Who logged somebody in, in a certificate of Sigstore: as bare text, and as text of ASN.1.
const LOGIN_ISSUERS: [(&str, bool); 2] = [("1.3.6.1.4.1.57264.1.8", true), ("1.3.6.1.4.1.57264.1.1", false)];

/// What a layer says; nothing where it is of no known form. cosign puts a certificate and the entry of a log beside it.
pub(crate) fn read(bytes: &[u8], certificate: Option<&str>, logged: bool, search: &str) -> Option<ContentView> {
    let around: Around = serde_json::from_slice(bytes).ok()?;
    let beside = certificate.and_then(of_pem);
    let signed = |form| {
        let keyless = certificate.is_some();
        SignatureView { form, keyless, certificate: beside, logged, ..SignatureView::default() }
    };
    if let Some(critical) = around.critical.0 {
        let signature = Some(of_critical(critical, signed("cosign")));
        return Some(ContentView { signature, ..ContentView::default() });
    }
    if let Some(material) = around.verification_material.0 {
        let payload = around.dsse_envelope.0.and_then(|envelope| envelope.payload);
        return Some(of_bundle(material, around.message_signature.0, payload, search));
    }
    if let Some(payload) = around.payload.filter(|_| around.payload_type.0.is_some()) {
        let signature = Some(signed("DSSE"));
        return Some(ContentView { signature, ..enclosed(&payload, search).unwrap_or_default() });
    }
    if let Some(predicate_type) = around.predicate_type.0 {
        return Some(of_statement(predicate_type, around.subject, around.predicate.0, search));
    }
    let sbom = of_sbom(serde_json::from_slice(bytes).ok()?, search)?;
    Some(ContentView { sbom: Some(sbom), ..ContentView::default() })
}

fn of_critical(critical: Critical, signature: SignatureView) -> SignatureView {
    let signs = critical.image.0.and_then(|image| image.digest.0);
    let signed_as = critical.identity.0.and_then(|identity| identity.reference.0);
    SignatureView { signs, signed_as, ..signature }
}

fn of_bundle(material: Material, message: Option<Message>, payload: Option<String>, search: &str) -> ContentView {
    let chain = material.x509_certificate_chain.0.and_then(|chain| chain.certificates.kept.into_iter().next());
    let certificate = material.certificate.0.or(chain.and_then(|first| first.0));
    let signature = SignatureView {
        form: "Sigstore bundle",
        signs: message.and_then(|message| message.message_digest.0).and_then(|hash| {
            let algorithm = hash.algorithm.0?.replace("SHA2_", "sha").to_lowercase();
            let digest = BASE64.decode(hash.digest.0?.as_bytes()).ok()?;
            Some(clip(&format!("{algorithm}:{}", HEXLOWER.encode(&digest)), MAX_NAME))
        }),
        keyless: certificate.is_some(),
        certificate: certificate.and_then(|raw| of_der(&BASE64.decode(raw.raw_bytes?.as_bytes()).ok()?)),
        key_hint: material.public_key.0.and_then(|key| key.hint.0),
        logged: material.tlog_entries.total > 0,
        ..SignatureView::default()
    };
    let inside = payload.and_then(|payload| enclosed(&payload, search)).unwrap_or_default();
    ContentView { signature: Some(signature), ..inside }
}

/// The statement in an envelope.
fn enclosed(payload: &str, search: &str) -> Option<ContentView> {
    let around: Around = serde_json::from_slice(&BASE64.decode(payload.as_bytes()).ok()?).ok()?;
    Some(of_statement(around.predicate_type.0?, around.subject, around.predicate.0, search))
}

fn of_statement(
    predicate_type: String,
    subjects: List<Object<Subject>, 20>,
    predicate: Option<Body>,
    search: &str,
) -> ContentView {
    let subjects_left_off = subjects.total - subjects.kept.len();
    let subject = |Subject { name, digest }: Subject| {
        let plain = |text: &String| {
            text.len() <= 140 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b":._-".contains(&b))
        };
        let digest = digest.0.into_iter().next().map(|(algorithm, hex)| format!("{algorithm}:{hex}")).filter(plain);
        SubjectView { name: name.0.unwrap_or_default(), digest }
    };
    let subjects = subjects.kept.into_iter().filter_map(|one| one.0.map(subject)).collect();
    let mut body = predicate.unwrap_or_default();
    let provenance = predicate_type.contains("provenance").then(|| of_provenance(&mut body));
    let statement = StatementView { predicate_type, subjects, subjects_left_off, provenance };
    ContentView { statement: Some(statement), sbom: of_sbom(body, search), ..ContentView::default() }
}

fn of_provenance(body: &mut Body) -> ProvenanceView {
    let definition = body.build_definition.0.take().unwrap_or_default();
    let details = body.run_details.0.take().unwrap_or_default();
    let builder = body.builder.0.take().or(details.builder.0);
    let metadata = details.metadata.0.or(body.metadata.0.take()).unwrap_or_default();
    let sources: List<Object<Source>, 20> = match body.materials.total {
        0 => definition.resolved_dependencies,
        _ => std::mem::take(&mut body.materials),
    };
    let finished = metadata.finished_on.0.or(metadata.build_finished_on.0);
    ProvenanceView {
        builder: builder.and_then(|builder| builder.id.0),
        build_type: definition.build_type.0.or(body.build_type.0.take()),
        sources_left_off: sources.total - sources.kept.len(),
        sources: sources.kept.into_iter().filter_map(|source| source.0?.uri.0).collect(),
        finished_at: finished.as_deref().and_then(made_at),
    }
}

fn of_sbom(body: Body, search: &str) -> Option<SbomView> {
    let metadata = body.metadata.0.unwrap_or_default();
    let (mut view, all): (SbomView, Vec<PackageView>) = if let Some(form) = body.spdx_version.0 {
        let info = body.creation_info.0.unwrap_or_default();
        let tool = |creator: Text| Some(creator.0?.strip_prefix("Tool:")?.trim().to_owned());
        let view = SbomView {
            form,
            name: body.name.0,
            tools: info.creators.kept.into_iter().filter_map(tool).collect(),
            made_at: info.created.0.as_deref().and_then(made_at),
            total: body.packages.total,
            ..SbomView::default()
        };
        (view, body.packages.kept.into_iter().filter_map(|one| one.0.and_then(of_spdx)).collect())
    } else {
        let form = format!("{} {}", body.bom_format.0?, body.spec_version.0.unwrap_or_default());
        let words =
            |name: Text, version: Text| Some([name.0?, version.0.unwrap_or_default()].join(" ").trim().to_owned());
        let view = SbomView {
            form: form.trim().to_owned(),
            name: metadata.component.0.and_then(|one| words(one.name, one.version)),
            tools: metadata
                .tools
                .kept
                .into_iter()
                .filter_map(|tool| tool.0.and_then(|t| words(t.name, t.version)))
                .collect(),
            made_at: metadata.timestamp.0.as_deref().and_then(made_at),
            total: body.components.total,
            ..SbomView::default()
        };
        (view, body.components.kept.into_iter().filter_map(|one| one.0.and_then(of_component)).collect())
    };
    let wanted = search.trim().to_lowercase();
    let has = |text: &str| text.to_lowercase().contains(&wanted);
    let fits = |one: &PackageView| {
        let more = [&one.version, &one.licence].into_iter().flatten();
        wanted.is_empty() || has(&one.name) || more.into_iter().any(|text| has(text))
    };
    let mut found: Vec<PackageView> = all.into_iter().filter(fits).collect();
    view.found = found.len();
    found.truncate(MAX_PACKAGES);
    view.packages = found;
    Some(view)
}

fn of_spdx(package: SpdxPackage) -> Option<PackageView> {
    let said = |text: Text| text.0.filter(|text| text != "NOASSERTION" && text != "NONE");
    let licence = said(package.license_concluded).or(said(package.license_declared));
    Some(PackageView { name: package.name.0?, version: package.version_info.0, licence })
}

fn of_component(component: Component) -> Option<PackageView> {
    let name = component.name.0?;
    let name = component.group.0.map_or_else(|| name.clone(), |group| format!("{group}/{name}"));
    let licences = component.licenses.kept.into_iter().filter_map(|licence| {
        let licence = licence.0?;
        licence.expression.0.or_else(|| licence.license.0.and_then(|named| named.id.0.or(named.name.0)))
    });
    let licence = licences.collect::<Vec<_>>().join(", ");
    Some(PackageView { name, version: component.version.0, licence: Some(licence).filter(|text| !text.is_empty()) })
}

fn of_pem(text: &str) -> Option<CertificateView> {
    let (_, pem) = parse_x509_pem(text.as_bytes()).ok()?;
    of_der(&pem.contents)
}

fn of_der(der: &[u8]) -> Option<CertificateView> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let named = certificate.subject_alternative_name().ok().flatten();
    let names = named.iter().flat_map(|extension| &extension.value.general_names);
    let mut subjects: Vec<String> = names.filter_map(name).take(MAX_SUBJECTS).collect();
    if subjects.is_empty() {
        subjects.push(clip(&certificate.subject().to_string(), MAX_TEXT));
    }
    let login_issuer = LOGIN_ISSUERS.iter().find_map(|(wanted, wrapped)| {
        let extension = certificate.extensions().iter().find(|one| one.oid.to_id_string() == *wanted)?;
        let bytes = if *wrapped { utf8_string(extension.value)? } else { extension.value };
        Some(clip(std::str::from_utf8(bytes).ok()?, MAX_TEXT))
    });
    Some(CertificateView {
        subjects,
        issuer: clip(&certificate.issuer().to_string(), MAX_TEXT),
        login_issuer,
        valid_from: certificate.validity().not_before.timestamp(),
        valid_until: certificate.validity().not_after.timestamp(),
    })
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::RFC822Name(text) | GeneralName::DNSName(text) | GeneralName::URI(text) => {
            Some(clip(text, MAX_TEXT))
        }
        _ => None,
    }
}

/// What is in a `UTF8String` of DER that is short enough for one byte of length, or two.
fn utf8_string(der: &[u8]) -> Option<&[u8]> {
    match der {
        [0x0c, length, text @ ..] if *length < 0x80 && text.len() == usize::from(*length) => Some(text),
        [0x0c, 0x81, length, text @ ..] if text.len() == usize::from(*length) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::*;

    /// Of a real key: for ann@example.com, logged in by `https://accounts.example`, as Sigstore's authority writes them.
    const CERTIFICATE: &str = include_str!("keyless.pem");

    fn told(json: &Value, certificate: Option<&str>) -> ContentView {
        read(json.to_string().as_bytes(), certificate, false, "").unwrap()
    }

    fn wrapped(json: &Value) -> String {
        BASE64.encode(json.to_string().as_bytes())
    }

    #[test]
    fn a_signature_of_cosign_says_what_it_signs_and_who_signed() {
        let payload = json!({"critical": {"identity": {"docker-reference": "host/main/app"}, "type": "cosign container image signature",
            "image": {"docker-manifest-digest": "sha256:abc"}}, "optional": null});
        let by_key = told(&payload, None);
        assert_eq!(by_key.line().unwrap(), "says it is signed with a key");
        let signature = by_key.signature.unwrap();
        assert_eq!(
            (signature.signs.as_deref(), signature.signed_as.as_deref()),
            (Some("sha256:abc"), Some("host/main/app"))
        );
        let keyless = told(&payload, Some(CERTIFICATE));
        assert_eq!(keyless.line().unwrap(), "says it is signed by ann@example.com");
        let certificate = keyless.signature.unwrap().certificate.unwrap();
        assert_eq!(certificate.login_issuer.as_deref(), Some("https://accounts.example"));
        assert!(certificate.issuer.contains("sigstore") && certificate.valid_from < certificate.valid_until);
        // What is no certificate is none; somebody still did not sign with a key alone.
        let odd = told(&payload, Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"));
        assert_eq!(odd.line().unwrap(), "says it is signed with a certificate");
    }

    #[test]
    fn a_bundle_says_its_signature_and_the_statement_in_it() {
        let (_, pem) = parse_x509_pem(CERTIFICATE.as_bytes()).unwrap();
        let statement = json!({"_type": "https://in-toto.io/Statement/v1", "predicateType": "https://slsa.dev/provenance/v1",
            "subject": [{"name": "app", "digest": {"sha256": "abc"}}],
            "predicate": {"buildDefinition": {"buildType": "type", "resolvedDependencies": [{"uri": "git+https://src.example"}]},
                "runDetails": {"builder": {"id": "https://builder.example"}, "metadata": {"finishedOn": "2026-09-21T10:00:00Z"}}}});
        let bundle = json!({"verificationMaterial": {"certificate": {"rawBytes": BASE64.encode(&pem.contents)}, "tlogEntries": [{}]},
            "dsseEnvelope": {"payload": wrapped(&statement), "payloadType": "application/vnd.in-toto+json", "signatures": []}});
        let content = told(&bundle, None);
        assert_eq!(
            content.line().unwrap(),
            "says it is built by https://builder.example; says it is signed by ann@example.com"
        );
        assert!(content.signature.unwrap().logged);
        let statement = content.statement.unwrap();
        assert_eq!(statement.subjects, [SubjectView { name: "app".into(), digest: Some("sha256:abc".into()) }]);
        let provenance = statement.provenance.unwrap();
        assert_eq!(provenance.sources, ["git+https://src.example"]);
        assert_eq!(provenance.finished_at, Some(1_789_984_800));
        let by_key = json!({"verificationMaterial": {"publicKey": {"hint": "k1"}},
            "messageSignature": {"messageDigest": {"algorithm": "SHA2_256", "digest": "q80="}}});
        let signature = told(&by_key, None).signature.unwrap();
        assert_eq!((signature.signs.as_deref(), signature.keyless), (Some("sha256:abcd"), false));
        assert_eq!(signature.key_hint.as_deref(), Some("k1"));
    }

    #[test]
    fn sboms_of_both_forms_are_read_bare_and_in_statements() {
        let spdx = json!({"spdxVersion": "SPDX-2.3", "name": "app", "creationInfo": {"created": "2026-09-21T10:00:00Z", "creators": ["Organization: Acme", "Tool: syft-1.9"]},
            "packages": [{"name": "zlib", "versionInfo": "1.3", "licenseConcluded": "NOASSERTION", "licenseDeclared": "Zlib"}, {"versionInfo": "x"}, 7]});
        let sbom = told(&spdx, None).sbom.unwrap();
        assert_eq!(
            (sbom.form.as_str(), sbom.tools.as_slice(), sbom.total),
            ("SPDX-2.3", &["syft-1.9".to_owned()][..], 3)
        );
        let zlib = PackageView { name: "zlib".into(), version: Some("1.3".into()), licence: Some("Zlib".into()) };
        assert_eq!(sbom.packages, [zlib]);
        let tools = [
            json!([{"vendor": "anchore", "name": "syft", "version": "1"}]),
            json!({"components": [{"name": "syft", "version": "1"}]}),
        ];
        for tools in tools {
            let cyclonedx = json!({"bomFormat": "CycloneDX", "specVersion": "1.5", "metadata": {"timestamp": "2026-09-21T10:00:00Z", "tools": tools, "component": {"name": "app", "version": "v1"}},
                "components": [{"group": "org.acme", "name": "a", "version": "1", "licenses": [{"license": {"id": "MIT"}}, {"expression": "A OR B"}], "components": [{"name": "inner"}]}]});
            let statement =
                json!({"predicateType": "https://cyclonedx.org/bom", "subject": [], "predicate": cyclonedx});
            let sbom =
                told(&json!({"payloadType": "application/vnd.in-toto+json", "payload": wrapped(&statement)}), None)
                    .sbom
                    .unwrap();
            assert_eq!((sbom.form.as_str(), sbom.name.as_deref(), sbom.total), ("CycloneDX 1.5", Some("app v1"), 1));
            assert_eq!(
                (sbom.tools.as_slice(), sbom.packages[0].name.as_str()),
                (&["syft 1".to_owned()][..], "org.acme/a")
            );
            assert_eq!(sbom.packages[0].licence.as_deref(), Some("MIT, A OR B"));
        }
    }

    #[test]
    fn hostile_bytes_say_nothing_and_cost_little() {
        let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
        for odd in [
            "",
            "null",
            "7",
            "[]",
            "{}",
            "{\"critical\":7}",
            "{\"verificationMaterial\":[]}",
            "{\"payloadType\":\"x\",\"payload\":7}",
            "{\"predicateType\":{}}",
            "{\"bomFormat\":[]}",
            &deep,
            &format!("{{\"packages\":{deep}}}"),
            &format!("{{\"spdxVersion\":{deep}}}"),
        ] {
            assert!(read(odd.as_bytes(), None, false, "").is_none(), "{}", odd.get(..60).unwrap_or(odd));
        }
        let odd = r#"{"spdxVersion":"SPDX-2.3","name":{"a":[1]},"creationInfo":"x","packages":[[],{"name":9},{"name":"a\u202eb"}]}"#;
        let sbom = read(odd.as_bytes(), None, false, "").unwrap().sbom.unwrap();
        assert_eq!((sbom.total, sbom.packages[0].name.as_str()), (3, "a\u{fffd}b"));
        let many = format!(
            r#"{{"spdxVersion":"SPDX-2.3","packages":[{}{{"name":"last"}}]}}"#,
            "{\"name\":\"x\"},".repeat(150_000)
        );
        let sbom = read(many.as_bytes(), None, false, "").unwrap().sbom.unwrap();
        assert_eq!((sbom.total, sbom.found, sbom.packages.len()), (150_001, 20_000, MAX_PACKAGES));
        let statement = json!({"predicateType": "x", "subject": vec![json!({"name": "s"}); 30]});
        let statement = told(&statement, None).statement.unwrap();
        assert_eq!((statement.subjects.len(), statement.subjects_left_off), (20, 10));
    }
}
