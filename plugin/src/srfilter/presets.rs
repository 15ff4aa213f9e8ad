//! The presets `realtime`, `balanced` and `quality` of the interface `GstPreset`.
//!
//! GStreamer reads presets from files, which an installation may lack: these are part of
//! the element. Presets in files, which users save, have precedence over them.

use super::imp::SrFilter;
use gst::ffi::{GstObject, GstPreset};
use gst::glib;
use gst::glib::ffi::{GFALSE, GTRUE, g_strdup, gboolean};
use gst::glib::translate::{FromGlibPtrContainer, from_glib_borrow};
use gst::prelude::*;
use gst::subclass::prelude::*;
use std::ffi::c_char;
use std::sync::OnceLock;

/// A preset: what it is for, and its model.
struct BuiltIn {
    name: &'static str,
    model: &'static str,
    comment: &'static str,
}

static PRESETS: [BuiltIn; 3] = [
    BuiltIn {
        name: "realtime",
        model: "espcn-fast",
        comment: "Live video, also on small machines: espcn-fast",
    },
    BuiltIn {
        name: "balanced",
        model: "espcn",
        comment: "Quality for its time: espcn, twice the work of espcn-fast",
    },
    BuiltIn {
        name: "quality",
        model: "compact",
        comment: "Files, mostly compressed ones: compact, forty times the work of espcn; native at scale 2",
    },
];

/// GStreamer's own functions, which read and write files.
struct Stored {
    get_preset_names: Option<GetPresetNames>,
    load_preset: Option<LoadPreset>,
    get_meta: Option<GetMeta>,
}

type GetPresetNames = unsafe extern "C" fn(*mut GstPreset) -> *mut *mut c_char;
type LoadPreset = unsafe extern "C" fn(*mut GstPreset, *const c_char) -> gboolean;
type GetMeta = unsafe extern "C" fn(
    *mut GstPreset,
    *const c_char,
    *const c_char,
    *mut *mut c_char,
) -> gboolean;

static STORED: OnceLock<Stored> = OnceLock::new();

// SAFETY: the functions have the signatures of their slots in the vtable, and keep to
// the ownership that GStreamer documents for each.
unsafe impl IsImplementable<SrFilter> for gst::Preset {
    fn interface_init(interface: &mut glib::Interface<Self>) {
        let vtable = interface.as_mut();
        // A new vtable is a copy of the interface's default one.
        STORED.get_or_init(|| Stored {
            get_preset_names: vtable.get_preset_names,
            load_preset: vtable.load_preset,
            get_meta: vtable.get_meta,
        });
        vtable.get_preset_names = Some(get_preset_names);
        vtable.load_preset = Some(load_preset);
        vtable.get_meta = Some(get_meta);
    }
}

/// The built-in preset of a name that is a C string.
///
/// # Safety
///
/// `name` is null, or a C string that lives on.
unsafe fn find(name: *const c_char) -> Option<&'static BuiltIn> {
    if name.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    let name = unsafe { std::ffi::CStr::from_ptr(name) }.to_str().ok()?;
    PRESETS.iter().find(|preset| preset.name == name)
}

/// The names of all presets; the caller frees them.
unsafe extern "C" fn get_preset_names(preset: *mut GstPreset) -> *mut *mut c_char {
    let stored = STORED.get().and_then(|stored| stored.get_preset_names);
    let mut names: Vec<glib::GString> = match stored {
        // SAFETY: the caller's object; the strings that are returned are ours.
        Some(stored) => unsafe { FromGlibPtrContainer::from_glib_full(stored(preset)) },
        None => Vec::new(),
    };
    for built_in in &PRESETS {
        if names.iter().all(|name| name != built_in.name) {
            names.push(built_in.name.into());
        }
    }
    glib::StrV::from(names).into_raw()
}

/// Sets the properties of a preset; returns whether there is one of that name.
unsafe extern "C" fn load_preset(preset: *mut GstPreset, name: *const c_char) -> gboolean {
    let stored = STORED.get().and_then(|stored| stored.load_preset);
    // SAFETY: the caller's object and name.
    if stored.is_some_and(|stored| unsafe { stored(preset, name) } != GFALSE) {
        return GTRUE;
    }
    // SAFETY: the caller's name is a C string.
    let Some(built_in) = (unsafe { find(name) }) else {
        return GFALSE;
    };
    // SAFETY: presets are objects; the caller holds this one.
    let element = unsafe { from_glib_borrow::<_, gst::Object>(preset.cast::<GstObject>()) };
    // Weights belong to a model.
    element.set_property("weights", None::<&str>);
    element.set_property("model", built_in.model);
    GTRUE
}

/// The comment of a preset, which the caller frees; returns whether it has one.
unsafe extern "C" fn get_meta(
    preset: *mut GstPreset,
    name: *const c_char,
    tag: *const c_char,
    value: *mut *mut c_char,
) -> gboolean {
    let stored = STORED.get().and_then(|stored| stored.get_meta);
    // SAFETY: the caller's object, strings and place for the value, which GStreamer's
    // function sets: to null where a file has no such value, whatever it returns.
    let is_stored = |stored: GetMeta| unsafe {
        *value = std::ptr::null_mut();
        stored(preset, name, tag, value) != GFALSE && !(*value).is_null()
    };
    if stored.is_some_and(is_stored) {
        return GTRUE;
    }
    // SAFETY: the caller's name is a C string.
    let Some(built_in) = (unsafe { find(name) }) else {
        return GFALSE;
    };
    // SAFETY: the caller's tag is a C string; GStreamer checks that it is not null.
    if unsafe { std::ffi::CStr::from_ptr(tag) } != c"comment" {
        return GFALSE;
    }
    let comment = glib::GString::from(built_in.comment);
    // SAFETY: `value` is a place for a string, which is allocated as the caller frees it.
    unsafe { *value = g_strdup(comment.as_ptr()) };
    GTRUE
}
