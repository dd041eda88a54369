//! Whom a client trusts: the system's certificate authorities, and the certificates of a file.
//!
//! A certificate of the file is trusted as it is when a server shows just that one, so that self-signed servers work
//! whatever name they are called by; else it counts as an authority.

use std::{path::Path, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
};

use crate::signaling::tls::{BadFile, read};

/// What rustls needs to know; `trusted` is a PEM file.
pub(super) fn config(trusted: Option<&Path>) -> Result<Arc<ClientConfig>, BadFile> {
    let bad = |what: String| BadFile { path: trusted.unwrap_or(Path::new("")).to_owned(), what };
    let mut pinned = Vec::new();
    if let Some(path) = trusted {
        pinned = CertificateDer::pem_slice_iter(&read(path)?)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| bad(format!("not a readable PEM file: {error}")))?;
        if pinned.is_empty() {
            return Err(bad("no certificate in it (-----BEGIN CERTIFICATE-----)".into()));
        }
    }
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::warn!(%error, "a certificate authority of the system cannot be read");
    }
    roots.add_parsable_certificates(system.certs.into_iter().chain(pinned.iter().cloned()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let authorities = match roots.is_empty() {
        true => None, // a machine without ca-certificates; calls without TLS still work
        false => Some(
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .build()
                .map_err(|error| bad(error.to_string()))?,
        ),
    };
    let verifier = Verifier { pinned, authorities, algorithms };
    let mut config = builder(provider).map_err(|error| bad(error.to_string()))?;
    config.dangerous().set_certificate_verifier(Arc::new(verifier));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn builder(provider: Arc<CryptoProvider>) -> Result<ClientConfig, rustls::Error> {
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth())
}

#[derive(Debug)]
struct Verifier {
    pinned: Vec<CertificateDer<'static>>,
    authorities: Option<Arc<WebPkiServerVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.pinned.iter().any(|pinned| pinned == end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        match &self.authorities {
            Some(authorities) => {
                authorities.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            }
            None => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verifier(trusted: &Path) -> Verifier {
        let pinned = CertificateDer::pem_slice_iter(&std::fs::read(trusted).unwrap()).map(Result::unwrap).collect();
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        Verifier { pinned, authorities: None, algorithms }
    }

    #[test]
    fn exactly_the_certificate_of_the_file_is_trusted_by_itself() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cert.pem");
        let make = || rcgen::generate_simple_self_signed(["elsewhere".to_owned()]).unwrap().cert;
        let (ours, other) = (make(), make());
        std::fs::write(&path, ours.pem()).unwrap();
        config(Some(&path)).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let verify = |certificate: &rcgen::Certificate| {
            verifier(&path).verify_server_cert(certificate.der(), &[], &name, &[], UnixTime::now())
        };
        assert!(verify(&ours).is_ok());
        assert!(verify(&other).is_err());
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cert.pem");
        assert!(config(Some(&path)).unwrap_err().what.contains("cannot be read"));
        std::fs::write(&path, "nothing").unwrap();
        assert!(config(Some(&path)).unwrap_err().what.contains("no certificate"));
    }
}
