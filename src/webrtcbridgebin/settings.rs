//! Properties as they are set, and what READY→PAUSED makes of them.

use std::{path::Path, sync::Arc, time::Duration};

use crate::{
    bridge::{Description, IceTransportPolicy, Observer, ServerConfig, SessionBuilder, properties, reach},
    channel::ChannelLimits,
    session::CodecPreferences,
    signaling::{Access, AllowedOrigins, Audience, Authorizer, TlsFiles, client::HttpUrl},
};

/// The properties as they are set.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) listen: String,
    pub(super) session: String,
    pub(super) max_channels: u32,
    pub(super) channel_ttl: u32,
    pub(super) max_sessions: u32,
    pub(super) max_viewers: u32,
    pub(super) p2p_viewers: u32,
    pub(super) publish_token: Option<String>,
    pub(super) view_token: Option<String>,
    pub(super) admin_token: Option<String>,
    pub(super) jwt_secret: Option<String>,
    pub(super) jwks_uri: Option<String>,
    pub(super) auth_url: Option<String>,
    pub(super) allowed_origins: gst::Array,
    pub(super) trusted_proxies: gst::Array,
    pub(super) tls_certificate: Option<String>,
    pub(super) tls_key: Option<String>,
    pub(super) stun_server: Option<String>,
    pub(super) turn_servers: gst::Array,
    pub(super) ice_udp_port: u32,
    pub(super) ice_udp_port_range: Option<String>,
    pub(super) public_addresses: gst::Array,
    pub(super) ice_tcp: bool,
    pub(super) ice_transport_policy: IceTransportPolicy,
    pub(super) video_codecs: gst::Array,
    pub(super) audio_codecs: gst::Array,
    pub(super) max_bitrate: u32,
    pub(super) connect_timeout: u32,
    pub(super) page: bool,
}

impl Default for Settings {
    fn default() -> Self {
        let CodecPreferences { video, audio } = CodecPreferences::default();
        Self {
            listen: "127.0.0.1:8080".into(),
            session: String::new(),
            max_channels: 100,
            channel_ttl: 3600,
            max_sessions: 100,
            max_viewers: 1000,
            p2p_viewers: 0,
            publish_token: None,
            view_token: None,
            admin_token: None,
            jwt_secret: None,
            jwks_uri: None,
            auth_url: None,
            allowed_origins: gst::Array::default(),
            trusted_proxies: gst::Array::default(),
            tls_certificate: None,
            tls_key: None,
            stun_server: None,
            turn_servers: gst::Array::default(),
            ice_udp_port: 0,
            ice_udp_port_range: None,
            public_addresses: gst::Array::default(),
            ice_tcp: false,
            ice_transport_policy: IceTransportPolicy::All,
            video_codecs: properties::codec_names(video),
            audio_codecs: properties::codec_names(audio),
            max_bitrate: 0,
            connect_timeout: 10_000,
            page: true,
        }
    }
}

impl Settings {
    /// Tries the description, if there is one.
    pub(super) fn description(&self) -> Result<Option<Description>, String> {
        match self.session.trim() {
            "" => Ok(None),
            text => Description::parse(text).map(Some).map_err(|error| format!("session: {error}")),
        }
    }

    /// Checks everything else; the error says which property is wrong, why, and what to do.
    pub(super) fn resolve(
        &self,
        session: Arc<dyn SessionBuilder>,
        observer: Arc<dyn Observer>,
        authorizer: Option<Arc<dyn Authorizer>>,
    ) -> Result<ServerConfig, String> {
        let ice_servers = properties::ice_servers(self.stun_server.as_deref(), &self.turn_servers)?;
        Ok(ServerConfig {
            listen: self.listen.parse().map_err(|error| format!("listen: {error}"))?,
            tls: self.tls(Path::new("."))?,
            access: Access {
                publish_token: secret("publish-token", &self.publish_token)?,
                view_token: secret("view-token", &self.view_token)?,
                admin_token: secret("admin-token", &self.admin_token)?,
                jwt_secret: secret("jwt-secret", &self.jwt_secret)?,
                jwks_uri: url("jwks-uri", &self.jwks_uri)?,
                auth_url: url("auth-url", &self.auth_url)?,
                authorizer,
                allowed_origins: self.origins()?,
                trusted_proxies: properties::trusted_proxies(&self.trusted_proxies)?,
            },
            reach: reach::config(&ice_servers, self.ice_tcp, self.ice_transport_policy)?,
            ice_servers,
            udp_ports: properties::udp_ports(self.ice_udp_port, self.ice_udp_port_range.as_deref())?,
            public_addresses: properties::addresses(&self.public_addresses)?,
            codecs: properties::codecs(&self.video_codecs, &self.audio_codecs)?,
            max_bitrate: self.max_bitrate,
            connect_timeout: Duration::from_millis(self.connect_timeout.into()),
            channels: ChannelLimits {
                max_channels: usize::try_from(self.max_channels).unwrap_or(usize::MAX),
                ttl: Duration::from_secs(self.channel_ttl.into()),
            },
            max_sessions: usize::try_from(self.max_sessions).unwrap_or(usize::MAX),
            audience: Audience { max_viewers: self.max_viewers, p2p_viewers: self.p2p_viewers },
            page: self.page,
            session,
            observer,
        })
    }

    fn origins(&self) -> Result<AllowedOrigins, String> {
        let origins: Vec<String> =
            properties::strings("allowed-origins", &self.allowed_origins).collect::<Result<_, _>>()?;
        let origins = origins.iter().map(String::as_str).filter(|origin| !origin.is_empty());
        AllowedOrigins::parse(origins).map_err(|error| format!("allowed-origins: {error}"))
    }

    /// The files that are set, or those that lie in the working directory.
    fn tls(&self, working_directory: &Path) -> Result<Option<TlsFiles>, String> {
        let set = |file: &Option<String>| file.clone().filter(|file| !file.is_empty());
        match (set(&self.tls_certificate), set(&self.tls_key)) {
            (Some(certificate), Some(key)) => Ok(Some(properties::tls_files(&certificate, &key))),
            (Some(_), None) => Err("tls-certificate is set and tls-key is not: set both".into()),
            (None, Some(_)) => Err("tls-key is set and tls-certificate is not: set both".into()),
            (None, None) => {
                let [certificate, key] = ["cert.pem", "key.pem"].map(|name| working_directory.join(name));
                Ok((certificate.is_file() && key.is_file()).then_some(TlsFiles { certificate, key }))
            }
        }
    }
}

/// An empty one is a variable that was not set, and would open what it is to close.
fn secret(property: &str, text: &Option<String>) -> Result<Option<String>, String> {
    match text.as_deref() {
        Some("") => Err(format!("{property} is empty: set it to what shall be asked for, or leave it out")),
        _ => Ok(text.clone()),
    }
}

/// The URL itself is left out of the error, as it may hold a key.
fn url(property: &str, text: &Option<String>) -> Result<Option<HttpUrl>, String> {
    let text = secret(property, text)?;
    text.map(|text| text.parse().map_err(|error| format!("{property}: {error}"))).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nobody;

    impl Observer for Nobody {
        fn session(&self, _: &crate::bridge::SessionChange) {}
    }

    fn error(change: impl FnOnce(&mut Settings)) -> String {
        gst::init().unwrap();
        let mut settings = Settings::default();
        change(&mut settings);
        settings.resolve(ServerConfig::default().session, Arc::new(Nobody), None).err().unwrap_or_default()
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(error(|_| {}), "");
        assert!(error(|s| s.listen = "8080".into()).starts_with("listen: \"8080\" is no HOST:PORT"));
        assert!(error(|s| s.tls_key = Some("k".into())).contains("tls-certificate is not"));
        assert!(error(|s| s.video_codecs = gst::Array::new(["H266"])).contains("\"H266\""));
        assert!(error(|s| s.ice_udp_port_range = Some("2-1".into())).contains("ice-udp-port-range"));
        assert!(error(|s| s.auth_url = Some("ftp://h?s3cret".into())).starts_with("auth-url: it must begin with http"));
        assert!(error(|s| s.allowed_origins = gst::Array::new(["nonsense"])).starts_with("allowed-origins: "));
        assert!(error(|s| s.trusted_proxies = gst::Array::new(["nginx"])).starts_with("trusted-proxies: \"nginx\""));
        assert!(error(|s| s.turn_servers = gst::Array::new(["stun://h"])).contains("turn-servers"));
    }

    #[test]
    fn an_empty_secret_is_named_and_opens_nothing() {
        let empty = || Some(String::new());
        assert!(error(|s| s.publish_token = empty()).starts_with("publish-token is empty"));
        assert!(error(|s| s.view_token = empty()).starts_with("view-token is empty"));
        assert!(error(|s| s.admin_token = empty()).starts_with("admin-token is empty"));
        assert!(error(|s| s.jwt_secret = empty()).starts_with("jwt-secret is empty"));
        assert!(error(|s| s.jwks_uri = empty()).starts_with("jwks-uri is empty"));
        assert!(error(|s| s.auth_url = empty()).starts_with("auth-url is empty"));
    }

    #[test]
    fn a_pair_in_the_working_directory_is_taken_when_none_is_set() {
        gst::init().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings::default();
        assert_eq!(settings.tls(dir.path()).unwrap(), None);
        std::fs::write(dir.path().join("cert.pem"), "").unwrap();
        assert_eq!(settings.tls(dir.path()).unwrap(), None, "half a pair");
        std::fs::write(dir.path().join("key.pem"), "").unwrap();
        assert_eq!(settings.tls(dir.path()).unwrap().unwrap().certificate, dir.path().join("cert.pem"));
        let set = Settings { tls_certificate: Some("a".into()), tls_key: Some("b".into()), ..settings };
        assert_eq!(set.tls(dir.path()).unwrap().unwrap().certificate, Path::new("a"));
    }
}
