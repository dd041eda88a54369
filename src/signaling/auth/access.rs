//! Who may do what on a bridge server: a token for each role, each channel's own key, JWTs, and others who are asked.
//!
//! They are tried in this order, and the first yes counts: the role's token or the admin's; the channel's stream key; what
//! is open to all; a JWT; the application ([`Authorizer`]); the service at `auth_url`. A JWT that is genuine and for
//! something else, or out of time, is refused without asking further.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use tokio::time::Instant;

use super::{
    Ask, Authorizer, Denied, Door, Gate, Role, application,
    counters::AuthCounters,
    failures::Patient,
    jwt::{Finding, Jwt},
    token::RequiredToken,
    webhook::{Said, TIMEOUT, Webhook},
};
use crate::{
    channel::{Credential, KeyFit, Registry},
    signaling::{
        client::{Fetcher, HttpUrl},
        forwarded::TrustedProxies,
        origin::AllowedOrigins,
        problem::Refusal,
    },
};

/// What to ask for. With nothing set for a role everybody has it, but for channels with a key of their own, and but for
/// [`Role::Admin`], which this machine alone has then.
#[derive(Clone, Default)]
pub struct Access {
    /// For publishing.
    pub publish_token: Option<String>,
    /// For watching.
    pub view_token: Option<String>,
    /// For everything.
    pub admin_token: Option<String>,
    /// Signs JWTs (HS256), which are then needed for publishing and watching.
    pub jwt_secret: Option<String>,
    /// Where the public keys are that JWTs are signed with (RS256, ES256), with the same effect.
    pub jwks_uri: Option<HttpUrl>,
    /// A service that decides about requests which no token explains.
    pub auth_url: Option<HttpUrl>,
    /// The application, when it decides about them.
    pub authorizer: Option<Arc<dyn Authorizer>>,
    /// Which pages may use the server beside its own.
    pub allowed_origins: AllowedOrigins,
    /// Proxies whose word on the address of a client is taken.
    pub trusted_proxies: TrustedProxies,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |secret: &Option<String>| secret.as_ref().map(|_| "***");
        f.debug_struct("Access")
            .field("publish_token", &shown(&self.publish_token))
            .field("view_token", &shown(&self.view_token))
            .field("admin_token", &shown(&self.admin_token))
            .field("jwt_secret", &shown(&self.jwt_secret))
            .field("jwks_uri", &self.jwks_uri)
            .field("auth_url", &self.auth_url)
            .field("authorizer", &self.authorizer.as_ref().map(|_| "…"))
            .field("allowed_origins", &self.allowed_origins)
            .field("trusted_proxies", &self.trusted_proxies)
            .finish()
    }
}

impl Access {
    /// What asks for it; an error says what of this machine is missing.
    pub(crate) fn gate(
        self,
        registry: Arc<dyn Registry>,
        counters: Arc<AuthCounters>,
    ) -> Result<Arc<dyn Gate>, String> {
        let token = |token: Option<String>| token.as_deref().map(RequiredToken::new);
        let fetcher = match self.jwks_uri.is_some() || self.auth_url.is_some() {
            true => Some(Fetcher::new()?),
            false => None,
        };
        let mut jwt = match self.jwt_secret.is_some() || self.jwks_uri.is_some() {
            true => Some(Jwt::new(self.jwt_secret.as_deref())),
            false => None,
        };
        if let (Some(url), Some(fetcher)) = (self.jwks_uri, &fetcher) {
            jwt = jwt.map(|jwt| jwt.with_provider(url, fetcher.clone(), counters.clone()));
        }
        let webhook = self.auth_url.zip(fetcher).map(|(url, fetcher)| Webhook::new(url, fetcher, counters.clone()));
        let gate = AccessGate {
            publish: token(self.publish_token),
            view: token(self.view_token),
            admin: token(self.admin_token),
            jwt,
            authorizer: self.authorizer,
            webhook,
            registry,
            counters: counters.clone(),
        };
        Ok(Arc::new(Patient::new(gate, counters)))
    }
}

struct AccessGate {
    publish: Option<RequiredToken>,
    view: Option<RequiredToken>,
    admin: Option<RequiredToken>,
    jwt: Option<Jwt>,
    authorizer: Option<Arc<dyn Authorizer>>,
    webhook: Option<Webhook>,
    registry: Arc<dyn Registry>,
    counters: Arc<AuthCounters>,
}

impl AccessGate {
    fn required(&self, role: Role) -> Option<&RequiredToken> {
        match role {
            Role::Publish => self.publish.as_ref(),
            Role::View => self.view.as_ref(),
            Role::Admin => self.admin.as_ref(),
        }
    }

    fn is_token(&self, role: Role, token: &str) -> bool {
        // Both are compared, whichever fits: how long it takes tells nothing.
        let fits = [self.required(role), self.admin.as_ref()].map(|r| r.is_some_and(|r| r.is(token)));
        fits.contains(&true)
    }

    /// Whether somebody of whom nothing is known may do this.
    fn is_open(&self, ask: Ask<'_>, key: KeyFit) -> bool {
        match ask.role {
            // Without a token these are for this machine alone.
            Role::Admin => self.admin.is_none() && ask.from.to_canonical().is_loopback(),
            role => self.door(role) == Door::Open && key == KeyFit::NoKey,
        }
    }

    /// Who asks, if he may by what is set here: no key and no service of others is needed for it.
    async fn known(&self, ask: Ask<'_>) -> Option<Credential> {
        let Ask { role, channel, token, .. } = ask;
        let shown = token.map_or(Credential::Anonymous, Credential::of);
        if token.is_some_and(|token| self.is_token(role, token)) {
            return Some(shown);
        }
        let key = match (role, channel) {
            (Role::Publish, Some(channel)) => self.registry.key_fits(channel, token).await,
            _ => KeyFit::NoKey,
        };
        if key == KeyFit::Right {
            return Some(shown);
        }
        self.is_open(ask, key).then_some(Credential::Anonymous)
    }

    /// Asks those who are not us, in what is left of one time for all since `began`. They decide about publishers and viewers: neither the yes of an
    /// application, which is told of no role, nor that of a service which looks at none may make an administrator.
    async fn ask_others(&self, ask: Ask<'_>, began: Instant) -> Said {
        let left = || TIMEOUT.saturating_sub(began.elapsed());
        if ask.role == Role::Admin {
            return Said::No;
        }
        if let Some(authorizer) = &self.authorizer {
            match application::ask(&**authorizer, ask, left(), &self.counters).await {
                Said::No => {}
                // Where it has not answered, asking on would take longer than clients wait.
                said => return said,
            }
        }
        match &self.webhook {
            Some(webhook) => webhook.ask(ask, left()).await,
            None => Said::No,
        }
    }
}

#[async_trait]
impl Gate for AccessGate {
    async fn admit(&self, ask: Ask<'_>) -> Result<Credential, Refusal> {
        if let Some(credential) = self.known(ask).await {
            return Ok(credential);
        }
        let began = Instant::now();
        let Ask { role, channel, token, .. } = ask;
        if let (Some(jwt), Some(token)) = (&self.jwt, token) {
            match jwt.examine(token, role, channel).await {
                Finding::Granted(credential) => return Ok(credential),
                Finding::Lacks(what) => return Err(Refusal::Forbidden(what)),
                Finding::OutOfTime => return Err(Refusal::Unauthorized(Denied::OutOfTime)),
                Finding::Unknown => {}
            }
        }
        Err(Refusal::Unauthorized(match (self.ask_others(ask, began).await, token) {
            (Said::Yes, token) => return Ok(token.map_or(Credential::Anonymous, Credential::of)),
            (Said::Nothing, _) => Denied::Unanswered,
            (Said::No, Some(_)) => Denied::Wrong,
            (Said::No, None) => Denied::Missing,
        }))
    }

    async fn recognise(&self, ask: Ask<'_>) -> Option<Credential> {
        let known = self.known(ask).await;
        if known.is_some() {
            return known;
        }
        match self.jwt.as_ref()?.examine_now(ask.token?, ask.role, ask.channel) {
            Finding::Granted(credential) => Some(credential),
            Finding::Unknown | Finding::Lacks(_) | Finding::OutOfTime => None,
        }
    }

    fn needs_token(&self, role: Role) -> bool {
        self.door(role) != Door::Open
    }

    fn door(&self, role: Role) -> Door {
        let others = role != Role::Admin && (self.webhook.is_some() || self.authorizer.is_some());
        match role {
            // What this machine may do without a token, a page in its browser could do as well.
            Role::Admin if self.admin.is_none() => Door::Open,
            _ if others => Door::Asked,
            Role::Admin => Door::Locked,
            _ if self.required(role).is_some() || self.jwt.is_some() => Door::Locked,
            _ => Door::Open,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use tokio::sync::broadcast;

    use super::*;
    use crate::channel::{
        Change, ChannelId, ChannelInfo, Claim, CreateError, Created, EnterError, NewChannel, Presence, PublishError,
        PublisherLease, Visitor,
    };

    /// Channel `keyed` has the key `key`.
    struct Keyed;

    #[async_trait]
    impl Registry for Keyed {
        async fn create(&self, _: NewChannel) -> Result<Created, CreateError> {
            Err(CreateError::Full(0))
        }
        async fn list(&self) -> Vec<ChannelInfo> {
            Vec::new()
        }
        async fn get(&self, _: &ChannelId) -> Option<ChannelInfo> {
            None
        }
        async fn key_fits(&self, id: &ChannelId, key: Option<&str>) -> KeyFit {
            match (id.as_str(), key) {
                ("keyed", Some("key")) => KeyFit::Right,
                ("keyed", _) => KeyFit::Wrong,
                _ => KeyFit::NoKey,
            }
        }
        async fn publish(&self, _: &ChannelId, _: Claim) -> Result<PublisherLease, PublishError> {
            Err(PublishError::Live)
        }
        async fn enter(&self, id: &ChannelId, _: Visitor) -> Result<Presence, EnterError> {
            Err(EnterError::NoChannel(id.clone()))
        }
        async fn touch(&self, _: &ChannelId) {}
        async fn stop(&self, _: &ChannelId) -> bool {
            false
        }
        fn changes(&self) -> broadcast::Receiver<Change> {
            broadcast::channel(1).1
        }
    }

    /// Lets in who shows `asked`.
    struct Application;

    #[async_trait]
    impl Authorizer for Application {
        async fn authorize(&self, role: Role, _: Option<&ChannelId>, token: Option<&str>) -> bool {
            assert_ne!(role, Role::Admin, "it is never asked for that");
            token == Some("asked")
        }
    }

    fn access(set: &str) -> Access {
        let token = |name: &str| set.contains(name).then(|| name.to_owned());
        Access {
            publish_token: token("publish"),
            view_token: token("view"),
            admin_token: token("admin"),
            jwt_secret: token("jwt"),
            authorizer: set.contains("app").then(|| Arc::new(Application) as Arc<dyn Authorizer>),
            ..Access::default()
        }
    }

    const HERE: &str = "127.0.0.1";
    const THERE: &str = "192.0.2.1";

    /// Who gets in, of: nobody in particular, a wrong token, the three role tokens, the stream key, what the application
    /// knows. `+` is in, `-` is not.
    #[rustfmt::skip]
    const TABLE: &[(&str, Role, Option<&str>, &str, &str)] = &[
        // set                 role           channel        from   none wrong publish view admin key asked
        ("",                   Role::Publish, Some("open"),  THERE, "+++++++"),
        ("",                   Role::Publish, Some("keyed"), THERE, "-----+-"),
        ("",                   Role::Publish, Some("keyed"), HERE,  "-----+-"),
        ("",                   Role::Publish, None,          THERE, "+++++++"),
        ("",                   Role::View,    Some("keyed"), THERE, "+++++++"),
        ("",                   Role::View,    None,          THERE, "+++++++"),
        ("",                   Role::Admin,   None,          HERE,  "+++++++"),
        ("",                   Role::Admin,   Some("keyed"), HERE,  "+++++++"),
        ("",                   Role::Admin,   None,          THERE, "-------"),
        ("",                   Role::Admin,   Some("keyed"), THERE, "-------"),
        ("publish",            Role::Publish, Some("open"),  HERE,  "--+----"),
        ("publish",            Role::Publish, Some("keyed"), THERE, "--+--+-"),
        ("publish",            Role::Publish, None,          THERE, "--+----"),
        ("publish",            Role::View,    Some("open"),  THERE, "+++++++"),
        ("publish",            Role::Admin,   None,          HERE,  "+++++++"),
        ("publish",            Role::Admin,   None,          THERE, "-------"),
        ("view",               Role::Publish, Some("open"),  THERE, "+++++++"),
        ("view",               Role::View,    Some("open"),  THERE, "---+---"),
        ("view",               Role::View,    Some("keyed"), THERE, "---+---"),
        ("view",               Role::View,    None,          HERE,  "---+---"),
        ("admin",              Role::Publish, Some("open"),  THERE, "+++++++"),
        ("admin",              Role::Publish, Some("keyed"), THERE, "----++-"),
        ("admin",              Role::Admin,   None,          HERE,  "----+--"),
        ("admin",              Role::Admin,   None,          THERE, "----+--"),
        ("publish view admin", Role::Publish, Some("open"),  THERE, "--+-+--"),
        ("publish view admin", Role::Publish, Some("keyed"), THERE, "--+-++-"),
        ("publish view admin", Role::View,    Some("open"),  THERE, "---++--"),
        ("publish view admin", Role::View,    Some("keyed"), THERE, "---++--"),
        ("publish view admin", Role::Admin,   Some("keyed"), THERE, "----+--"),
        ("jwt",                Role::Publish, Some("open"),  HERE,  "-------"),
        ("jwt",                Role::Publish, Some("keyed"), HERE,  "-----+-"),
        ("jwt",                Role::View,    Some("open"),  HERE,  "-------"),
        ("jwt",                Role::Admin,   None,          HERE,  "+++++++"),
        ("jwt",                Role::Admin,   None,          THERE, "-------"),
        ("app",                Role::Publish, Some("open"),  HERE,  "------+"),
        ("app",                Role::Publish, Some("keyed"), HERE,  "-----++"),
        ("app",                Role::View,    Some("open"),  HERE,  "------+"),
        ("app",                Role::View,    None,          HERE,  "------+"),
        ("app",                Role::Admin,   None,          HERE,  "+++++++"),
        ("app",                Role::Admin,   None,          THERE, "-------"),
        ("app publish admin",  Role::Publish, Some("open"),  HERE,  "--+-+-+"),
        ("app publish admin",  Role::Admin,   None,          HERE,  "----+--"),
    ];

    #[tokio::test]
    async fn every_token_gives_the_roles_that_the_table_says() {
        let tokens = [None, Some("wrong"), Some("publish"), Some("view"), Some("admin"), Some("key"), Some("asked")];
        for (set, role, channel, from, expected) in TABLE {
            let gate = access(set).gate(Arc::new(Keyed), Arc::default()).unwrap();
            let channel: Option<ChannelId> = channel.map(|channel| channel.parse().unwrap());
            let from: IpAddr = from.parse().unwrap();
            let mut got = String::new();
            for token in tokens {
                let answer = gate.admit(Ask { role: *role, channel: channel.as_ref(), token, from }).await;
                got.push(if answer.is_ok() { '+' } else { '-' });
                match answer {
                    Err(Refusal::Unauthorized(Denied::Missing)) => assert_eq!(token, None),
                    Err(Refusal::Unauthorized(Denied::Wrong)) => assert!(token.is_some()),
                    Err(other) => panic!("{other}"),
                    // Only who shows what is right is somebody.
                    Ok(credential) if expected.starts_with('+') => assert_eq!(credential, known(set, *role, token)),
                    Ok(credential) => assert_eq!(credential, token.map_or(Credential::Anonymous, Credential::of)),
                }
            }
            assert_eq!(&got, expected, "\"{set}\" {role:?} {channel:?} {from}");
        }
    }

    /// Who somebody is where everybody is let in.
    fn known(set: &str, role: Role, token: Option<&str>) -> Credential {
        match token {
            Some(token) if token == "admin" && set.contains("admin") => Credential::of(token),
            Some(token) if token == role.as_str() && set.contains(token) => Credential::of(token),
            _ => Credential::Anonymous,
        }
    }

    #[test]
    fn a_door_is_as_weak_as_what_opens_it() {
        let doors = |set: &str| {
            let gate = access(set).gate(Arc::new(Keyed), Arc::default()).unwrap();
            [Role::Publish, Role::View, Role::Admin].map(|role| gate.door(role))
        };
        assert_eq!(doors(""), [Door::Open; 3]);
        assert_eq!(doors("publish view"), [Door::Locked, Door::Locked, Door::Open]);
        assert_eq!(doors("publish admin"), [Door::Locked, Door::Open, Door::Locked]);
        assert_eq!(doors("jwt"), [Door::Locked, Door::Locked, Door::Open]);
        assert_eq!(doors("app publish admin"), [Door::Asked, Door::Asked, Door::Locked]);
    }

    #[test]
    fn settings_are_printed_without_secrets() {
        let access = Access {
            publish_token: Some("s3cret".into()),
            jwt_secret: Some("s3cret".into()),
            auth_url: Some("http://h/x?key=s3cret".parse().unwrap()),
            ..Access::default()
        };
        assert!(!format!("{access:?}").contains("s3cret"));
    }
}
