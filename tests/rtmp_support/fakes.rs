//! Encoders and decoders that say they are hardware: bins around software ones, each with its own way to fail.

use std::{
    sync::atomic::{AtomicU32, Ordering::SeqCst},
    time::Duration,
};

use gst::prelude::*;

/// What happens to a frame that comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Conduct {
    Works,
    FailsToStart,
    /// An error message and a flow error at the frame of this number.
    FailsAt(u32),
    /// A flow error and no message.
    RefusesAt(u32),
    /// Takes frames and gives none.
    SilentFrom(u32),
    /// Never returns.
    HangsAt(u32),
}

/// How many hang.
pub(crate) static HANGING: AtomicU32 = AtomicU32::new(0);

/// The frame that comes three seconds after the first, at 30 frames a second. A proof sees five.
pub(crate) const AFTER_3_S: u32 = 90;

/// Takes the encoders of this machine out, so that tests see the same everywhere.
pub(crate) fn remove_real_hardware() {
    let registry = gst::Registry::get();
    let kind = gst::ElementFactoryType::VIDEO_ENCODER | gst::ElementFactoryType::MEDIA_VIDEO;
    for factory in gst::ElementFactory::factories_with_type(kind, gst::Rank::NONE) {
        if factory.has_type(gst::ElementFactoryType::HARDWARE) {
            registry.remove_feature(&factory);
        }
    }
}

/// Puts probes on the pad where frames come in.
pub(crate) fn behave(element: &gst::Element, sink: &gst::Pad, conduct: Conduct) {
    let element = element.downgrade();
    let mut frames = 0;
    let frames = std::sync::Mutex::new(move || {
        frames += 1;
        frames - 1
    });
    sink.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let frame: u32 = frames.lock().unwrap()();
        let swallow = |info: &mut gst::PadProbeInfo<'_>, flow| {
            info.flow_res = flow;
            gst::PadProbeReturn::Handled
        };
        let flow_error = Err(gst::FlowError::Error);
        match conduct {
            Conduct::FailsAt(at) if frame >= at => {
                if let Some(element) = element.upgrade() {
                    gst::element_error!(element, gst::StreamError::Encode, ("the fake device is lost"));
                }
                swallow(info, flow_error)
            }
            Conduct::RefusesAt(at) if frame >= at => swallow(info, flow_error),
            Conduct::SilentFrom(at) if frame >= at => swallow(info, Ok(gst::FlowSuccess::Ok)),
            Conduct::HangsAt(at) if frame >= at => {
                HANGING.fetch_add(1, SeqCst);
                loop {
                    std::thread::sleep(Duration::from_secs(3600));
                }
            }
            _ => gst::PadProbeReturn::Ok,
        }
    });
}

/// Ghost pads around the only element of a bin.
pub(crate) fn wrap(bin: &gst::Bin, inner: &gst::Element) {
    bin.add(inner).unwrap();
    for name in ["sink", "src"] {
        let pad = gst::GhostPad::builder_with_target(&inner.static_pad(name).unwrap()).unwrap().name(name).build();
        bin.add_pad(&pad).unwrap();
    }
}

/// Registers an encoder of that conduct under a name. Each call in a program needs a module name of its own.
macro_rules! fake_encoder {
    ($module:ident, $name:expr, $rank:expr, $conduct:expr) => {
        crate::fakes::fake_element!(
            $module,
            $name,
            $rank,
            $conduct,
            "Codec/Encoder/Video/Hardware",
            {
                let encoder = gst::ElementFactory::make("x264enc").build().unwrap();
                encoder.set_property_from_str("tune", "zerolatency");
                encoder.set_property_from_str("speed-preset", "ultrafast");
                encoder
            },
            "video/x-raw,format={NV12,I420}",
            "video/x-h264"
        )
    };
}
pub(crate) use fake_encoder;

/// Registers an element around another one.
macro_rules! fake_element {
    ($module:ident, $name:expr, $rank:expr, $conduct:expr, $class:expr, $inner:expr, $sink:expr, $src:expr) => {{
        mod $module {
            use std::sync::Mutex;

            use gst::{glib, prelude::*, subclass::prelude::*};
            use once_cell::sync::Lazy;

            use crate::fakes::*;

            glib::wrapper! {
                pub struct Fake(ObjectSubclass<Imp>) @extends gst::Bin, gst::Element, gst::Object;
            }

            #[derive(Default)]
            pub struct Imp {
                bitrate: Mutex<u32>,
            }

            #[glib::object_subclass]
            impl ObjectSubclass for Imp {
                const NAME: &'static str = concat!("GstFake_", stringify!($module));
                type Type = Fake;
                type ParentType = gst::Bin;
            }

            impl ObjectImpl for Imp {
                fn properties() -> &'static [glib::ParamSpec] {
                    // Like that of many real ones it cannot be changed while it runs.
                    static PROPERTIES: Lazy<Vec<glib::ParamSpec>> =
                        Lazy::new(|| vec![glib::ParamSpecUInt::builder("bitrate").maximum(1_000_000).build()]);
                    &PROPERTIES
                }
                fn property(&self, _: usize, _: &glib::ParamSpec) -> glib::Value {
                    self.bitrate.lock().unwrap().to_value()
                }
                fn set_property(&self, _: usize, value: &glib::Value, _: &glib::ParamSpec) {
                    *self.bitrate.lock().unwrap() = value.get().unwrap();
                }
                fn constructed(&self) {
                    self.parent_constructed();
                    let inner: gst::Element = $inner;
                    wrap(self.obj().upcast_ref(), &inner);
                    behave(self.obj().upcast_ref(), &self.obj().static_pad("sink").unwrap(), $conduct);
                }
            }
            impl GstObjectImpl for Imp {}
            impl ElementImpl for Imp {
                fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
                    static METADATA: Lazy<gst::subclass::ElementMetadata> =
                        Lazy::new(|| gst::subclass::ElementMetadata::new("Fake", $class, "Not what it says", "Nobody"));
                    Some(&METADATA)
                }
                fn pad_templates() -> &'static [gst::PadTemplate] {
                    static TEMPLATES: Lazy<Vec<gst::PadTemplate>> = Lazy::new(|| {
                        [("sink", gst::PadDirection::Sink, $sink), ("src", gst::PadDirection::Src, $src)]
                            .into_iter()
                            .map(|(name, direction, caps)| {
                                let caps = caps.parse::<gst::Caps>().unwrap();
                                gst::PadTemplate::new(name, direction, gst::PadPresence::Always, &caps).unwrap()
                            })
                            .collect()
                    });
                    &TEMPLATES
                }
                fn change_state(
                    &self,
                    transition: gst::StateChange,
                ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
                    if transition == gst::StateChange::NullToReady && $conduct == Conduct::FailsToStart {
                        gst::element_imp_error!(self, gst::LibraryError::Init, ("the fake device is not there"));
                        return Err(gst::StateChangeError);
                    }
                    self.parent_change_state(transition)
                }
            }
            impl BinImpl for Imp {}

            pub(crate) fn register() {
                gst::Element::register(None, $name, $rank, Fake::static_type()).unwrap();
            }
        }
        $module::register();
    }};
}
pub(crate) use fake_element;
