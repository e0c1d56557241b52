//! Whose artifacts are taken: keys, signatures, and what to make of them.
//!
//! Policy comes from whoever calls, never from an artifact: nothing here reads a key out of what it judges. A private key
//! is in a type that does not print.
//!
//! Ed25519 (RFC 8032) over the manifest's digest, so that whoever holds the private key signs 64 digits and need not
//! have the artifact.

use std::{fmt, str::FromStr};

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{hex, manifest::FileDigest};

/// Before the digest in what is signed: a signature made for something else is none of a manifest.
const CONTEXT: &str = "flyhot manifest 1 ";

const PUBLIC: &str = "flyhot_public_";
const PRIVATE: &str = "flyhot_private_";

/// A key that signatures are checked with: `flyhot_public_` and 64 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PublicKey([u8; 32]);

/// A key that signs: `flyhot_private_` and 64 hex digits, the seed of RFC 8032, section 5.1.5. It is never printed.
pub struct PrivateKey([u8; 32]);

/// Why a text is no key. It is not shown: it may be a secret in the wrong place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A private key stands where a public one should.
    #[error("a private key stands where a public key should")]
    Private,
    /// A public key stands where a private one should.
    #[error("a public key stands where a private key should")]
    Public,
    /// Neither.
    #[error("what stands there is no key: {expected} and 64 lower-case hex digits")]
    Other {
        /// How such a key begins.
        expected: &'static str,
    },
    /// There is none at all.
    #[error("there is no key in it")]
    None,
    /// The bytes are not a point of the curve, or the like.
    #[error("the key is not one of Ed25519")]
    Rejected,
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PUBLIC}{}", hex::encode(&self.0))
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        if text.starts_with(PRIVATE) {
            return Err(KeyError::Private);
        }
        text.strip_prefix(PUBLIC)
            .and_then(hex::decode)
            .map(Self)
            .ok_or(KeyError::Other { expected: PUBLIC })
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        <std::borrow::Cow<'de, str>>::deserialize(from)?
            .parse()
            .map_err(D::Error::custom)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

impl PrivateKey {
    /// The key of these bytes, which only chance may have made.
    pub fn of_seed(seed: [u8; 32]) -> Self {
        Self(seed)
    }

    /// The key as text, to be written where only its owner reads.
    pub fn expose(&self) -> String {
        format!("{PRIVATE}{}", hex::encode(&self.0))
    }

    /// Reads what [`PrivateKey::expose`] gave; white space around it is passed over.
    ///
    /// # Errors
    /// [`KeyError`]: without the text.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(KeyError::None);
        }
        if text.starts_with(PUBLIC) {
            return Err(KeyError::Public);
        }
        text.strip_prefix(PRIVATE)
            .and_then(hex::decode)
            .map(Self)
            .ok_or(KeyError::Other { expected: PRIVATE })
    }

    /// The key that checks what this one signs.
    ///
    /// # Errors
    /// [`KeyError::Rejected`]: the library refuses the seed; it takes any.
    pub fn public(&self) -> Result<PublicKey, KeyError> {
        let pair = self.pair()?;
        let bytes = pair.public_key().as_ref().try_into();
        bytes.map(PublicKey).map_err(|_| KeyError::Rejected)
    }

    /// Signs a manifest by its digest.
    ///
    /// # Errors
    /// [`KeyError::Rejected`]: as of [`PrivateKey::public`].
    pub fn sign(&self, manifest: FileDigest) -> Result<Signature, KeyError> {
        let signed = self.pair()?.sign(message(manifest).as_bytes());
        Ok(Signature {
            manifest,
            key: self.public()?,
            signature: signed.as_ref().try_into().map_err(|_| KeyError::Rejected)?,
        })
    }

    fn pair(&self) -> Result<Ed25519KeyPair, KeyError> {
        Ed25519KeyPair::from_seed_unchecked(&self.0).map_err(|_| KeyError::Rejected)
    }
}

fn message(manifest: FileDigest) -> String {
    format!("{CONTEXT}{manifest}")
}

/// A signature, as it is kept beside an artifact and in a pointer: JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// The sha256 of the manifest that was signed.
    pub manifest: FileDigest,
    /// The key that checks it. Whether it is trusted, the machine says.
    pub key: PublicKey,
    #[serde(with = "hex")]
    signature: [u8; 64],
}

/// The public keys that a machine trusts; without any it takes everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    keys: Vec<PublicKey>,
}

/// Why an artifact was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trusted {
    /// A trusted key signed it.
    By(PublicKey),
    /// No key is configured.
    Anyway,
}

/// Why an artifact is not trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// It has no signature.
    #[error("it is not signed, and this machine takes only what one of its public keys signed")]
    Unsigned,
    /// The signature is of another artifact.
    #[error("its signature is of the manifest {signed}, and it has the manifest {found}")]
    OtherManifest {
        /// What was signed.
        signed: FileDigest,
        /// What is there.
        found: FileDigest,
    },
    /// The key that signed it is not among the trusted ones.
    #[error("it is signed by {0}, which is none of this machine's public keys")]
    Stranger(PublicKey),
    /// The signature was not made by the key that it names.
    #[error("its signature is not one of {0}")]
    Forged(PublicKey),
}

impl Trust {
    /// Public keys as text, separated by white space or commas; a line that begins with `#` is a remark.
    ///
    /// # Errors
    /// [`KeyError`]: one is no public key, or there is none at all. What was found is not shown.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let keys = text
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'))
            .flat_map(|line| line.split(|c: char| c == ',' || c.is_whitespace()))
            .filter(|word| !word.is_empty())
            .map(str::parse)
            .collect::<Result<Vec<PublicKey>, _>>()?;
        if keys.is_empty() {
            return Err(KeyError::None);
        }
        Ok(Self { keys })
    }

    /// How many keys are trusted; 0: everything is taken.
    pub fn keys(&self) -> usize {
        self.keys.len()
    }

    /// Whether the artifact of this manifest is taken.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn judge(&self, manifest: FileDigest, signature: Option<&Signature>) -> Result<Trusted, TrustError> {
        if self.keys.is_empty() {
            return Ok(Trusted::Anyway);
        }
        let signature = signature.ok_or(TrustError::Unsigned)?;
        if signature.manifest != manifest {
            return Err(TrustError::OtherManifest {
                signed: signature.manifest,
                found: manifest,
            });
        }
        let key = signature.key;
        if !self.keys.contains(&key) {
            return Err(TrustError::Stranger(key));
        }
        UnparsedPublicKey::new(&ED25519, key.0)
            .verify(message(manifest).as_bytes(), &signature.signature)
            .map_err(|_| TrustError::Forged(key))?;
        Ok(Trusted::By(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(of: u8) -> PrivateKey {
        PrivateKey::of_seed([of; 32])
    }

    fn trust(keys: &[&PrivateKey]) -> Trust {
        let text: Vec<_> = keys.iter().map(|key| key.public().unwrap().to_string()).collect();
        Trust::parse(&text.join("\n")).unwrap()
    }

    #[test]
    fn the_pair_is_that_of_rfc_8032() {
        // Section 7.1, TEST 1.
        let private = PrivateKey::parse(
            "flyhot_private_9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60\n",
        )
        .unwrap();
        assert_eq!(
            private.public().unwrap().to_string(),
            "flyhot_public_d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
        );
    }

    #[test]
    fn a_machine_takes_what_one_of_its_keys_signed_and_nothing_else() {
        let manifest = FileDigest::of(b"manifest");
        let (old, new, stranger) = (key(1), key(2), key(3));
        let both = trust(&[&old, &new]);
        for private in [&old, &new] {
            let signature = private.sign(manifest).unwrap();
            let by = private.public().unwrap();
            assert_eq!(both.judge(manifest, Some(&signature)), Ok(Trusted::By(by)));
        }
        let signature = stranger.sign(manifest).unwrap();
        assert_eq!(both.judge(manifest, None), Err(TrustError::Unsigned));
        assert_eq!(
            both.judge(manifest, Some(&signature)),
            Err(TrustError::Stranger(stranger.public().unwrap()))
        );
        let other = FileDigest::of(b"other");
        assert_eq!(
            both.judge(other, Some(&old.sign(manifest).unwrap())),
            Err(TrustError::OtherManifest {
                signed: manifest,
                found: other
            })
        );
        // A stranger's signature under a trusted name, and one bit of a good one.
        let by = old.public().unwrap();
        let mut forged = signature;
        forged.key = by;
        assert_eq!(both.judge(manifest, Some(&forged)), Err(TrustError::Forged(by)));
        for bit in [0, 200, 511] {
            let mut bent = old.sign(manifest).unwrap();
            bent.signature[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(both.judge(manifest, Some(&bent)), Err(TrustError::Forged(by)));
        }
        // After the old key was taken away.
        let signature = old.sign(manifest).unwrap();
        assert_eq!(
            trust(&[&new]).judge(manifest, Some(&signature)),
            Err(TrustError::Stranger(by))
        );
        assert_eq!(Trust::default().judge(manifest, None), Ok(Trusted::Anyway));
    }

    #[test]
    fn keys_in_the_wrong_place_are_told_and_not_shown() {
        let private = key(1);
        let public = private.public().unwrap().to_string();
        assert_eq!(Trust::parse(&private.expose()), Err(KeyError::Private));
        assert_eq!(PrivateKey::parse(&public).unwrap_err(), KeyError::Public);
        for text in ["", " \n", "# a remark\n"] {
            assert_eq!(Trust::parse(text), Err(KeyError::None), "{text:?}");
        }
        let bare = "1".repeat(64);
        let error = Trust::parse(&bare).unwrap_err();
        assert_eq!(error, KeyError::Other { expected: PUBLIC });
        assert!(!error.to_string().contains(&bare));
        assert!(!format!("{private:?}").contains("01"));
        let many = format!("# ours\n{public},{public}\n\t{public}\n");
        assert_eq!(Trust::parse(&many).unwrap().keys(), 3);
    }

    #[test]
    fn a_signature_is_read_as_it_was_written() {
        let signature = key(1).sign(FileDigest::of(b"manifest")).unwrap();
        let text = serde_json::to_string(&signature).unwrap();
        assert_eq!(serde_json::from_str::<Signature>(&text).unwrap(), signature);
    }
}
