//! Recovery codes: ten, of 80 random bits each, shown once. A row holds a code under a key of the master key, bound to its
//! user, so that neither a leaked database nor another user's row helps anybody.

use crate::core::Identity;
use crate::secret::{Secret, fill_random};

/// Codes that a user gets at a time.
pub const CODES: usize = 10;
/// Letters of a code, five bits each.
const LETTERS: usize = 16;
/// Thirty-two letters without those that look alike.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// New codes: `xxxx-xxxx-xxxx-xxxx`.
pub(crate) fn generate() -> Vec<Secret> {
    (0..CODES)
        .map(|_| {
            let mut random = [0u8; LETTERS];
            fill_random(&mut random);
            let letters: String = random.iter().map(|byte| char::from(ALPHABET[usize::from(byte & 31)])).collect();
            Secret::new([&letters[..4], &letters[4..8], &letters[8..12], &letters[12..]].join("-"))
        })
        .collect()
}

/// A code as it was made, however it was typed: case, spaces and dashes do not matter. `None` where it cannot be one.
fn normalise(typed: &str) -> Option<Secret> {
    let letters: String =
        typed.chars().take(64).filter(|c| !c.is_whitespace() && *c != '-').flat_map(char::to_lowercase).collect();
    let ok = letters.len() == LETTERS && letters.bytes().all(|b| ALPHABET.contains(&b));
    ok.then(|| Secret::new(letters))
}

impl Identity {
    /// What a row holds of a user's code; `None` where that text cannot be one.
    pub(crate) fn recovery_mac(&self, user_id: &str, typed: &str) -> Option<String> {
        let code = normalise(typed)?;
        let text = Secret::new(format!("{user_id}\n{}", code.expose()));
        Some(hex::encode(self.mac("recovery code", text.expose().as_bytes())))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn codes_differ_and_are_read_as_people_type_them() {
        let codes = generate();
        assert_eq!(codes.len(), CODES);
        let unique: std::collections::HashSet<_> = codes.iter().map(|code| code.expose().to_owned()).collect();
        assert_eq!(unique.len(), CODES);
        let typed = codes[0].expose().to_uppercase().replace('-', " ");
        assert_eq!(normalise(&typed).unwrap(), Secret::new(codes[0].expose().replace('-', "")));
        for bad in ["", "aaaa", "aaaa-aaaa-aaaa-aaa0", "aaaa-aaaa-aaaa-aaaaa"] {
            assert!(normalise(bad).is_none(), "{bad}");
        }
    }
}
