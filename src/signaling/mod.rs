//! Offers and answers over HTTP: one axum server per HOST:PORT, shared by the process's elements.
//!
//! This module speaks HTTP and knows nothing of peer connections: whoever mounts an endpoint hands in an
//! [`OfferAnswerer`], which turns an SDP offer into an answer and a [`SignaledSession`].
//!
//! ```text
//!   uri ──▶ EndpointConfig ──▶ mount ──▶ server     bind, TLS (reloaded), accept; one per HOST:PORT
//!                                          │ router, behind origin: which pages, by which name
//!                          page ◀──────────┴──────▶ whip ──▶ limits, auth, body, sdp, rules ──▶ OfferAnswerer
//!                                                    │ whep   └─▶ whip_session ──▶ fragment ──▶ SignaledSession
//!                                                    │   └─▶ viewing, whep_events
//!                                          └──▶ socket ──▶ hub: /ws, publishing and relaying
//!                                                    │ endpoints and sessions: table; errors: problem
//! ```

mod answerer;
mod api;
mod auth;
mod body;
pub mod client;
mod connection;
mod cors;
mod endpoint;
mod files;
mod forwarded;
mod fragment;
#[doc(hidden)]
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod health;
mod ice_server;
mod limits;
mod metrics;
mod monitor;
mod mount;
mod opening;
mod origin;
mod page;
mod per_address;
mod places;
mod problem;
mod rules;
mod sdp;
mod server;
mod site;
mod socket;
mod table;
mod tls;
mod tls_reload;
mod uri;
mod viewing;
mod whep;
mod whep_events;
mod whip;
mod whip_session;

pub use answerer::{
    Answer, AnswerError, IceRefused, IceUpdated, Offer, OfferAnswerer, SessionId, SessionLease, SignaledSession,
    abbreviate,
};
pub use auth::{Access, Authorizer, Role};
#[cfg(feature = "plugin")] // the bridge counts by it too
#[cfg(feature = "plugin")]
pub(crate) use files::are_left as files_are_left;
pub use forwarded::{BadNetwork, TrustedProxies};
pub use fragment::{FragmentError, IceCandidate, IceCredentials, IceFragment};
pub use ice_server::{IceServer, IceServerError};
pub use monitor::{
    ConnectionState, DestinationReport, DestinationState, Dropped, MediaKind, Monitor, PortReport, Report, Sent,
    SessionReport, Totals, TrackReport, ViewersReport,
};
pub use mount::{EndpointConfig, Mount, MountError, SiteMount, mount, mount_site, mount_viewers};
pub use origin::{AllowedOrigins, BadOrigin};
#[cfg(feature = "plugin")]
pub(crate) use per_address::network;
pub use site::SiteConfig;
pub use socket::Audience;
pub use tls::TlsFiles;
pub use uri::{BadListenAddress, EndpointUri, ListenAddress, Scheme, UriError};
pub use viewing::{LayerLimits, Program, VideoLayer, Viewing};
pub use whep::COUNTER_OFFER;
