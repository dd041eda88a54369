//! One connected client: what each of its messages does.

use std::{
    net::SocketAddr,
    sync::{Arc, MutexGuard},
    time::SystemTime,
};

use tokio::sync::oneshot;

use super::{
    Shared,
    hub::{Entry, Hub, HubError, MemberId},
    limits::{Pace, Verdict},
    news,
    outbox::Outbox,
    protocol::{Code, JoinRole, Mode, ServerMessage},
    refused::Refused,
    request::{self, Request, Signal},
    served::{Answered, News, Served},
};
use crate::{
    channel::{ChannelId, Credential, KeyFit, NewChannel, Presence, Visitor},
    signaling::{
        auth::{Ask, Role},
        places::Place,
    },
};

/// Channels that a connection remembers as its own; further ones it can use with their keys. So many may be such that
/// nobody has published on.
const MOST_OWN: usize = 16;

const TOO_MANY_UNUSED: &str = "there are too many channels of yours that nobody has published on yet; use or stop one";

/// A client, from its connection's beginning to its end.
pub(super) struct Member {
    shared: Arc<Shared>,
    id: MemberId,
    outbox: Outbox,
    pace: Pace,
    remote: SocketAddr,
    token: Option<String>,
    /// Channels that this connection has made, the last one last, and who it is there.
    own: Vec<(ChannelId, Credential)>,
    /// A publisher's or a viewer's session with the server, and who tells when the place in the channel is gone.
    served: Option<(Served, oneshot::Receiver<()>)>,
}

impl Member {
    pub(super) fn new(shared: Arc<Shared>, outbox: Outbox, remote: SocketAddr, token: Option<String>) -> Self {
        let id = shared.hub().connect(outbox.clone());
        let pace = shared.limits.of_connection();
        Self { shared, id, outbox, pace, remote, token, own: Vec::new(), served: None }
    }

    /// Counts a frame that came.
    pub(super) fn pace_of_frame(&mut self) -> Verdict {
        self.pace.frame(&self.shared.limits, self.remote.ip())
    }

    /// Acts on a text frame; whatever comes of it is put into the outbox.
    pub(super) async fn hear(&mut self, text: &str) {
        let (id, result) = match request::parse(text) {
            Ok((id, request)) => (id, self.act(id, request).await),
            Err(bad) => (bad.id, Err(bad.into())),
        };
        match result {
            Ok(None) => (),
            Ok(Some(reply)) => self.tell(&reply, id),
            Err(refused) => self.refuse(refused, id),
        }
    }

    /// Says why something was not acted on.
    pub(super) fn refuse(&self, refused: Refused, id: Option<u64>) {
        self.shared.counters.refused();
        self.tell(&refused.into_message(), id);
    }

    fn tell(&self, message: &ServerMessage, id: Option<u64>) {
        self.outbox.push(message.to_json(id).into());
    }

    async fn act(&mut self, id: Option<u64>, request: Request) -> Result<Option<ServerMessage>, Refused> {
        match request {
            Request::Create(about) => self.create(about).await.map(Some),
            Request::Join { channel, role, is_direct } => {
                self.join(channel, (role, is_direct), id).await.map(|()| None)
            }
            Request::Leave => self.leave().await.map(Some),
            Request::Signal { to, signal } => self.signal(to, signal, id).await.map(|()| None),
            Request::Alias(name) => self.alias(name, id).map(|()| None),
            Request::Chat(text) => self.chat(text, id).await.map(|()| None),
            Request::List => self.list().await.map(Some),
            Request::Layer(layer) => self.choose(layer).map(Some),
            Request::Stop(channel) => self.stop(channel).await.map(Some),
        }
    }

    async fn create(&mut self, about: NewChannel) -> Result<ServerMessage, Refused> {
        self.admit(Role::Publish, None).await?;
        let unused = &self.shared.limits.unused;
        let is_unused = |(own, _): &(ChannelId, Credential)| unused.has(own);
        if self.own.iter().filter(|own| is_unused(own)).count() >= MOST_OWN {
            return Err(Refused::new(Code::Unavailable, TOO_MANY_UNUSED));
        }
        let place = self.place_of_unused()?;
        let created = self.shared.registry.create(about).await?;
        unused.add(created.id.clone(), place);
        // It may have been quick to go, and the news of that too.
        if self.shared.registry.get(&created.id).await.is_none() {
            unused.remove(&created.id);
        }
        if self.own.len() >= MOST_OWN {
            let spare = self.own.iter().position(|own| !is_unused(own));
            self.own.remove(spare.unwrap_or_default());
        }
        self.own.push((created.id.clone(), Credential::of(&created.key)));
        Ok(ServerMessage::Created { channel: created.id.to_string(), key: created.key })
    }

    /// A place for a channel that is to be made.
    fn place_of_unused(&self) -> Result<Place, Refused> {
        let place = self.shared.limits.unused.place(self.remote.ip());
        place.map_err(|_| Refused::new(Code::Unavailable, TOO_MANY_UNUSED))
    }

    async fn join(
        &mut self,
        channel: ChannelId,
        (role, is_direct): (JoinRole, bool),
        id: Option<u64>,
    ) -> Result<(), Refused> {
        let credential = match role {
            JoinRole::Publisher => match self.own(&channel) {
                Some(credential) => credential,
                None => self.admit(Role::Publish, Some(&channel)).await?,
            },
            JoinRole::Peer => self.admit_to_take_part(Some(&channel)).await?,
            JoinRole::Viewer => self.admit(Role::View, Some(&channel)).await?,
        };
        self.hub().may_join(self.id, &channel, role)?;
        let visitor = if role == JoinRole::Viewer { Visitor::Viewer } else { Visitor::Member };
        let makes = visitor == Visitor::Member && self.shared.registry.get(&channel).await.is_none();
        let place = if makes { Some(self.place_of_unused()?) } else { None };
        let presence = self.shared.registry.enter(&channel, visitor).await?;
        let is_live = self.shared.registry.get(&channel).await.is_some_and(|info| info.is_live);
        let (left, gone) = oneshot::channel();
        let presence = Presence::new(move || {
            drop(presence);
            let _ = left.send(()); // nobody listens who has no session
        });
        let entry = Entry { channel: channel.clone(), role, is_direct, credential, is_live };
        self.hub().join(self.id, entry, presence, id)?;
        if let Some(place) = place {
            self.shared.limits.unused.add(channel.clone(), place);
        }
        let endpoint = match role {
            JoinRole::Publisher => Some(&self.shared.publishing),
            JoinRole::Viewer => Some(&self.shared.viewing),
            JoinRole::Peer => None,
        };
        self.served =
            endpoint.map(|endpoint| (Served::new(endpoint.clone(), channel.clone(), self.remote, credential), gone));
        self.settle(&channel, role).await;
        Ok(())
    }

    /// He closes the connection: that is leaving, if he is anywhere.
    pub(super) async fn say_goodbye(&mut self) {
        let _ = self.leave().await;
    }

    async fn leave(&mut self) -> Result<ServerMessage, Refused> {
        let left = self.hub().leave(self.id).map(|place| (place.channel.clone(), place.role));
        self.end_session().await;
        let (channel, role) = left.ok_or(HubError::NotJoined)?;
        self.settle(&channel, role).await;
        Ok(ServerMessage::Closed { reason: "left".into() })
    }

    /// Somebody has come or gone: the others are told what that means for them.
    async fn settle(&self, channel: &ChannelId, role: JoinRole) {
        news::settle(&self.shared, channel).await;
        if role == JoinRole::Publisher {
            self.shared.relist.notify_one();
        }
    }

    async fn signal(&mut self, to: Option<String>, signal: Signal, id: Option<u64>) -> Result<(), Refused> {
        let (channel, role, mode) = {
            let hub = self.hub();
            let place = hub.place(self.id)?;
            (place.channel.clone(), place.role, place.mode)
        };
        self.shared.registry.touch(&channel).await;
        match (role, &to, &signal) {
            // To the server.
            (JoinRole::Publisher, None, _) => (),
            // Whom the publisher's page serves, or should have, is the server's from now on.
            (JoinRole::Viewer, None, Signal::Offer(_)) => self.hub().fall_back(self.id),
            (JoinRole::Viewer, None, _) if mode == Mode::Forward => (),
            _ => return Ok(self.hub().relay(self.id, to, signal)?),
        }
        let Some((served, _)) = &mut self.served else { return Err(HubError::NotJoined.into()) };
        match signal {
            Signal::Offer(_) if !self.pace.offer(&self.shared.limits, self.remote.ip()) => {
                Err(Refused::new(Code::TooOften, "too many offers; slow down"))
            }
            Signal::Offer(sdp) => {
                let Answered { answer, candidates } = served.offer(sdp).await?;
                self.tell(&answer, id);
                for candidate in candidates {
                    self.tell(&ServerMessage::Candidate(candidate), None);
                }
                Ok(())
            }
            Signal::Candidate(trickled) => served.trickle(trickled).await,
            Signal::Answer(_) => Err(Refused::new(Code::BadState, "the server has offered nothing")),
        }
    }

    fn alias(&mut self, name: String, id: Option<u64>) -> Result<(), Refused> {
        // It is told to everybody, as what is said is.
        if self.hub().place(self.id).is_ok() && !self.pace.chat() {
            return Err(Refused::new(Code::TooOften, "too many names; slow down"));
        }
        self.hub().set_alias(self.id, name, id);
        Ok(())
    }

    async fn chat(&mut self, text: String, id: Option<u64>) -> Result<(), Refused> {
        let channel = self.hub().place(self.id)?.channel.clone();
        if !self.pace.chat() {
            return Err(Refused::new(Code::TooOften, "too many chat messages; slow down"));
        }
        self.shared.registry.touch(&channel).await;
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let at = u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX);
        Ok(self.hub().chat(self.id, text, at, id)?)
    }

    fn choose(&self, layer: Option<usize>) -> Result<ServerMessage, Refused> {
        let (served, _) = self.served.as_ref().ok_or(HubError::NotJoined)?;
        served.choose(layer)
    }

    async fn list(&self) -> Result<ServerMessage, Refused> {
        self.admit_to_look().await?;
        self.hub().follow_list(self.id);
        Ok(ServerMessage::Channels { channels: news::list(&self.shared).await })
    }

    async fn stop(&mut self, channel: Option<ChannelId>) -> Result<ServerMessage, Refused> {
        let here = self.hub().place(self.id).ok().map(|place| place.channel.clone());
        let last_made = || self.own.last().map(|(channel, _)| channel.clone());
        let channel = channel.or_else(|| here.clone()).or_else(last_made);
        let channel = channel.ok_or_else(|| Refused::new(Code::BadMessage, "channel: say which"))?;
        self.may_stop(&channel, here.as_ref()).await?;
        if here.as_ref() == Some(&channel) {
            self.hub().leave(self.id); // who asked for it has a reply of his own
        }
        if !self.shared.registry.stop(&channel).await {
            return Err(Refused::new(Code::NotFound, format!("there is no channel {channel}")));
        }
        self.own.retain(|(own, _)| *own != channel);
        if here.as_ref() == Some(&channel) {
            self.end_session().await;
        }
        // The others are told when the registry's news come; by now there may be a new channel of this name.
        Ok(ServerMessage::Closed { reason: STOPPED.into() })
    }

    /// Who made the channel, publishes on it or has its key may; and admins.
    async fn may_stop(&self, channel: &ChannelId, here: Option<&ChannelId>) -> Result<(), Refused> {
        let is_publisher = self.hub().place(self.id).is_ok_and(|place| place.role == JoinRole::Publisher);
        let is_live = self.served.as_ref().is_some_and(|(served, _)| served.is_live());
        let publishes = here == Some(channel) && is_publisher && is_live;
        let key_fits = match &self.token {
            Some(token) => self.shared.registry.key_fits(channel, Some(token)).await == KeyFit::Right,
            None => false,
        };
        if publishes || key_fits || self.own(channel).is_some() {
            return Ok(());
        }
        self.admit(Role::Admin, Some(channel)).await.map(|_| ())
    }

    fn own(&self, channel: &ChannelId) -> Option<Credential> {
        self.own.iter().find(|(own, _)| own == channel).map(|(_, credential)| *credential)
    }

    async fn admit(&self, role: Role, channel: Option<&ChannelId>) -> Result<Credential, Refused> {
        Ok(self.shared.gate.admit(self.ask(role, channel)).await?)
    }

    fn ask<'a>(&'a self, role: Role, channel: Option<&'a ChannelId>) -> Ask<'a> {
        Ask { role, channel, token: self.token.as_deref(), from: self.remote.ip() }
    }

    /// What is live is for those who may watch; and where they need a token, for those who have one to publish, too.
    async fn admit_to_look(&self) -> Result<Credential, Refused> {
        let gate = &self.shared.gate;
        match gate.needs_token(Role::View) && gate.needs_token(Role::Publish) {
            true => Ok(gate.admit_either(self.ask(Role::View, None), Role::Publish).await?),
            false => self.admit(Role::View, None).await,
        }
    }

    /// Peers send as well as receive, and nothing of theirs goes into a session of ours: any token that the server asks for
    /// lets them in, and no channel's key is needed.
    async fn admit_to_take_part(&self, channel: Option<&ChannelId>) -> Result<Credential, Refused> {
        let gate = &self.shared.gate;
        match (gate.needs_token(Role::View), gate.needs_token(Role::Publish)) {
            (_, false) => self.admit(Role::View, channel).await,
            (false, true) => self.admit(Role::Publish, channel).await,
            (true, true) => Ok(gate.admit_either(self.ask(Role::View, channel), Role::Publish).await?),
        }
    }

    /// Returns when there was news of the session, and it has been told; or when the channel has ended, and the session with
    /// it.
    pub(super) async fn session_news(&mut self) {
        let Some((served, gone)) = &mut self.served else { return std::future::pending().await };
        tokio::select! {
            news = served.news() => {
                let message = match news {
                    News::Ended(reason) => ServerMessage::Closed { reason },
                    News::Layers(layers) => layers,
                };
                // Who is out of the channel has been told already.
                if self.hub().place(self.id).is_ok() {
                    self.tell(&message, None);
                }
            }
            _ = gone => self.end_session().await,
        }
    }

    async fn end_session(&mut self) {
        if let Some((mut served, _)) = self.served.take() {
            served.close().await;
        }
    }

    /// The connection is over: the session ends with it, and the others are told.
    pub(super) async fn vanish(mut self) {
        let place = self.hub().place(self.id).map(|place| (place.channel.clone(), place.role));
        self.hub().disconnect(self.id);
        self.end_session().await;
        if let Ok((channel, role)) = place {
            self.settle(&channel, role).await;
        }
    }

    fn hub(&self) -> MutexGuard<'_, Hub> {
        self.shared.hub()
    }
}

/// A task that panics or is thrown away leaves nobody behind.
impl Drop for Member {
    fn drop(&mut self) {
        self.hub().disconnect(self.id);
    }
}

/// The reason that those in a channel are told when it is stopped, or has expired.
pub(super) const STOPPED: &str = "stopped";
