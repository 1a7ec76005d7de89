//! Bytes that nobody has seen before: each blob is named by a seed, and any part of it can be made anew.

use aws_lc_rs::digest::{Context, SHA256};

/// Bytes made, hashed or sent at a time; they stay in the second-level cache.
pub(crate) const PIECE: usize = 256 << 10;

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// A bijection whose outputs look random (`SplitMix64`).
pub(crate) fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// Incompressible bytes: the word at `n` is a function of the seed and `n` alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Noise {
    pub(crate) seed: u64,
    pub(crate) length: u64,
}

impl Noise {
    /// The noise of a seed; neighbouring seeds have nothing in common.
    pub(crate) fn new(seed: u64, length: u64) -> Self {
        Self { seed: mix(seed.wrapping_add(GOLDEN)), length }
    }

    /// Fills `buffer` with the bytes from `offset` on, which is a multiple of eight; how many there are.
    pub(crate) fn fill(&self, offset: u64, buffer: &mut [u8]) -> usize {
        debug_assert_eq!(offset % 8, 0, "words begin at multiples of eight");
        let left = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let count = buffer.len().min(left);
        let mut state = self.seed.wrapping_add((offset / 8).wrapping_mul(GOLDEN));
        let mut words = buffer[..count].chunks_exact_mut(8);
        for word in &mut words {
            word.copy_from_slice(&mix(state).to_le_bytes());
            state = state.wrapping_add(GOLDEN);
        }
        let rest = words.into_remainder();
        let last = mix(state).to_le_bytes();
        rest.copy_from_slice(&last[..rest.len()]);
        count
    }

    /// All of it, for small blobs.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut all = vec![0; usize::try_from(self.length).unwrap_or(usize::MAX)];
        self.fill(0, &mut all);
        all
    }

    /// `sha256:…` of all of it.
    pub(crate) fn digest(&self) -> String {
        let mut context = Context::new(&SHA256);
        let mut piece = vec![0; PIECE];
        let mut offset = 0;
        while offset < self.length {
            let count = self.fill(offset, &mut piece);
            context.update(&piece[..count]);
            offset += count as u64;
        }
        named(context)
    }
}

fn named(context: Context) -> String {
    format!("sha256:{}", hex::encode(context.finish()))
}

/// `sha256:…` of bytes in memory.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    let mut context = Context::new(&SHA256);
    context.update(bytes);
    named(context)
}

/// A blob to push: what it is, and its digest, computed before anything is timed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blob {
    pub(crate) noise: Noise,
    pub(crate) digest: String,
}

impl Blob {
    pub(crate) fn new(seed: u64, length: u64) -> Self {
        let noise = Noise::new(seed, length);
        let digest = noise.digest();
        Self { noise, digest }
    }
}

/// Many blobs of one size, hashed on all cores.
pub(crate) fn blobs(seed: u64, count: u64, length: u64) -> Vec<Blob> {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64).min(count.max(1));
    let first = mix(seed);
    let mut made: Vec<(u64, Blob)> = std::thread::scope(|scope| {
        let part = |thread: u64| {
            (thread..count)
                .step_by(usize::try_from(threads).unwrap_or(1))
                .map(|index| (index, Blob::new(first.wrapping_add(index), length)))
                .collect::<Vec<_>>()
        };
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || part(thread))).collect();
        running.into_iter().filter_map(|each| each.join().ok()).flatten().collect()
    });
    made.sort_by_key(|(index, _)| *index);
    made.into_iter().map(|(_, blob)| blob).collect()
}

/// A number that no run before this one began with.
pub(crate) fn fresh_seed() -> anyhow::Result<u64> {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| anyhow::anyhow!("the system has no randomness"))?;
    Ok(u64::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn any_part_of_a_blob_is_the_same_as_in_the_whole() {
        let noise = Noise::new(7, 1003);
        let all = noise.bytes();
        assert_eq!(all.len(), 1003);
        for (offset, length) in [(0, 16), (8, 99), (800, 203), (1000, 3)] {
            let mut part = vec![0; length];
            assert_eq!(noise.fill(offset as u64, &mut part), length);
            assert_eq!(part, all[offset..offset + length]);
        }
        let mut beyond = [0; 16];
        assert_eq!(noise.fill(1000, &mut beyond), 3, "there is nothing behind the end");
    }

    #[test]
    fn the_digest_is_that_of_the_bytes() {
        for length in [0, 5, PIECE as u64, PIECE as u64 * 2 + 17] {
            let noise = Noise::new(3, length);
            assert_eq!(noise.digest(), sha256(&noise.bytes()));
        }
        assert_eq!(sha256(b""), "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }

    #[test]
    fn no_two_blobs_share_a_word() {
        let mut seen = std::collections::HashSet::new();
        for blob in blobs(1, 64, 4096) {
            for word in blob.noise.bytes().chunks(8) {
                assert!(seen.insert(word.to_vec()), "a word came twice");
            }
        }
        assert_ne!(blobs(1, 1, 64), blobs(2, 1, 64));
    }

    #[test]
    fn every_bit_is_set_half_of_the_time() {
        let mut ones = [0u32; 64];
        for word in Noise::new(11, 8 * 4096).bytes().chunks_exact(8) {
            let word = u64::from_le_bytes(word.try_into().unwrap());
            for (bit, count) in ones.iter_mut().enumerate() {
                *count += u32::from(word >> bit & 1 == 1);
            }
        }
        assert!(ones.iter().all(|count| (1800..2300).contains(count)), "{ones:?}");
    }
}
