//! The signatures of JWTs, by ring: what `jsonwebtoken` wants as its cryptography. HS256, RS256 and ES256, to verify only.

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind,
    crypto::{CryptoProvider, JwtVerifier, KeyUtils},
    errors::{Error, ErrorKind},
    signature,
};
use ring::{
    hmac,
    signature::{ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey},
};

/// Makes it what `jsonwebtoken` uses. A program that has installed another one keeps it, which does as well.
pub(crate) fn install() {
    static RING: CryptoProvider = CryptoProvider {
        signer_factory: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
        verifier_factory: |algorithm, key| Ok(Box::new(RingVerifier::new(*algorithm, key)?)),
        key_utils: KeyUtils::new_unimplemented(), // for making JWKs only
    };
    let _ = RING.install_default();
}

struct RingVerifier {
    algorithm: Algorithm,
    key: Key,
}

enum Key {
    Hmac(hmac::Key),
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
    Ec(UnparsedPublicKey<Vec<u8>>),
}

impl RingVerifier {
    /// A key of one family is never used with an algorithm of another.
    fn new(algorithm: Algorithm, key: &DecodingKey) -> Result<Self, Error> {
        let key = match (algorithm, key.family(), key.kind()) {
            (Algorithm::HS256, AlgorithmFamily::Hmac, DecodingKeyKind::SecretOrDer(secret)) => {
                Key::Hmac(hmac::Key::new(hmac::HMAC_SHA256, secret))
            }
            (Algorithm::RS256, AlgorithmFamily::Rsa, DecodingKeyKind::RsaModulusExponent { n, e }) => {
                Key::Rsa(RsaPublicKeyComponents { n: n.clone(), e: e.clone() })
            }
            (Algorithm::ES256, AlgorithmFamily::Ec, DecodingKeyKind::SecretOrDer(point)) => {
                Key::Ec(UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point.clone()))
            }
            _ => return Err(ErrorKind::InvalidKeyFormat.into()),
        };
        Ok(Self { algorithm, key })
    }
}

impl signature::Verifier<Vec<u8>> for RingVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        match &self.key {
            Key::Hmac(key) => hmac::verify(key, message, signature), // in constant time
            Key::Rsa(key) => key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature),
            Key::Ec(key) => key.verify(message, signature),
        }
        .map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
