//! System memory that the process may still use.

use std::fs;
use std::path::{Path, PathBuf};

/// Available memory in bytes, if known (on Linux): what the system has, or less
/// where a control group of the process, or one above it, has a lower limit.
pub(crate) fn available() -> Option<u64> {
    available_under(Path::new("/"))
}

/// As [`available`], of the system whose files lie under `root`.
fn available_under(root: &Path) -> Option<u64> {
    let groups = group_folders(root).into_iter().filter_map(|f| left(&f));
    system(root).into_iter().chain(groups).min()
}

/// Available memory of the whole system.
fn system(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let kib = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    let kib: u64 = kib.split_whitespace().next()?.parse().ok()?;
    Some(kib << 10)
}

/// The folders of the memory control groups that hold the process, of versions 1
/// and 2, each followed by those above it.
fn group_folders(root: &Path) -> Vec<PathBuf> {
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    let (groups, mounts) = (read("proc/self/cgroup"), read("proc/self/mountinfo"));
    let mut folders = Vec::new();
    for line in groups.lines() {
        // Number, controllers, path: `0::PATH` in version 2.
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let is_v2 = controllers.is_empty();
        if !is_v2 && !controllers.split(',').any(|c| c == "memory") {
            continue;
        }
        for (mounted, at) in mounts.lines().filter_map(|m| mount(m, is_v2)) {
            // In a container only a part of the hierarchy may be mounted.
            let below = Path::new(path)
                .strip_prefix(mounted)
                .unwrap_or(Path::new(""));
            let top = root.join(at.trim_start_matches('/'));
            let folder = top.join(below);
            let levels = folder.ancestors().take_while(|f| f.starts_with(&top));
            folders.extend(levels.map(Path::to_path_buf));
        }
    }
    folders
}

/// The root of a mounted hierarchy of control groups with memory, and where it
/// is mounted: a line of mountinfo (proc(5)).
fn mount(line: &str, v2: bool) -> Option<(&str, &str)> {
    let (place, kind) = line.split_once(" - ")?;
    let mut place = place.split(' ').skip(3);
    let (mounted, at) = (place.next()?, place.next()?);
    let kind: Vec<_> = kind.split(' ').collect();
    let matches = match (kind.first(), kind.last()) {
        (Some(&"cgroup2"), _) => v2,
        (Some(&"cgroup"), Some(options)) => !v2 && options.split(',').any(|o| o == "memory"),
        _ => false,
    };
    matches.then_some((mounted, at))
}

/// Bytes below the limit of a group; `None` without a limit. Cached files that
/// have not been used lately do not count as used: they make room.
fn left(folder: &Path) -> Option<u64> {
    let text = |name: &str| fs::read_to_string(folder.join(name)).ok();
    let number = |name: &str| text(name)?.trim().parse::<u64>().ok();
    let (limit, used, reclaimable) = match number("memory.max") {
        Some(limit) => (limit, number("memory.current")?, "inactive_file "),
        None => (
            number("memory.limit_in_bytes")?,
            number("memory.usage_in_bytes")?,
            "total_inactive_file ",
        ),
    };
    let stat = text("memory.stat").unwrap_or_default();
    let cached = stat.lines().find_map(|line| line.strip_prefix(reclaimable));
    let cached = cached.and_then(|n| n.trim().parse().ok()).unwrap_or(0);
    Some(limit.saturating_sub(used.saturating_sub(cached)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    /// A system with 8 GiB available and the given files.
    fn available_with(files: &[(&str, String)]) -> Option<u64> {
        let root = tempfile::tempdir().unwrap();
        let memory = (
            "proc/meminfo",
            "MemFree: 1 kB\nMemAvailable: 8388608 kB\n".to_owned(),
        );
        for (name, text) in files.iter().chain([&memory]) {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        available_under(root.path())
    }

    #[test]
    fn without_groups_it_is_the_systems() {
        assert_eq!(available_with(&[]), Some(8 * GIB));
        assert_eq!(available_under(Path::new("/nowhere")), None);
        assert!(cfg!(not(target_os = "linux")) || available().is_some());
    }

    #[test]
    fn the_lowest_limit_of_all_levels_holds_in_version_2() {
        let mounts = "29 22 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
        let group = |level: &str, max: &str, current: u64| {
            let at = |name: &str| format!("sys/fs/cgroup{level}/memory.{name}");
            [
                (at("max"), max.to_owned()),
                (at("current"), current.to_string()),
            ]
        };
        let with = |levels: &[[(String, String); 2]]| {
            let mut files = vec![
                ("proc/self/cgroup", "0::/user/job\n".to_owned()),
                ("proc/self/mountinfo", mounts.to_owned()),
            ];
            files.extend(
                levels
                    .iter()
                    .flatten()
                    .map(|(n, t)| (n.as_str(), t.clone())),
            );
            available_with(&files)
        };
        let unlimited = group("/user", "max\n", 5);
        let none = group("/user/job", "max\n", 5);
        assert_eq!(with(&[none, unlimited.clone()]), Some(8 * GIB));
        let own = group("/user/job", "4294967296\n", GIB);
        assert_eq!(with(&[own.clone(), unlimited]), Some(3 * GIB));
        let above = group("/user", "3221225472\n", GIB);
        assert_eq!(with(&[own, above]), Some(2 * GIB));
        let exceeded = group("/user/job", "1073741824\n", 2 * GIB);
        assert_eq!(with(&[exceeded]), Some(0));
    }

    #[test]
    fn cached_files_make_room_in_version_1() {
        let at = |name: &str| format!("sys/fs/cgroup/memory/memory.{name}");
        let files = [
            // A container: the hierarchy is mounted from its own group on.
            (
                "proc/self/cgroup",
                "4:cpu:/\n3:memory,hugetlb:/docker/c1\n".to_owned(),
            ),
            (
                "proc/self/mountinfo",
                "31 23 0:27 /docker/c1 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n\
                 32 23 0:28 / /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n"
                    .to_owned(),
            ),
            (&at("limit_in_bytes"), (2 * GIB).to_string()),
            (&at("usage_in_bytes"), (2 * GIB).to_string()),
            (
                &at("stat"),
                format!("inactive_file 1\ntotal_inactive_file {GIB}\n"),
            ),
        ];
        assert_eq!(available_with(&files), Some(GIB));
    }
}
