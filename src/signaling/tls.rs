//! Loads a PEM certificate and key for an HTTPS server, and says which file is wrong and why. When to load them again is
//! `tls_reload`'s business.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    InconsistentKeys, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

/// A certificate chain and its private key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, followed by the intermediate ones.
    pub certificate: PathBuf,
    /// The private key of the first certificate: PKCS#8, PKCS#1 or SEC1, not encrypted.
    pub key: PathBuf,
}

impl TlsFiles {
    /// Whether a server could use them; what is wrong, and with which file.
    pub fn check(&self) -> Result<(), String> {
        load(self).map(drop).map_err(|BadFile { path, what }| format!("{}: {what}", path.display()))
    }
}

/// A file that cannot be used.
#[derive(Debug)]
pub(crate) struct BadFile {
    pub(crate) path: PathBuf,
    pub(crate) what: String,
}

/// Reads both files into a server configuration that speaks HTTP/1.1 over TLS 1.2 and 1.3.
pub(crate) fn load(files: &TlsFiles) -> Result<Arc<ServerConfig>, BadFile> {
    let bad = |path: &Path, what: String| BadFile { path: path.to_owned(), what };

    let pem = read(&files.certificate)?;
    let chain = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| bad(&files.certificate, format!("not a readable PEM file: {e}")))?;
    if chain.is_empty() {
        return Err(bad(&files.certificate, "no certificate in it (-----BEGIN CERTIFICATE-----)".into()));
    }

    let pem = read(&files.key)?;
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
        let encrypted = pem.windows(9).any(|w| w == b"ENCRYPTED");
        bad(
            &files.key,
            match encrypted {
                true => "the private key is encrypted; store it without a passphrase".into(),
                false => "no private key in it (-----BEGIN PRIVATE KEY-----)".into(),
            },
        )
    })?;

    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| bad(&files.key, e.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|e| match e {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => bad(
                &files.key,
                format!("the key does not belong to the certificate in {}", files.certificate.display()),
            ),
            rustls::Error::InvalidCertificate(e) => {
                bad(&files.certificate, format!("the certificate cannot be used: {e:?}"))
            }
            e => bad(&files.key, format!("the key cannot be used: {e}")),
        })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Chains and keys are a few KiB; a device or a log file named by mistake must not fill memory.
const MAX_PEM: u64 = 1024 * 1024;

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, BadFile> {
    let bad = |what: String| BadFile { path: path.to_owned(), what };
    let mut pem = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_PEM + 1).read_to_end(&mut pem))
        .map_err(|e| bad(format!("cannot be read: {e}")))?;
    if pem.len() as u64 > MAX_PEM {
        return Err(bad("larger than 1 MiB, so not a PEM file".into()));
    }
    Ok(pem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    fn files(dir: &Path, certificate: &str, key: &str) -> TlsFiles {
        let files = TlsFiles { certificate: dir.join("cert.pem"), key: dir.join("key.pem") };
        std::fs::write(&files.certificate, certificate).unwrap();
        std::fs::write(&files.key, key).unwrap();
        files
    }

    #[test]
    fn a_matching_pair_loads() {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = pair();
        load(&files(dir.path(), &certificate, &key)).unwrap();
    }

    #[test]
    fn a_wrong_file_is_named_with_what_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = pair();
        let (_, other_key) = pair();
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        for (certificate, key, file, what) in [
            ("", key.as_str(), "cert.pem", "no certificate"),
            (key.as_str(), key.as_str(), "cert.pem", "no certificate"),
            (certificate.as_str(), "", "key.pem", "no private key"),
            (certificate.as_str(), encrypted, "key.pem", "passphrase"),
            (certificate.as_str(), other_key.as_str(), "key.pem", "does not belong"),
        ] {
            let bad = load(&files(dir.path(), certificate, key)).unwrap_err();
            assert!(bad.path.ends_with(file), "{bad:?}");
            assert!(bad.what.contains(what), "{bad:?}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let bad = load(&TlsFiles { certificate: "/nowhere/c.pem".into(), key: "/nowhere/k.pem".into() }).unwrap_err();
        assert!(bad.path.ends_with("c.pem") && bad.what.contains("cannot be read"), "{bad:?}");
    }
}
