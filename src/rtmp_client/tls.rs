//! Whom an RTMPS connection trusts: what GTlsCertificateFlags ask for is checked, each for itself.

use std::sync::{Arc, OnceLock};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};

use super::Error;

/// GTlsCertificateFlags.
const UNKNOWN_CA: u32 = 1;
const BAD_IDENTITY: u32 = 1 << 1;
const NOT_ACTIVATED: u32 = 1 << 2;
const EXPIRED: u32 = 1 << 3;
const REVOKED: u32 = 1 << 4;
const INSECURE: u32 = 1 << 5;
const GENERIC_ERROR: u32 = 1 << 6;

/// What rustls needs to know. Reads files the first time.
pub(super) fn config(flags: u32) -> Result<Arc<ClientConfig>, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let roots = system_roots();
    let authorities = match roots.is_empty() {
        true => None, // a machine without ca-certificates
        false => {
            let builder = WebPkiServerVerifier::builder_with_provider(roots, provider.clone());
            Some(builder.build().map_err(|error| Error::Tls(error.to_string()))?)
        }
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::of_tls(&error))?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.dangerous().set_certificate_verifier(Arc::new(Verifier { flags, authorities, algorithms }));
    Ok(Arc::new(config))
}

/// Read once: some hundred files. A machine that has none yet is asked again.
fn system_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if let Some(roots) = ROOTS.get() {
        return roots.clone();
    }
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::warn!(%error, "a certificate authority of the system cannot be read");
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(system.certs);
    let roots = Arc::new(roots);
    if !roots.is_empty() {
        let _ = ROOTS.set(roots.clone()); // another connection was faster, with the same
    }
    roots
}

#[derive(Debug)]
struct Verifier {
    flags: u32,
    authorities: Option<Arc<WebPkiServerVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    fn checks(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    fn ignores(&self, error: &rustls::Error) -> bool {
        let rustls::Error::InvalidCertificate(error) = error else { return false };
        !self.checks(flag(error))
    }
}

/// The flag that an error belongs to.
fn flag(error: &CertificateError) -> u32 {
    match error {
        // A bad signature: of somebody with the name of an authority that is known.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => UNKNOWN_CA,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => BAD_IDENTITY,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => NOT_ACTIVATED,
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => EXPIRED,
        CertificateError::Revoked => REVOKED,
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => INSECURE,
        // An authority's own certificate, as `openssl req -x509` makes them: nobody that is known has signed it.
        CertificateError::Other(_) => UNKNOWN_CA,
        _ => GENERIC_ERROR,
    }
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
        let taken = |result: Result<(), rustls::Error>| {
            result.or_else(|error| if self.ignores(&error) { Ok(()) } else { Err(error) })
        };
        // Whoever has signed it, and though the first error hides the others.
        let time = Validity::read(end_entity).map_err(rustls::Error::from);
        let time = match time {
            Ok(time) => {
                taken(time.check(now).map_err(rustls::Error::from))?;
                time.nearest(now)
            }
            Err(error) => {
                taken(Err(error))?;
                now
            }
        };
        let name = ParsedCertificate::try_from(end_entity).and_then(|parsed| verify_server_name(&parsed, server_name));
        taken(name)?;
        let chain = match &self.authorities {
            Some(authorities) => {
                authorities.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, time).map(|_| ())
            }
            None => Err(CertificateError::UnknownIssuer.into()),
        };
        taken(chain)?;
        Ok(ServerCertVerified::assertion())
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

/// From when to when a certificate is valid, in seconds of Unix time.
struct Validity {
    from: u64,
    until: u64,
}

impl Validity {
    fn read(certificate: &CertificateDer<'_>) -> Result<Self, CertificateError> {
        use x509_parser::prelude::FromDer as _;
        let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(certificate)
            .map_err(|_| CertificateError::BadEncoding)?;
        let seconds = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).unwrap_or_default();
        let validity = parsed.validity();
        Ok(Self { from: seconds(validity.not_before), until: seconds(validity.not_after) })
    }

    fn check(&self, now: UnixTime) -> Result<(), CertificateError> {
        match now.as_secs() {
            now if now < self.from => Err(CertificateError::NotValidYet),
            now if now > self.until => Err(CertificateError::Expired),
            _ => Ok(()),
        }
    }

    /// A time at which it is valid, so that the rest can be checked.
    fn nearest(&self, now: UnixTime) -> UnixTime {
        let seconds = now.as_secs().max(self.from).min(self.until);
        UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: u32 = 0x7f;

    struct Case {
        certificate: rcgen::Certificate,
        authority: rcgen::Certificate,
    }

    fn case(name: &str, years: (i32, i32)) -> Case {
        let authority_key = rcgen::KeyPair::generate().unwrap();
        let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority_certificate = authority.self_signed(&authority_key).unwrap();
        let issuer = rcgen::Issuer::new(authority, authority_key);
        let mut params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
        let certificate = params.signed_by(&rcgen::KeyPair::generate().unwrap(), &issuer).unwrap();
        Case { certificate, authority: authority_certificate }
    }

    impl Case {
        /// Whether it passes with these flags; `known`: the authority is one of the system's.
        fn passes(&self, flags: u32, known: bool) -> bool {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let algorithms = provider.signature_verification_algorithms;
            let other = case_authority();
            let mut roots = RootCertStore::empty();
            roots.add(if known { self.authority.der() } else { other.der() }.clone()).unwrap();
            let authorities = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            let verifier = Verifier { flags, authorities: Some(authorities), algorithms };
            let name = ServerName::try_from("localhost").unwrap();
            verifier.verify_server_cert(self.certificate.der(), &[], &name, &[], UnixTime::now()).is_ok()
        }
    }

    fn case_authority() -> rcgen::Certificate {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap()
    }

    #[test]
    fn each_fault_is_found_unless_its_own_flag_is_taken_out() {
        let good = case("localhost", (2000, 4000));
        assert!(good.passes(ALL, true));
        for (what, case, known, flag) in [
            ("unknown", &good, false, UNKNOWN_CA),
            ("another name", &case("elsewhere", (2000, 4000)), true, BAD_IDENTITY),
            ("too early", &case("localhost", (3000, 4000)), true, NOT_ACTIVATED),
            ("too late", &case("localhost", (2000, 2001)), true, EXPIRED),
        ] {
            assert!(!case.passes(ALL, known), "{what}");
            assert!(case.passes(ALL & !flag, known), "{what} is not checked");
            assert!(!case.passes(flag, known), "{what} alone is checked");
            assert!(case.passes(0, known), "{what}, and nothing is checked");
        }
    }

    #[test]
    fn one_fault_does_not_hide_another() {
        let both = case("elsewhere", (2000, 2001));
        for flag in [UNKNOWN_CA, BAD_IDENTITY, EXPIRED] {
            assert!(!both.passes(flag, false), "{flag}");
        }
        assert!(both.passes(ALL & !(UNKNOWN_CA | BAD_IDENTITY | EXPIRED), false));
    }

    #[test]
    fn authority_s_own_certificate_counts_as_signed_by_nobody() {
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let case = Case { certificate, authority: case_authority() };
        assert!(!case.passes(ALL, false));
        assert!(case.passes(ALL & !UNKNOWN_CA, false));
    }

    #[test]
    fn garbage_for_a_certificate_is_refused() {
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        let verifier = Verifier { flags: ALL, authorities: None, algorithms };
        let name = ServerName::try_from("localhost").unwrap();
        let garbage = CertificateDer::from(vec![0x30, 0x82, 1]);
        assert!(verifier.verify_server_cert(&garbage, &[], &name, &[], UnixTime::now()).is_err());
    }
}
