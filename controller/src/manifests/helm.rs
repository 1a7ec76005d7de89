//! Charts, as helm's commands name them.

use crate::account::console::Tools;

/// A command of helm's for a chart: by the version that its tag stands for, else by its digest, as helm takes no other tags.
pub(crate) fn command(words: &str, tools: &Tools, address: &str, tag: Option<&str>, digest: &str) -> String {
    let more = tools.file_more();
    match tag.and_then(version) {
        Some(version) => format!("helm {words} oci://{address} --version {version}{more}"),
        None => format!("helm {words} oci://{address}@{digest}{more}"),
    }
}

/// The version (semver.org) that a tag stands for: tags have no `+`, for which helm writes `_`.
pub(crate) fn version(tag: &str) -> Option<String> {
    let text = tag.replace('_', "+");
    let (rest, build) = text.split_once('+').map_or((text.as_str(), None), |(rest, build)| (rest, Some(build)));
    let (core, pre) = rest.split_once('-').map_or((rest, None), |(core, pre)| (core, Some(pre)));
    let numbers: Vec<&str> = core.strip_prefix('v').unwrap_or(core).split('.').collect();
    let number = |part: &&str| !part.is_empty() && part.len() <= 18 && part.bytes().all(|byte| byte.is_ascii_digit());
    let word = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let words = |parts: Option<&str>| parts.is_none_or(|parts| parts.split('.').all(word));
    (numbers.len() == 3 && numbers.iter().all(number) && words(pre) && words(build)).then_some(text)
}

/// The name of a release of the chart in a repository: what Kubernetes takes as one.
pub(crate) fn release(repository: &str) -> String {
    let leaf = repository.rsplit('/').next().unwrap_or_default();
    let name: String = leaf.replace('_', "-").chars().take(53).collect();
    name.trim_end_matches(['-', '.']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_versions_are_versions() {
        assert_eq!(version("1.2.3").as_deref(), Some("1.2.3"));
        assert_eq!(version("v0.1.0-rc.1").as_deref(), Some("v0.1.0-rc.1"));
        assert_eq!(version("0.2.0_build.5").as_deref(), Some("0.2.0+build.5"));
        for tag in ["latest", "1.2", "1.2.3.4", "1..3", "v1", "1.2.3-", "1.2.3_", "1.2.3_a_b", "1.2.x", ""] {
            assert_eq!(version(tag), None, "{tag}");
        }
    }

    #[test]
    fn a_release_has_a_name_that_kubernetes_takes() {
        assert_eq!(release("main/web/my_chart"), "my-chart");
        assert_eq!(release("main/web/a.b"), "a.b");
        assert_eq!(release(&format!("main/{}.x", "a".repeat(52))), "a".repeat(52));
    }
}
