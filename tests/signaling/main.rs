//! What goes over HTTP and WebSocket: WHIP, WHEP both ways, `/ws`, the API, metrics, and who may do what. Stand-ins are behind
//! it; no media.

#[path = "../auth_support/mod.rs"]
mod auth_support;
#[path = "../site_support/mod.rs"]
mod site_support;
#[path = "../socket_support/mod.rs"]
mod socket_support;
#[path = "../whip_support/mod.rs"]
mod whip_support;

mod api;
mod api_document;
mod asking_others;
mod behind_a_proxy;
mod forged_requests;
mod jwt;
mod metrics;
mod origins;
mod secrets_stay_out_of_logs;
mod slow_clients;
mod theatre;
mod tls_reload;
mod websocket_is_robust;
mod websocket_publishes;
mod websocket_relays;
mod websocket_viewers;
mod whep_client_http;
mod whep_http;
mod whip_http;
mod whip_rfc9725;
mod who_may_do_what;
