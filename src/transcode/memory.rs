//! Ways into and out of the memory of devices.

use super::{
    factory::{filter, make},
    known::Memory,
};

/// How frames get into a kind of memory, and out of it: each is tried as a whole.
struct Way {
    memory: Memory,
    feature: &'static str,
    /// Uploads and converts; the later ones where an earlier one's elements do not exist.
    into: &'static [&'static [&'static str]],
    out_of: &'static [&'static str],
}

const WAYS: &[Way] = &[
    Way {
        memory: Memory::Cuda,
        feature: "memory:CUDAMemory",
        into: &[&["cudaupload", "cudaconvertscale"], &["cudaupload", "cudaconvert"]],
        out_of: &["cudadownload"],
    },
    Way { memory: Memory::Va, feature: "memory:VAMemory", into: &[&["vapostproc"]], out_of: &["vapostproc"] },
    Way {
        memory: Memory::Nvmm,
        feature: "memory:NVMM",
        into: &[&["nvvidconv"], &["nvvideoconvert"]],
        out_of: &["nvvidconv", "nvvideoconvert"],
    },
    Way {
        memory: Memory::D3d11,
        feature: "memory:D3D11Memory",
        into: &[&["d3d11upload", "d3d11convert"]],
        out_of: &["d3d11download"],
    },
    Way {
        memory: Memory::D3d12,
        feature: "memory:D3D12Memory",
        into: &[&["d3d12upload", "d3d12convert"]],
        out_of: &["d3d12download"],
    },
    Way {
        memory: Memory::Gl,
        feature: "memory:GLMemory",
        into: &[&["glupload", "glcolorconvert"]],
        out_of: &["gldownload"],
    },
];

/// The elements that bring frames to an encoder, in the memory that it likes best and a format that every player takes:
/// 4:2:0, which x264enc would not choose by itself for other input. System memory where the better way does not exist
/// here or the encoder does not know it.
pub(super) fn way_into(memory: Memory, encoder: &gst::ElementFactory) -> Vec<gst::Element> {
    let device = || {
        let way = WAYS.iter().find(|way| way.memory == memory)?;
        let caps = gst::Caps::builder("video/x-raw").features([way.feature]).field("format", "NV12").build();
        if !encoder.can_sink_any_caps(&caps) {
            return None;
        }
        let mut elements = way.into.iter().find_map(|names| made(names))?;
        elements.push(filter(&caps).ok()?);
        Some(elements)
    };
    device().or_else(|| Some(vec![filter(&system()).ok()?])).unwrap_or_default()
}

/// The element that brings frames of such caps into system memory. `None`: they are there already.
pub(super) fn way_out_of(caps: &gst::CapsRef) -> Result<Option<gst::Element>, String> {
    let Some(features) = caps.features(0).filter(|features| !features.contains("memory:SystemMemory")) else {
        return Ok(None);
    };
    // No memory named, or any: negotiation decides, and the scaler takes only what it can read.
    if features.is_any() || features.is_empty() {
        return Ok(None);
    }
    let way = WAYS.iter().find(|way| features.contains(way.feature));
    let element = way.and_then(|way| way.out_of.iter().find_map(|name| make(name).ok()));
    element.map(Some).ok_or_else(|| features.to_string())
}

fn system() -> gst::Caps {
    gst::Caps::builder("video/x-raw").field("format", gst::List::new(["I420", "NV12"])).build()
}

fn made(names: &[&str]) -> Option<Vec<gst::Element>> {
    names.iter().map(|name| make(name).ok()).collect()
}

#[cfg(test)]
mod tests {
    use gst::prelude::*;

    use super::*;

    #[test]
    fn encoder_that_does_not_know_a_devices_memory_gets_system_memory() {
        gst::init().unwrap();
        let x264enc = gst::ElementFactory::find("x264enc").unwrap();
        for way in WAYS {
            let elements = way_into(way.memory, &x264enc);
            assert_eq!(elements.len(), 1);
            assert_eq!(elements[0].property::<gst::Caps>("caps"), system());
        }
    }

    #[test]
    fn memory_that_nothing_reads_is_named() {
        gst::init().unwrap();
        let caps = |feature: &str| gst::Caps::builder("video/x-raw").features([feature]).build();
        assert!(way_out_of(&caps("memory:SystemMemory")).unwrap().is_none());
        assert!(way_out_of(&gst::Caps::new_empty_simple("video/x-raw")).unwrap().is_none());
        assert_eq!(way_out_of(&caps("memory:Strange")).unwrap_err(), "memory:Strange");
    }
}
