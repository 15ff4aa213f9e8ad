//! Where the GStreamer plugin is installed.

use pyo3::PyResult;
use pyo3::exceptions::PyFileNotFoundError;
use std::path::{Path, PathBuf};
use std::{env, fs};

const FILE: &str = "libgstsrfilter.so";

/// The plugin's file in the folders in which GStreamer looks.
pub(crate) fn find() -> PyResult<String> {
    let named = [
        "GST_PLUGIN_PATH_1_0",
        "GST_PLUGIN_PATH",
        "GST_PLUGIN_SYSTEM_PATH_1_0",
        "GST_PLUGIN_SYSTEM_PATH",
    ];
    let named = named.iter().filter_map(env::var_os);
    let named: Vec<_> = named
        .flat_map(|list| env::split_paths(&list).collect::<Vec<_>>())
        .collect();
    let home = env::home_dir().map(|home| home.join(".local/share/gstreamer-1.0/plugins"));
    let mut folders: Vec<PathBuf> = named.into_iter().chain(home).collect();
    for prefix in ["/usr/local", "/usr"] {
        for lib in ["lib", "lib64"].map(|lib| Path::new(prefix).join(lib)) {
            folders.push(lib.join("gstreamer-1.0"));
            // Debian's lib/x86_64-linux-gnu and the like.
            let inside = fs::read_dir(&lib).into_iter().flatten().flatten();
            folders.extend(inside.map(|entry| entry.path().join("gstreamer-1.0")));
        }
    }
    let file = folders
        .into_iter()
        .map(|folder| folder.join(FILE))
        .find(|file| file.is_file());
    let file = file.map(|file| file.display().to_string());
    file.ok_or_else(|| {
        PyFileNotFoundError::new_err(format!(
            "{FILE} is in none of GStreamer's folders: install the package gstreamer1.0-srfilter, \
             or set GST_PLUGIN_PATH to its folder. This module does without it."
        ))
    })
}
