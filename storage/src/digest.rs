//! Hashing while streaming, with a state that can be stored and taken up again by another process.
//!
//! AWS-LC has the fastest digests for each CPU, and its C context is a plain struct: hash words, length and the last
//! partial block. This is the only file of the workspace with `unsafe`: six calls into AWS-LC, each with a context that
//! this file initialised and owns. The crate is pinned to one version, and the tests check every split point of a
//! message against `aws-lc-rs`'s safe one-shot digest.
#![allow(unsafe_code)]

use aws_lc_sys as ffi;

use crate::error::{Error, Result};
use crate::names::{Algorithm, Digest};

/// A running digest.
#[derive(Clone)]
pub struct Hasher(Context);

#[derive(Clone)]
enum Context {
    Sha256(Box<ffi::SHA256_CTX>),
    Sha512(Box<ffi::SHA512_CTX>),
}

/// First byte of a stored state: the layout's version. Anything else is refused.
const STATE_VERSION: u8 = 1;

impl Hasher {
    /// Begins a digest of no bytes.
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha256 => {
                let mut context = Box::new(empty_sha256());
                // SAFETY: the pointer is to a live context of the type that the function initialises.
                unsafe { ffi::SHA256_Init(&raw mut *context) };
                Context::Sha256(context)
            }
            Algorithm::Sha512 => {
                let mut context = Box::new(empty_sha512());
                // SAFETY: as above.
                unsafe { ffi::SHA512_Init(&raw mut *context) };
                Context::Sha512(context)
            }
        })
    }

    /// The algorithm.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        match self.0 {
            Context::Sha256(_) => Algorithm::Sha256,
            Context::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            // SAFETY: the context was initialised by `new` or `restore`; pointer and length are of one live slice.
            Context::Sha256(c) => unsafe { ffi::SHA256_Update(&raw mut **c, bytes.as_ptr().cast(), bytes.len()) },
            // SAFETY: as above.
            Context::Sha512(c) => unsafe { ffi::SHA512_Update(&raw mut **c, bytes.as_ptr().cast(), bytes.len()) },
        };
    }

    /// The digest of all bytes taken in.
    #[must_use]
    pub fn finish(mut self) -> Digest {
        match &mut self.0 {
            Context::Sha256(c) => {
                let mut out = [0u8; 32];
                // SAFETY: `out` has the 32 bytes that the function writes.
                unsafe { ffi::SHA256_Final(out.as_mut_ptr(), &raw mut **c) };
                Digest::from_hash(Algorithm::Sha256, &out)
            }
            Context::Sha512(c) => {
                let mut out = [0u8; 64];
                // SAFETY: `out` has the 64 bytes that the function writes.
                unsafe { ffi::SHA512_Final(out.as_mut_ptr(), &raw mut **c) };
                Digest::from_hash(Algorithm::Sha512, &out)
            }
        }
    }

    /// The state after the bytes taken in so far, for [`Hasher::restore`]: version, algorithm, hash words, bit count and
    /// the partial block.
    #[must_use]
    pub fn save(&self) -> Vec<u8> {
        let mut out = vec![STATE_VERSION];
        match &self.0 {
            Context::Sha256(c) => {
                out.push(0);
                c.h.iter().for_each(|w| out.extend(w.to_be_bytes()));
                out.extend(c.Nh.to_be_bytes());
                out.extend(c.Nl.to_be_bytes());
                out.extend(&c.data[..c.num as usize]);
            }
            Context::Sha512(c) => {
                out.push(1);
                c.h.iter().for_each(|w| out.extend(w.to_be_bytes()));
                out.extend(c.Nh.to_be_bytes());
                out.extend(c.Nl.to_be_bytes());
                out.extend(&c.p[..c.num as usize]);
            }
        }
        out
    }

    /// Takes a stored state up again. `received` is how many bytes it must have taken in.
    ///
    /// # Errors
    /// [`Error::Damaged`] where the state is not one that [`Hasher::save`] wrote after exactly `received` bytes.
    pub fn restore(state: &[u8], received: u64) -> Result<Self> {
        let damaged = || Error::Damaged("the stored hash state of an upload is not readable".into());
        let (&[version, kind], body) = state.split_first_chunk::<2>().ok_or_else(damaged)?;
        if version != STATE_VERSION {
            return Err(damaged());
        }
        let mut hasher = Self::new(if kind == 0 { Algorithm::Sha256 } else { Algorithm::Sha512 });
        match &mut hasher.0 {
            Context::Sha256(c) => {
                let (words, partial) = body.split_at_checked(4 * 10).ok_or_else(damaged)?;
                let mut words = words.chunks_exact(4).map(|w| u32::from_be_bytes([w[0], w[1], w[2], w[3]]));
                c.h.iter_mut().zip(&mut words).for_each(|(to, from)| *to = from);
                c.Nh = words.next().ok_or_else(damaged)?;
                c.Nl = words.next().ok_or_else(damaged)?;
                let bits = (u64::from(c.Nh) << 32) | u64::from(c.Nl);
                if bits != received.wrapping_mul(8) || partial.len() as u64 != received % 64 {
                    return Err(damaged());
                }
                c.data[..partial.len()].copy_from_slice(partial);
                c.num = u32::try_from(partial.len()).map_err(|_| damaged())?;
            }
            Context::Sha512(c) => {
                let (words, partial) = body.split_at_checked(8 * 10).ok_or_else(damaged)?;
                let mut words =
                    words.chunks_exact(8).map(|w| u64::from_be_bytes([w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7]]));
                c.h.iter_mut().zip(&mut words).for_each(|(to, from)| *to = from);
                c.Nh = words.next().ok_or_else(damaged)?;
                c.Nl = words.next().ok_or_else(damaged)?;
                if c.Nl != received.wrapping_mul(8) || c.Nh != 0 || partial.len() as u64 != received % 128 {
                    return Err(damaged());
                }
                c.p[..partial.len()].copy_from_slice(partial);
                c.num = u32::try_from(partial.len()).map_err(|_| damaged())?;
            }
        }
        Ok(hasher)
    }
}

impl std::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hasher({})", self.algorithm().as_str())
    }
}

fn empty_sha256() -> ffi::SHA256_CTX {
    ffi::SHA256_CTX { h: [0; 8], Nl: 0, Nh: 0, data: [0; 64], num: 0, md_len: 0 }
}

fn empty_sha512() -> ffi::SHA512_CTX {
    ffi::SHA512_CTX { h: [0; 8], Nl: 0, Nh: 0, p: [0; 128], num: 0, md_len: 0 }
}

/// The digest of bytes in memory.
#[must_use]
pub fn digest_of(algorithm: Algorithm, bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::new(algorithm);
    hasher.update(bytes);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use aws_lc_rs::digest as safe;

    fn reference(algorithm: Algorithm, bytes: &[u8]) -> Digest {
        let which = if algorithm == Algorithm::Sha256 { &safe::SHA256 } else { &safe::SHA512 };
        Digest::from_hash(algorithm, safe::digest(which, bytes).as_ref())
    }

    #[test]
    fn a_state_saved_at_any_split_gives_the_same_digest() {
        let message: Vec<u8> = (0..400u32).map(|i| (i * 7 % 251) as u8).collect();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let expected = reference(algorithm, &message);
            for split in 0..=message.len() {
                let mut first = Hasher::new(algorithm);
                first.update(&message[..split]);
                let mut second = Hasher::restore(&first.save(), split as u64).unwrap();
                assert_eq!(second.algorithm(), algorithm);
                second.update(&message[split..]);
                assert_eq!(second.finish(), expected, "split at {split}");
            }
        }
    }

    #[test]
    fn a_state_of_another_length_or_layout_is_refused() {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(b"hello");
        let state = hasher.save();
        assert!(Hasher::restore(&state, 4).is_err());
        assert!(Hasher::restore(&state[..state.len() - 1], 5).is_err());
        assert!(Hasher::restore(&[9, 0, 0], 0).is_err());
        assert!(Hasher::restore(&[], 0).is_err());
    }

    proptest::proptest! {
        #[test]
        fn agrees_with_the_safe_digest(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..3000), split in 0usize..3000) {
            let split = split.min(bytes.len());
            for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
                let mut hasher = Hasher::new(algorithm);
                hasher.update(&bytes[..split]);
                let mut hasher = Hasher::restore(&hasher.save(), split as u64).unwrap();
                hasher.update(&bytes[split..]);
                proptest::prop_assert_eq!(hasher.finish(), reference(algorithm, &bytes));
            }
        }
    }
}
