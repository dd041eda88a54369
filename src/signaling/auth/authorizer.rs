//! The application's own say: a trait that the element implements for its `authorize` signal.

use async_trait::async_trait;

use super::Role;
use crate::channel::ChannelId;

/// Decides about requests that no token of ours explains. Never asked about [`Role::Admin`].
#[async_trait]
pub trait Authorizer: Send + Sync + 'static {
    /// Whether somebody who shows `token` may publish to, or view, a channel; `None` where it is about no channel in
    /// particular. Takes its time at the cost of that request alone, and is given up after four seconds; how many are asked
    /// at a time is the application's to bound.
    async fn authorize(&self, role: Role, channel: Option<&ChannelId>, token: Option<&str>) -> bool;
}
