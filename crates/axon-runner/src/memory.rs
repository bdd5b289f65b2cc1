//! Whether the kernel killed for lack of memory in the control group that we and our runners are in.

use std::fs::read_to_string;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

/// Watches, from one moment on, for kills for lack of memory in our own control group.
#[derive(Debug)]
pub(crate) struct OomWatch {
    group: Arc<Group>,
    before: u64,
}

/// What is known of the control group; there is one of this process, so all watches share it.
#[derive(Debug, Default)]
struct Group {
    /// The file with the count, where there is one: not at the root of version 2.
    file: Option<PathBuf>,
    /// The kills up to here explain a death that was told.
    explained: AtomicU64,
}

impl OomWatch {
    /// Begins to watch.
    pub(crate) fn begin() -> Self {
        static OURS: LazyLock<Arc<Group>> = LazyLock::new(|| Group::find(Path::new("/")));
        Self::begin_in(OURS.clone())
    }

    fn begin_in(group: Arc<Group>) -> Self {
        let before = group.kills();
        Self { group, before }
    }

    /// Returns whether there was a kill since the beginning that no other watch has told. Each
    /// explains one death, so ask only about one by SIGKILL that nobody here ordered.
    pub(crate) fn struck(&self) -> bool {
        let kills = self.group.kills();
        let one_more = |explained: u64| {
            let explained = explained.max(self.before);
            (explained < kills).then_some(explained + 1)
        };
        self.group.explained.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }
}

impl Group {
    fn find(root: &Path) -> Arc<Self> {
        Arc::new(Self { file: counter(root), explained: AtomicU64::new(0) })
    }

    fn kills(&self) -> u64 {
        self.file.as_deref().and_then(kills).unwrap_or_default()
    }
}

fn kills(file: &Path) -> Option<u64> {
    let text = read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// Finds the file with the count: of version 2, or else of version 1.
fn counter(root: &Path) -> Option<PathBuf> {
    let groups = read_to_string(root.join("proc/self/cgroup")).ok()?;
    let mounts = read_to_string(root.join("proc/self/mountinfo")).ok()?;
    let found = |version| {
        let file = group(&groups, version)
            .and_then(|group| mounts.lines().find_map(|mount| inside(mount, group, version)))?;
        let file = root.join(file.strip_prefix("/").ok()?);
        kills(&file).is_some().then_some(file)
    };
    found(Version::Two).or_else(|| found(Version::One))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// Returns our control group, as in `0::/user.slice` or `4:memory:/app`.
fn group(groups: &str, version: Version) -> Option<&Path> {
    groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let fits = match version {
            Version::One => controllers.split(',').any(|controller| controller == "memory"),
            Version::Two => controllers.is_empty(),
        };
        fits.then_some(Path::new(path))
    })
}

/// Returns where the count of `group` is, if it is in the file system that a line of `mountinfo`
/// tells of: `id parent device root mount-point options … - type source options`.
fn inside(mount: &str, group: &Path, version: Version) -> Option<PathBuf> {
    let (place, kind) = mount.split_once(" - ")?;
    let mut place = place.split(' ').skip(3);
    let (root, point) = (place.next()?, place.next()?);
    let mut kind = kind.split(' ');
    let (kind, options) = (kind.next()?, kind.nth(1)?);
    let file = match version {
        Version::Two if kind == "cgroup2" => "memory.events",
        Version::One if kind == "cgroup" && options.split(',').any(|name| name == "memory") => {
            "memory.oom_control"
        }
        Version::One | Version::Two => return None,
    };
    Some(Path::new(point).join(group.strip_prefix(root).ok()?).join(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str =
        "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
    const ONE: &str = "35 30 0:30 /box /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";

    fn write(root: &Path, file: &str, text: &str) {
        let file = root.join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }

    fn machine(groups: &str, mounts: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "proc/self/cgroup", groups);
        write(root.path(), "proc/self/mountinfo", mounts);
        root
    }

    #[test]
    fn each_kill_in_a_group_of_version_2_explains_one_death() {
        let machine = machine("0::/user.slice/app\n", TWO);
        let file = "sys/fs/cgroup/user.slice/app/memory.events";
        write(machine.path(), file, "low 0\noom 3\noom_kill 3\noom_group_kill 0\n");
        let group = Group::find(machine.path());
        let watches = [(); 3].map(|()| OomWatch::begin_in(group.clone()));
        assert!(!watches[0].struck(), "what was before the watch is none of its business");
        write(machine.path(), file, "low 0\noom 4\noom_kill 5\noom_group_kill 0\n");
        assert_eq!(watches.each_ref().map(OomWatch::struck), [true, true, false]);
        write(machine.path(), file, "low 0\noom 4\noom_kill 6\noom_group_kill 0\n");
        assert!(!OomWatch::begin_in(group).struck(), "it is none of this one's business either");
    }

    #[test]
    fn version_1_is_asked_where_version_2_does_not_count() {
        let groups = "9:name=systemd:/\n4:memory,cpu:/box/app\n0::/\n";
        let machine = machine(groups, &format!("{TWO}{ONE}"));
        let file = "sys/fs/cgroup/memory/app/memory.oom_control";
        write(machine.path(), file, "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n");
        let watch = OomWatch::begin_in(Group::find(machine.path()));
        assert!(!watch.struck());
        write(machine.path(), file, "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n");
        assert!(watch.struck());
    }

    #[test]
    fn where_nobody_counts_nothing_is_claimed() {
        let bare = tempfile::tempdir().unwrap();
        assert!(!OomWatch::begin_in(Group::find(bare.path())).struck());
        let outside = machine("0::/other\n", "30 23 0:26 /box /sys/fs/cgroup rw - cgroup2 c rw\n");
        assert!(!OomWatch::begin_in(Group::find(outside.path())).struck());
    }
}
