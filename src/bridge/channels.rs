//! What is on at each channel: the source that its publishers feed and its viewers watch, for as long as there is either.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::runtime::Handle;

use crate::{channel::ChannelId, forward::Source};

/// The sources of one server, by channel.
pub(super) struct Channels {
    media: Handle,
    sources: Mutex<HashMap<ChannelId, Weak<Source>>>,
}

impl Channels {
    pub(super) fn new(media: Handle) -> Self {
        Self { media, sources: Mutex::default() }
    }

    /// A channel's source; made if there is none.
    pub(super) fn obtain(&self, channel: &ChannelId) -> Arc<Source> {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(source) = sources.get(channel).and_then(Weak::upgrade) {
            return source;
        }
        sources.retain(|_, source| source.strong_count() > 0);
        let source = Arc::new(Source::new(&self.media));
        sources.insert(channel.clone(), Arc::downgrade(&source));
        source
    }

    /// A channel's source, if it has one.
    pub(super) fn find(&self, channel: &ChannelId) -> Option<Arc<Source>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner).get(channel)?.upgrade()
    }
}
