//! Chromium and Firefox, one at a time: they encode with all cores.

#[path = "../common/mod.rs"]
mod common;
#[path = "../site_support/mod.rs"]
mod site_support;
#[path = "../whip_support/mod.rs"]
mod whip_support;

mod chromium_and_a_bridge_server;
mod chromium_blocked_port;
mod chromium_broadcast;
mod chromium_by_relay;
mod chromium_echo;
mod chromium_layers;
mod chromium_outage;
mod chromium_publishes;
mod chromium_simulcast;
mod chromium_status;
mod chromium_views;
mod chromium_watches_by_whep;
mod firefox_publishes;
mod firefox_watches;
